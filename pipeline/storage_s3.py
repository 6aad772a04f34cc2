"""How an S3 bucket keeps the promises of a store: bounded retries and lost replies recognised."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as boto
from botocore.config import Config

from pipeline.errors import StorageError
from pipeline.storage import (
    Entry,
    Names,
    NotFound,
    Progress,
    Storage,
    checked,
    folder_prefix,
    local_errors,
)
from pipeline.storage_s3_errors import (
    BODY_FAULTS,
    CONFLICT,
    FAULTS,
    MISSING,
    PRECONDITION_FAILED,
    explained,
    status,
    unsure,
)

ATTEMPTS = 12
"""Of one request, the first included. With botocore's pauses (random, the first of at most 0.05 s,
each twice as long, at most 20 s) that is about half a minute: enough for a restart of the server.
AWS_MAX_ATTEMPTS wins.
"""

ROUNDS = 5
"""Of what botocore does not repeat by itself: a reply cut short, a conflict with another write."""

CONNECT_SECONDS = 5
READ_SECONDS = 30
PART = 16 << 20
TRANSFER = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=4)
PAGE = 1000
"""Objects that one request lists or deletes: as many as S3 allows."""


class Clients:
    """The boto3 client of one endpoint, made when first asked for and once in each process.

    It pickles as the endpoint alone: credentials stay in the process that has them.
    """

    def __init__(self, endpoint: str | None) -> None:
        self.endpoint = endpoint
        self._lock = Lock()
        self._client: Any = None
        self._process = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Clients, (self.endpoint,)

    def get(self) -> Any:
        with self._lock:
            if self._process != os.getpid():  # a forked process must not share the sockets
                self._client, self._process = self._make(), os.getpid()
            return self._client

    def _make(self) -> Any:
        session = botocore.session.Session()
        attempts = session.get_config_variable("max_attempts") or ATTEMPTS
        config = Config(
            region_name=region(session),
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            max_pool_connections=32,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,  # pyarrow would not read the profile's
            s3={"addressing_style": "path"} if self.endpoint else {},
        )
        maker = boto3.session.Session(botocore_session=session)
        return maker.client("s3", endpoint_url=self.endpoint, config=config)


def pause(attempt: int) -> None:
    """Waits before attempt ``attempt`` + 1: longer each time, and not in step with others."""
    time.sleep(random.uniform(0, min(0.1 * 2**attempt, 5)))


def region(session: Any) -> str:
    """AWS_REGION, AWS_DEFAULT_REGION, the profile's, or the one that most other servers accept."""
    return os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"


@dataclass(frozen=True, kw_only=True)
class S3Storage(Storage):
    """Objects below ``s3://bucket/prefix``."""

    clients: Clients = field(repr=False, compare=False)

    @property
    def bucket(self) -> str:
        return self.url.split("/")[2]

    @property
    def prefix(self) -> str:
        """The part of every full key that the URL stands for, with its final slash."""
        return "".join(f"{part}/" for part in self.url.split("/")[3:])

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + checked(key)}

    @contextmanager
    def _errors(self, address: str) -> Iterator[Any]:
        """Gives the client, and turns what it raises into one line that holds no credentials."""
        try:
            yield self.clients.get()
        except FAULTS as fault:
            where = self.clients.endpoint or "AWS"
            raise explained(fault, address, self.bucket, where) from None

    def read(self, key: str) -> bytes:
        place = self._place(key)
        with self._errors(self.address(key)) as client:
            attempt = 1
            while True:
                body = client.get_object(**place)["Body"]
                try:
                    return body.read()
                except BODY_FAULTS:
                    if attempt == ROUNDS:
                        raise
                pause(attempt)
                attempt += 1

    def write(self, key: str, data: bytes) -> None:
        place = self._place(key)
        with self._errors(self.address(key)) as client:
            client.put_object(**place, Body=data)

    def create(self, key: str, data: bytes) -> bool:
        place = self._place(key)
        with self._errors(self.address(key)) as client:
            may_be_ours = False
            for attempt in range(1, ROUNDS + 1):
                try:
                    client.put_object(**place, Body=data, IfNoneMatch="*")
                    return True
                except FAULTS as fault:
                    may_be_ours = may_be_ours or unsure(fault)
                    last = fault
                if status(last) != CONFLICT:
                    break
                pause(attempt)  # another write of this key is under way: ask again who won
            return self._settled(key, data, last, may_be_ours)

    def _settled(self, key: str, data: bytes, fault: Exception, may_be_ours: bool) -> bool:
        """Who made the object, after our write of it ended in ``fault``."""
        taken = status(fault) == PRECONDITION_FAILED
        if not may_be_ours:
            if taken:
                return False
            raise fault
        try:
            return self.read(key) == data
        except NotFound:
            if taken:
                return False  # and its owner has deleted it since
            raise fault from None

    def upload(self, key: str, path: Path, progress: Progress | None = None) -> None:
        place = self._place(key)
        address = f"{path} → {self.address(key)}"
        # Replacing a large object leaves its parts behind on some servers: better use fresh keys.
        with local_errors(address), self._errors(address) as client:
            client.upload_file(str(path), *place.values(), Callback=progress, Config=TRANSFER)

    def download(self, key: str, path: Path, progress: Progress | None = None) -> None:
        place = self._place(key)
        address = f"{self.address(key)} → {path}"
        with local_errors(address), self._errors(address) as client:
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(*place.values(), str(path), Callback=progress, Config=TRANSFER)

    def folders(self, prefix: str = "") -> Names:
        start = self.prefix + folder_prefix(prefix)
        pages = self._pages(prefix, Delimiter="/")
        names = (found["Prefix"] for page in pages for found in page.get("CommonPrefixes", ()))
        return [name.removeprefix(start).removesuffix("/") for name in names]

    def list(self, prefix: str = "") -> Iterator[Entry]:
        for page in self._pages(prefix):
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):  # pyarrow marks folders with empty objects
                    yield Entry(
                        key=found["Key"].removeprefix(self.prefix),
                        bytes=found["Size"],
                        modified=found["LastModified"].timestamp(),
                    )

    def _pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        start = self.prefix + folder_prefix(prefix)
        with self._errors(self.address(prefix)) as client:
            pages = client.get_paginator("list_objects_v2")
            paging = {"PageSize": PAGE}
            yield from pages.paginate(
                Bucket=self.bucket, Prefix=start, PaginationConfig=paging, **more
            )

    def exists(self, key: str) -> bool:
        place = self._place(key)
        with self._errors(self.address(key)) as client:
            try:
                client.head_object(**place)
            except boto.ClientError as fault:
                if status(fault) != MISSING:
                    raise
                return False
            return True

    def delete(self, *keys: str) -> None:
        places = [{"Key": self._place(key)["Key"]} for key in keys]
        for start in range(0, len(places), PAGE):
            batch = {"Objects": places[start : start + PAGE], "Quiet": True}
            with self._errors(self.address(keys[start])) as client:
                reply = client.delete_objects(Bucket=self.bucket, Delete=batch)
            for fault in reply.get("Errors", ()):
                raise StorageError(
                    f"s3://{self.bucket}/{fault['Key']}: not deleted ({fault['Code']}); check the "
                    "rights on the bucket"
                )

    def arrow(self) -> tuple[Any, str]:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

        with self._errors(self.url):
            where = region(botocore.session.Session())
        endpoint = urlsplit(self.clients.endpoint or "")
        filesystem = S3FileSystem(
            region=where,
            scheme=endpoint.scheme or "https",
            endpoint_override=endpoint.netloc or None,
            connect_timeout=CONNECT_SECONDS,
            request_timeout=READ_SECONDS,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )
        return filesystem, f"{self.bucket}/{self.prefix}".rstrip("/")
