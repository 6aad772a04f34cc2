"""How the world hears of an outcome: its record by HTTP POST, signed; a failure is a warning.

The header ``X-Draw-Signature`` is ``sha256=`` and the HMAC-SHA256 of the body, in hexadecimal, with
the secret as key. The body says when and of what it is, so a receiver can tell an old one.
"""

import hmac
import logging
import os
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pipeline.retrain_values import Webhook
from pipeline.values import to_json

log = logging.getLogger(__name__)
SECONDS = 10.0
PAUSES = (1.0, 3.0, 0.0)
"""Seconds after each failed attempt."""


class _NoRedirect(HTTPRedirectHandler):
    """A signed record goes to the address that was written, and to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def send(
    hook: Webhook,
    event: str,
    record: Mapping[str, Any],
    env: Mapping[str, str] = os.environ,
    pauses: tuple[float, ...] = PAUSES,
) -> bool:
    """Whether the receiver took it. Never raises; what went wrong is a warning without secrets."""
    secret = env.get(hook.secret, "")
    if not secret:
        log.warning("webhook: %s is not set, so nothing was sent; export it", hook.secret)
        return False
    body = to_json({"event": event, **record})
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "draw-pipeline",
        "X-Draw-Event": event,
        "X-Draw-Signature": f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}",
    }
    fault = ""
    for pause in pauses:
        try:
            request = Request(hook.url, data=body, headers=headers, method="POST")
            with build_opener(_NoRedirect).open(request, timeout=SECONDS):
                return True
        except (URLError, OSError, HTTPException, ValueError) as problem:
            # The path of a webhook's address is often a secret itself; the host is not.
            fault = f"{type(problem).__name__} {getattr(problem, 'code', '')}".strip()
            time.sleep(pause)
    log.warning(
        "webhook: %s did not take the %s (%s); the record is in storage all the same",
        urlsplit(hook.url).hostname, event, fault,
    )  # fmt: skip
    return False
