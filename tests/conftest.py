"""What several test modules share: a real S3 server for the session, and stores to write to."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infra import store
from pipeline.storage import Storage, open_storage
from tests import cluster


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: gzip writes the time into its own, and the processes that
    share a suite must find the same tests."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start clusters come first: ``make test`` gives whole files to its processes, and
    these take longest."""
    first = {item.path for item in items if item.get_closest_marker("cluster")}
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Training flushes them to zero for its whole process; the next test is told nothing of it."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[store.Running]:
    """A real S3 server, and the environment that leads this process and its children to it."""
    with (
        store.start(tmp_path_factory.mktemp("store")) as running,
        pytest.MonkeyPatch.context() as environment,
    ):
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_REGION"):
            environment.delenv(name, raising=False)
        environment.setenv("AWS_ENDPOINT_URL", running.endpoint)
        environment.setenv("AWS_ACCESS_KEY_ID", running.access_key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", running.secret_key)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield running


@pytest.fixture
def s3_storage(s3_server: store.Running) -> Storage:
    """A fresh prefix on the real S3 server."""
    return open_storage(f"s3://{s3_server.bucket}/test-{uuid.uuid4().hex}")


@pytest.fixture(params=["file", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty store, once of each kind."""
    if request.param == "s3":
        return request.getfixturevalue("s3_storage")
    return open_storage(f"file://{tmp_path}/root")


@pytest.fixture(scope="session")
def head(
    tmp_path_factory: pytest.TempPathFactory, s3_server: store.Running
) -> Iterator[cluster.Head]:
    """A Ray cluster with token authentication and two cores that stays for the session.

    Its own store is a folder; its processes know the way to the S3 server too.
    """
    with cluster.started(f"file://{tmp_path_factory.mktemp('store')}") as running:
        yield running
