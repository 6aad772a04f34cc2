"""What must be well before money is spent: a machine, its store and its cluster, tried out."""

import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pipeline.cluster import OBJECT_STORE_BYTES, running_here
from pipeline.errors import ClusterError, DataError, PipelineError, StorageError
from pipeline.fetch import cache_folder
from pipeline.probe import ask_cluster, ask_dashboard, sum_between_workers
from pipeline.sources import SOURCES
from pipeline.storage import PREFLIGHT, Storage
from pipeline.values import to_plain

GB = 1_000_000_000
FREE_WARN, FREE_FAIL = 10 * GB, GB
SKEW_WARN_S, SKEW_FAIL_S = 5.0, 300.0
"""S3 refuses requests that are signed 900 s off; leases are compared with the store's times."""

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer of one check; ``advice`` says what to do where there is something to do."""

    check: str
    state: State
    found: str
    advice: str = ""


def examine(storage: Storage, names: Iterable[str] | None = None) -> list[Finding]:
    """The findings of these checks, by default all of CHECKS; one that breaks is a finding, too."""
    findings = []
    for name in CHECKS if names is None else names:
        try:
            state, found, advice = CHECKS[name][0](storage)
        except (PipelineError, OSError) as fault:
            state, (found, _, advice) = "fail", str(fault).partition("; ")
        findings.append(Finding(check=name, state=state, found=found, advice=advice))
    return findings


def verdict(findings: list[Finding]) -> PipelineError | None:
    """None if nothing failed, else an error of the kind of the first failure."""
    failed = [finding.check for finding in findings if finding.state == "fail"]
    if not failed:
        return None
    return CHECKS[failed[0]][1](
        f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}; do what their lines "
        "say and run doctor again"
    )


def told(storage: Storage, say: Callable[[str], None]) -> dict[str, Any]:
    """Says every finding, and raises the verdict, which has them all in its details."""
    findings = examine(storage)
    signs = {"ok": "ok  ", "warn": "WARN", "fail": "FAIL"}
    for one in findings:
        line = f"{signs[one.state]}  {one.check}: {one.found}"
        say(f"{line}\n      → {one.advice}" if one.advice else line)
    value = {"findings": [to_plain(one) for one in findings]}
    if fault := verdict(findings):
        fault.details = value
        raise fault
    return value


Answer = tuple[State, str, str]


def versions(_storage: Storage) -> Answer:
    """Every package that this one needs, against the range that it was made for."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(line) for line in metadata.requires("draw-pipeline") or []]
    except metadata.PackageNotFoundError:
        return "warn", "draw-pipeline is not installed here", "pip install -e . in its folder"
    wrong = []
    for one in needed:
        if one.marker and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            there = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            there = "nothing"
        if there == "nothing" or not one.specifier.contains(there, prereleases=True):
            wrong.append(f"{one.name} {there} (needs {one.specifier or 'any'})")
    if wrong:
        advice = "pip install -c constraints.txt -e '.[search]' in the project's folder"
        return "fail", ", ".join(wrong), advice
    shown = [f"{name} {metadata.version(name)}" for name in ("draw-pipeline", "torch", "ray")]
    return "ok", ", ".join([f"Python {sys.version.split()[0]}", *shown]), ""


def bucket(storage: Storage) -> Answer:
    """Put, read, list, put if absent, and delete, on a probe object."""
    started = time.monotonic()
    storage.preflight().require_create_once()
    key = f"{PREFLIGHT}/{uuid.uuid4().hex}-delete"
    storage.write(key, b"")
    storage.delete(key)
    if storage.exists(key):
        raise StorageError(f"{storage.url}: a deleted object is still there; allow deleting")
    took = time.monotonic() - started
    return "ok", f"{storage.url}: put, list, put if absent, delete in {took:.2f} s", ""


def clock(storage: Storage, now: Callable[[], float] = time.time) -> Answer:
    """This machine's time against the time that the store gives a fresh object (whole seconds)."""
    probe, name = storage.below(PREFLIGHT), f"{uuid.uuid4().hex}-clock"
    try:
        before = now()
        probe.write(name, b"")
        after = now()
        (modified,) = [entry.modified for entry in probe.list() if entry.key == name]
    finally:
        probe.delete(name)
    skew = max(before - modified - 1, modified - after, 0.0)
    found = f"{skew:.0f} s apart from the store's clock"
    if skew <= SKEW_WARN_S:
        return "ok", found, ""
    return "fail" if skew > SKEW_FAIL_S else "warn", found, "let NTP set this machine's clock"


def cores(_storage: Storage) -> Answer:
    """Processor cores that this process may use, and how busy they are."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    found = f"{count} cores, load {load:.1f}"
    if load > 1.5 * (count or 1):
        return "warn", found, "something else is at work here; wait, or stop it"
    return "ok", found, ""


def gpus(_storage: Storage) -> Answer:
    """A product on every GPU, so that driver and PyTorch are known to fit."""
    import torch

    seen = sorted(Path("/dev").glob("nvidia[0-9]*"))
    if not torch.cuda.is_available():
        if not seen:
            return "ok", "no GPU; training uses the cores", ""
        advice = "install a CUDA build of PyTorch that fits the driver (see nvidia-smi)"
        return "fail", f"{len(seen)} GPUs that PyTorch {torch.__version__} cannot use", advice
    names = []
    for number in range(torch.cuda.device_count()):
        try:
            one = torch.ones(64, 64, device=f"cuda:{number}")
            good = float((one @ one).sum()) == 64**3
        except RuntimeError as fault:
            good = False
            names.append(str(fault).splitlines()[0])
        if not good:
            return "fail", f"GPU {number}: {names[-1:]}", "install the PyTorch that fits the driver"
        names.append(torch.cuda.get_device_name(number))
    return "ok", f"{len(names)} GPUs: {', '.join(sorted(set(names)))}", ""


def disk(storage: Storage) -> Answer:
    """Free space where shards are decoded, where Ray works, and where a folder store is."""
    places = {"cache": cache_folder(""), "Ray": Path(os.environ.get("RAY_TMPDIR", "/tmp"))}
    if storage.url.startswith("file://"):
        places["storage"] = Path(storage.url.removeprefix("file://"))
    state: State = "ok"
    found = []
    for name, path in places.items():
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        found.append(f"{name} {free / GB:.1f} GB free ({there})")
        if not os.access(there, os.W_OK):
            return "fail", f"{name}: {there} cannot be written", "set DRAW_CACHE or RAY_TMPDIR"
        if free < FREE_WARN and state != "fail":
            state = "warn"
        if free < FREE_FAIL:
            state = "fail"
    return state, ", ".join(found), "" if state == "ok" else "free space, or use another disk"


def shared_memory(_storage: Storage) -> Answer:
    """/dev/shm, where Ray keeps its objects and workers of one node meet."""
    place = Path("/dev/shm")
    if not place.is_dir():
        return "ok", "no /dev/shm on this system; Ray uses its temporary folder", ""
    free = shutil.disk_usage(place).free
    found = f"{free / GB:.2f} GB free in {place}"
    if free < OBJECT_STORE_BYTES:
        return "warn", found, "start the container with --shm-size=1g, or empty /dev/shm"
    return "ok", found, ""


def ray(storage: Storage) -> Answer:
    """The cluster that a job would use, with the authentication that a job would have."""
    address = os.environ.get("RAY_ADDRESS") or running_here()
    if not address:
        return "ok", "no cluster here, and RAY_ADDRESS is not set; a job starts its own", ""
    nodes = 1
    if address.startswith("http"):
        found = ask_dashboard(address)
    else:
        found, nodes = ask_cluster(address)
    mode = os.environ.get("RAY_AUTH_MODE")
    if not mode:
        return "warn", f"{found}; RAY_AUTH_MODE is not set", "export RAY_AUTH_MODE=token"
    if mode != "token":
        return "warn", f"{found}; RAY_AUTH_MODE={mode}", "whoever reaches it runs code; use token"
    if storage.url.startswith("file://") and nodes > 1:
        return "warn", f"{found}; storage is a folder", "share it with all nodes, or use s3://"
    return "ok", found, ""


def collective(storage: Storage) -> Answer:
    """A sum between the cluster's nodes, or processes here: NCCL if there are GPUs, else gloo."""
    address = os.environ.get("RAY_ADDRESS") or running_here()
    return "ok", sum_between_workers(address, storage.url), ""


def data(_storage: Storage) -> Answer:
    """The data sets that a person has put into $DRAW_DATA."""
    given = os.environ.get("DRAW_DATA")
    if not given:
        return "ok", "DRAW_DATA is not set; what a job needs is fetched where that is possible", ""
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise DataError(f"DRAW_DATA={given}: no such folder; make it, or unset DRAW_DATA")
    folders = [folder / name for name in SOURCES]
    there = [place.name for place in folders if place.is_dir() and any(place.iterdir())]
    if not there:
        advice = f"put files into {folder}/<source>/, such as {folder}/svhn/"
        return "warn", f"{folder}: has no folder of a data set", advice
    return "ok", f"{folder}: {', '.join(there)}", ""


CHECKS: dict[str, tuple[Callable[[Storage], Answer], type[PipelineError]]] = {
    "versions": (versions, ClusterError),
    "bucket": (bucket, StorageError),
    "clock": (clock, StorageError),
    "cores": (cores, ClusterError),
    "gpus": (gpus, ClusterError),
    "disk": (disk, ClusterError),
    "shared memory": (shared_memory, ClusterError),
    "ray": (ray, ClusterError),
    "collective": (collective, ClusterError),
    "data": (data, DataError),
}
"""Name of a check → what it does, and the kind of error that its failure is."""
