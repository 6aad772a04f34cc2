"""What the exceptions of boto3 mean to a person; no key, signature or server text is repeated."""

import re
from typing import Any

from boto3.exceptions import Boto3Error
from botocore import exceptions as boto

from pipeline.errors import StorageError
from pipeline.storage import NotFound

FAULTS = (boto.BotoCoreError, boto.ClientError, Boto3Error)
BODY_FAULTS = (boto.IncompleteReadError, boto.ResponseStreamingError, boto.ReadTimeoutError)
"""A reply that began well and broke off, which botocore itself does not try again."""

MISSING, CONFLICT, PRECONDITION_FAILED = 404, 409, 412

SET_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
TRANSPORT: tuple[tuple[tuple[type, ...], str], ...] = (
    ((boto.NoCredentialsError, boto.PartialCredentialsError), f"no credentials; {SET_KEYS}"),
    ((boto.ProfileNotFound,), "AWS_PROFILE names a profile that is in no profile file"),
    ((boto.SSLError,), "no trusted TLS connection to {where}; check it, or set AWS_CA_BUNDLE"),
    (
        (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError),
        "cannot connect to {where}; is it running, and is AWS_ENDPOINT_URL right?",
    ),
    ((boto.ReadTimeoutError,), "{where} did not answer in time, in any attempt; try again later"),
    (
        (boto.HTTPClientError, boto.ConnectionError, *BODY_FAULTS),
        "the connection to {where} broke off in every attempt; try again later",
    ),
)


def status(fault: Exception) -> int:
    """The HTTP status that a fault came with; 0 if there was no reply."""
    return int(_metadata(fault).get("HTTPStatusCode", 0))


def unsure(fault: Exception) -> bool:
    """Whether a write that ended so may have taken effect all the same: a reply may be lost."""
    if isinstance(fault, boto.ClientError):
        return status(fault) >= 500 or _metadata(fault).get("RetryAttempts", 0) > 0
    return isinstance(fault, boto.HTTPClientError | boto.ConnectionError)


def explained(fault: BaseException, address: str, bucket: str, where: str) -> StorageError:
    """The one line for what happened to ``address`` in ``bucket`` on the server ``where``."""
    if isinstance(fault, Boto3Error):  # a transfer wraps the fault that ended it
        fault = getattr(fault, "last_exception", None) or fault.__context__ or fault
    if isinstance(fault, boto.ClientError):
        return _answered(fault, address, bucket, where)
    for kinds, reason in TRANSPORT:
        if isinstance(fault, kinds):
            return StorageError(f"{address}: {reason.format(where=where)}")
    return StorageError(f"{address}: {where}: {type(fault).__name__}; check the AWS_* settings")


def _answered(fault: Any, address: str, bucket: str, where: str) -> StorageError:
    code = re.sub(r"\W", "", str(fault.response.get("Error", {}).get("Code", "")))[:60]
    number = status(fault)
    reply = str(number) if code in ("", str(number)) else f"{number} {code}"
    if code == "NoSuchBucket":
        return StorageError(f"{address}: there is no bucket {bucket!r} at {where}; make it first")
    if number == MISSING:
        return NotFound(f"{address}: no such object")
    if code == "RequestTimeTooSkewed":
        return StorageError(f"{address}: this machine's clock is wrong ({code}); set the time")
    if number in (401, 403) or code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):
        return StorageError(
            f"{address}: refused by {where} ({reply}); check the rights on the bucket and "
            f"the credentials: {SET_KEYS}"
        )
    if number >= 500 or number == 429:
        return StorageError(
            f"{address}: {where} answered {reply} in every attempt; try again later"
        )
    return StorageError(f"{address}: {where} refused this request ({reply})")


def _metadata(fault: Any) -> dict[str, Any]:
    response = getattr(fault, "response", None)
    return response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
