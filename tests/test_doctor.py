"""Doctor: what it finds on a well machine, and what it says of each thing that can be wrong."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra import store
from pipeline import doctor, probe
from pipeline.__main__ import main
from pipeline.errors import ClusterError, DataError, StorageError
from pipeline.storage import Storage, open_storage
from tests import cluster
from tests.faults.proxy import Fault, Proxy

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A store, and an environment without a cluster or data of its own."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "DRAW_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setenv("DRAW_CACHE", str(tmp_path / "cache"))
    return open_storage(f"file://{tmp_path}/storage")


def checked(name: str, storage: Storage) -> doctor.Finding:
    (found,) = doctor.examine(storage, [name])
    assert found.check == name
    return found


def test_a_well_machine_passes_and_nothing_stays_in_the_store(folder, capsys):
    assert main(["doctor", "--storage", folder.url, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["findings"]
    assert [one["check"] for one in said] == list(doctor.CHECKS)
    states = {one["check"]: one["state"] for one in said}
    assert "fail" not in states.values()
    for name in ("versions", "bucket", "clock", "ray", "collective", "data"):
        assert states[name] == "ok", said
    assert all(one["advice"] for one in said if one["state"] != "ok")
    assert list(folder.list()) == []


def test_a_failure_ends_in_its_exit_code_with_all_findings_and_one_line(folder, capsys, tmp_path):
    (tmp_path / "storage").write_text("a file")
    assert main(["doctor", "--storage", folder.url, "--json"]) == StorageError.exit_code
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["exit_code"] == StorageError.exit_code
    states = {one["check"]: one["state"] for one in said["findings"]}
    assert [name for name, state in states.items() if state == "fail"] == ["bucket", "clock"]
    assert err.splitlines() == [said["error"]]
    assert "2 of 10 checks failed: bucket, clock" in err


def test_people_see_a_line_for_each_check_and_what_to_do_below_it(folder, capsys, monkeypatch):
    monkeypatch.setenv("DRAW_DATA", "/nowhere/at/all")
    assert main(["doctor", "--storage", folder.url]) == DataError.exit_code
    lines = capsys.readouterr().err.splitlines()
    place = lines.index("FAIL  data: DRAW_DATA=/nowhere/at/all: no such folder")
    assert lines[place + 1] == "      → make it, or unset DRAW_DATA"


def test_a_store_that_ignores_conditions_fails_and_one_that_keeps_them_passes(
    s3_server: store.Running, s3_storage: Storage
):
    assert checked("bucket", s3_storage).state == "ok"
    assert checked("clock", s3_storage).state == "ok"
    with Proxy(s3_server.endpoint, always=Fault(without_header="if-none-match")) as proxy:
        found = checked("bucket", open_storage(s3_storage.url, proxy.url))
    assert found.state == "fail"
    assert "If-None-Match is ignored" in found.found
    assert found.advice
    assert list(s3_storage.list()) == []


@pytest.mark.parametrize(
    ("shift", "state"), [(0, "ok"), (-60, "warn"), (60, "warn"), (-900, "fail"), (900, "fail")]
)
def test_a_clock_that_is_off_is_measured(folder, shift, state):
    found = doctor.clock(folder, now=lambda: time.time() + shift)
    assert found[0] == state
    if shift:
        assert abs(int(found[1].split()[0]) - abs(shift)) <= 1


def test_data_at_hand_are_named(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("DRAW_DATA", str(tmp_path))
    assert checked("data", folder).state == "warn"
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "train_32x32.mat").touch()
    found = checked("data", folder)
    assert (found.state, found.found) == ("ok", f"{tmp_path}: svhn")


def test_a_full_disk_and_small_shared_memory_are_told(folder, monkeypatch):
    free = int(checked("disk", folder).found.split()[1].split(".")[0]) * doctor.GB
    for name, state in (("FREE_WARN", "warn"), ("FREE_FAIL", "fail")):
        monkeypatch.setattr(doctor, name, 10 * free + doctor.GB)
        found = checked("disk", folder)
        assert (found.state, found.advice) == (state, "free space, or use another disk")
    monkeypatch.setattr(doctor, "OBJECT_STORE_BYTES", 1 << 60)
    assert checked("shared memory", folder).state == "warn"


def test_a_package_of_another_version_is_named(folder, tmp_path):
    wrong = tmp_path / "safetensors-0.0.1.dist-info"
    wrong.mkdir()
    (wrong / "METADATA").write_text("Metadata-Version: 2.1\nName: safetensors\nVersion: 0.0.1\n")
    program = (
        "from pipeline import doctor; from pipeline.storage import open_storage\n"
        f"print(doctor.examine(open_storage({folder.url!r}), ['versions'])[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )  # fmt: skip
    assert "safetensors 0.0.1 (needs >=0.5)" in done.stdout
    assert "state='fail'" in done.stdout


def test_processes_that_do_not_meet_are_a_finding_and_are_ended(monkeypatch):
    monkeypatch.setattr(probe, "CHILD_TIMEOUT_S", 20)
    with pytest.raises(ClusterError, match=r"gloo2 between 2 processes: .*; see that this host"):
        probe.sum_between_processes("gloo2", 2)
    monkeypatch.setattr(probe, "CHILD_TIMEOUT_S", 0.1)
    with pytest.raises(ClusterError, match=r"no answer in 0\.1 s; see that"):
        probe.sum_between_processes("gloo", 2)


def test_an_address_where_nobody_is_fails_within_seconds(folder, monkeypatch):
    for address in (f"127.0.0.1:{cluster.free_port()}", f"http://127.0.0.1:{cluster.free_port()}"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        found = checked("ray", folder)
        assert found.state == "fail"
        assert address in found.found
        assert "RAY_ADDRESS" in found.advice


@pytest.mark.cluster
def test_a_cluster_is_asked_as_a_job_would_and_its_token_matters(head, s3_storage, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for address in (head.address, head.dashboard):
        monkeypatch.setenv("RAY_ADDRESS", address)
        monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.TOKEN)
        found = checked("ray", s3_storage)
        assert found.state == "ok", found
        assert ("2 CPU" if address == head.address else "token accepted") in found.found
        monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
        found = checked("ray", s3_storage)
        assert found.state == "fail"
        assert "token" in found.advice
        assert "ffff" not in found.found + found.advice
    monkeypatch.setenv("RAY_AUTH_TOKEN", cluster.TOKEN)
    monkeypatch.delenv("RAY_AUTH_MODE")
    found = checked("ray", s3_storage)
    assert (found.state, found.advice) == ("warn", "export RAY_AUTH_MODE=token")
    monkeypatch.setenv("RAY_ADDRESS", head.address)
    found = checked("ray", s3_storage)
    assert found.state == "fail"
    assert "RAY_AUTH_MODE" in found.advice
