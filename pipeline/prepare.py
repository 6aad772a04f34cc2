"""How a source becomes a data set in storage: all shards first, the manifest last."""

import os
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context, parent_process
from pathlib import Path

from pipeline.datasets import (
    find_dataset,
    load_manifest,
    manifest_key,
    sample_sheet,
    shard_file,
    verify,
)
from pipeline.errors import DataError
from pipeline.manifest import SPLITS, Manifest, Shard, dataset_path
from pipeline.shards import sha256_of, write_shard
from pipeline.sources import SHARD_EXAMPLES, dataset_id
from pipeline.sources.contract import READING, Source
from pipeline.storage import Storage
from pipeline.values import to_json, to_plain

__all__ = ["find_dataset", "load_manifest", "prepare", "sample_sheet", "verify"]

Progress = Callable[[int, int], None]
"""Called with the examples that are done and all there are."""

Made = tuple[Shard, Counter[int]]

FEW = 20_000
"""With fewer examples than this, starting processes takes longer than the work."""


def prepare(
    source: Source,
    storage: Storage,
    *,
    shard_examples: int = SHARD_EXAMPLES,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Makes the source's data set, unless it is there already; either way its manifest.

    The same settings give the same bytes, whoever makes them: a prepare that was killed is simply
    done again, and two at once end in one data set. ``processes`` is by default one a core.
    Raises DataError for bad source files, StorageError when storage cannot take the shards.
    """
    name, id = source.source, dataset_id(source, shard_examples)
    if storage.exists(manifest_key(name, id)):
        return load_manifest(storage, name, id)
    pieces = _pieces(source.splits(), shard_examples)
    total, done, made = sum(p.examples for p in pieces), 0, {}
    with tempfile.TemporaryDirectory(prefix="draw-prepare-") as folder:
        for shard, counts in _make_all(source, pieces, Path(folder), processes, total):
            path = Path(folder, shard.file)
            storage.upload(f"{dataset_path(name, id)}/{shard.file}", path)
            path.unlink()
            made[shard.file] = shard, counts
            done += shard.examples
            if progress:
                progress(done, total)
    manifest = _manifest(source, id, [made[p.file] for p in pieces])
    if storage.create(manifest_key(name, id), to_json(manifest)):
        return manifest
    return _made_by_another(load_manifest(storage, name, id), manifest, storage)


def _pieces(splits: dict[str, int], shard_examples: int) -> list[Shard]:
    """The shards to make; their bytes and sha256 are not known yet."""
    return [
        Shard(
            file=shard_file(split, number),
            split=split,
            first=first,
            examples=min(shard_examples, splits[split] - first),
            bytes=0,
            sha256="",
        )
        for split in SPLITS
        for number, first in enumerate(range(0, splits[split], shard_examples))
    ]


def _make_all(
    source: Source, pieces: list[Shard], folder: Path, processes: int | None, total: int
) -> Iterator[Made]:
    """Shards as they get ready, in any order, as files in ``folder``."""
    if processes is None:
        processes = 1 if total < FEW else len(os.sched_getaffinity(0))
    if processes == 1 or len(pieces) == 1:
        yield from (_make(source, piece, folder) for piece in pieces)
        return
    pool = ProcessPoolExecutor(
        min(processes, len(pieces)), mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    try:
        futures = [pool.submit(_make, source, piece, folder) for piece in pieces]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise DataError(
            f"{source.source}: a process that made shards was killed (out of memory?); give "
            "prepare fewer processes"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """In a process of the pool: Ctrl-C is the parent's to handle, and its death is our end.

    Without the watch a process would wait for work for ever once its parent was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        if parent := parent_process():
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _make(source: Source, piece: Shard, folder: Path) -> Made:
    path = folder / piece.file
    examples = source.examples(piece.split, piece.first, piece.first + piece.examples)
    try:
        counts = write_shard(path, examples, piece.first)
    except OSError as fault:
        raise DataError(
            f"{path}: {fault.strerror}; free space, or set TMPDIR to a folder that has some"
        ) from None
    assert counts.total() == piece.examples
    shard = Shard(
        file=piece.file,
        split=piece.split,
        first=piece.first,
        examples=piece.examples,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )
    return shard, counts


def _manifest(source: Source, id: str, made: list[Made]) -> Manifest:
    about, settings = source.about(), to_plain(source)
    for name in READING:  # the reader's choice: jobs that differ in it share a data set
        settings.pop(name, None)
    counts = {split: Counter[int]() for split in SPLITS}
    for shard, found in made:
        counts[shard.split] += found
    return Manifest(
        version=Manifest.VERSION,
        name=source.source,
        id=id,
        source=settings,
        shape=about.shape,
        classes=about.classes,
        splits={split: counts[split].total() for split in SPLITS},
        class_counts={s: _by_name(counts[s], about.classes) for s in SPLITS},
        shards=tuple(shard for shard, _ in made),
        origin=about.origin,
        licence=about.licence,
        code_version=_code_version(),
    )


def _by_name(counts: Counter[int], classes: tuple[str, ...]) -> dict[str, int]:
    return {name: counts[label] for label, name in enumerate(classes)}


def _code_version() -> str:
    try:
        return version("draw-pipeline")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0+unknown"


def _made_by_another(theirs: Manifest, ours: Manifest, storage: Storage) -> Manifest:
    """Their manifest, if another prepare was faster and came to the same data."""
    if theirs.content != ours.content:
        raise DataError(
            f"{storage.address(ours.path)}: another prepare came to other bytes at the same time; "
            "use one version of draw-pipeline, delete this folder and prepare again"
        )
    return theirs
