"""What a Swift of one process each lacks beside a whole cluster; loaded by the servers themselves.

Both filters hold their state in memory, so they are right only while every server is one process
(``workers = 0``).
"""

from collections.abc import Callable
from time import time as now
from typing import Any
from weakref import WeakValueDictionary

App = Callable[[dict[str, Any], Any], Any]


def create_once(_settings: dict[str, str], **_local: str) -> Callable[[App], App]:
    """Lets conditional PUTs of one object run one at a time (a filter of the object server).

    Swift looks at ``If-None-Match`` when a PUT begins and not again when it ends, so of several
    that overlap more than one would succeed.
    """
    from eventlet.semaphore import Semaphore

    def wrap(app: App) -> App:
        turns: WeakValueDictionary[str, Any] = WeakValueDictionary()

        def call(environment: dict[str, Any], start_response: Any) -> Any:
            if environment["REQUEST_METHOD"] != "PUT" or "HTTP_IF_NONE_MATCH" not in environment:
                return app(environment, start_response)
            with turns.setdefault(environment["PATH_INFO"], Semaphore()):
                return app(environment, start_response)

        return call

    return wrap


class Cache:
    """The part of a memcached client that the proxy server asks for."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        value, expires = self._values.get(key, (None, 0.0))
        return value if now() < expires else None

    def set(self, key: str, value: Any, time: float = 0, **_options: Any) -> None:
        self._values[key] = (value, now() + time if time else float("inf"))

    def delete(self, key: str, **_options: Any) -> None:
        self._values.pop(key, None)


def cache(_settings: dict[str, str], **_local: str) -> Callable[[App], App]:
    """Remembers accounts, buckets and tokens in the proxy server in place of a memcached.

    Without any, each request first asks the account and the container server: twice the latency.
    """
    values = Cache()

    def wrap(app: App) -> App:
        def call(environment: dict[str, Any], start_response: Any) -> Any:
            environment["swift.cache"] = values
            return app(environment, start_response)

        return call

    return wrap
