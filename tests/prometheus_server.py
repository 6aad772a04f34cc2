"""A real Prometheus on the configuration of infra/, for tests that ask it."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import free_port

PROMETHEUS = Path(__file__).parents[1] / "infra" / "prometheus"
Ask = Callable[[str], list[Any]]


@contextmanager
def prometheus(
    folder: Path, discovery: Path | None = None, exporter: str | None = None
) -> Iterator[Ask]:
    """A server on our own configuration but for the pace, its own port and where targets are: the
    file that lists Ray's nodes, and host:port of the exporter."""
    port = free_port()
    for name in ("rules.yml", "prometheus.yml"):
        shutil.copy(PROMETHEUS / name, folder)
    config = yaml.safe_load((folder / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "1s"}
    own, ray, storage = config["scrape_configs"]
    own["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    nodes = str(discovery or folder / "nowhere.json")
    ray["file_sd_configs"][0] |= {"files": [nodes], "refresh_interval": "1s"}
    storage["static_configs"] = [{"targets": [exporter]}] if exporter else []
    storage |= {"scrape_interval": "500ms", "scrape_timeout": "400ms"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def ask(query: str) -> list[Any]:
        words = urllib.parse.urlencode({"query": query})
        url = f"http://127.0.0.1:{port}/api/v1/query?{words}"
        with urllib.request.urlopen(url, timeout=10) as reply:
            answer = json.load(reply)
        assert answer["status"] == "success"
        return answer["data"]["result"]

    command = [
        "prometheus", f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: ask("vector(1)"), 30)
            yield ask
        finally:
            process.kill()


def until(action: Callable[[], Any], seconds: float) -> Any:
    """What ``action`` returns once it is true and does not fail to connect."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := action():
                return found
        except OSError:
            pass
        assert time.monotonic() < deadline, f"nothing within {seconds} s"
        time.sleep(0.3)
