"""Data sets that are in storage: which there are, whether they are whole, and how they look."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.errors import DataError
from pipeline.manifest import SPLITS, Manifest, Shard, dataset_path
from pipeline.shards import MODES, REPAIR, read_shard, sha256_of
from pipeline.storage import NotFound, Storage
from pipeline.values import from_json

MANIFEST = "manifest.json"

SHEET_COLUMNS = 6
SHEET_TEXTS = 12
SHEET_SHARDS = 3
"""A class that is not in a split's first shards stays empty on the sheet."""


def manifest_key(name: str, id: str) -> str:
    return f"{dataset_path(name, id)}/{MANIFEST}"


def shard_file(split: str, number: int) -> str:
    return f"{split}-{number:06d}.tar"


def load_manifest(storage: Storage, name: str, id: str) -> Manifest:
    """The manifest of ``datasets/<name>/<id>``.

    Raises DataError when there is none, it is damaged or of a newer version, or it contradicts
    itself.
    """
    where = storage.address(manifest_key(name, id))
    try:
        data = storage.read(manifest_key(name, id))
    except NotFound:
        raise DataError(f"{where}: no such data set; `prepare` makes it") from None
    manifest = from_json(Manifest, data, where)
    for fault in _contradictions(manifest, name, id):
        raise DataError(f"{where}: {fault}; delete this folder and prepare again")
    return manifest


def _contradictions(manifest: Manifest, name: str, id: str) -> Iterator[str]:
    if (manifest.name, manifest.id) != (name, id):
        yield f"says it is {manifest.name}/{manifest.id}"
    picture = len(manifest.shape) == 3 and manifest.shape[0] in MODES
    if not (picture or len(manifest.shape) == 1) or min(manifest.shape) < 1:
        yield f"shape {manifest.shape}, expected 1 or 3 channels, height and width, or a length"
    if not manifest.classes:
        yield "no classes"
    if set(manifest.splits) != set(SPLITS):
        yield f"splits {sorted(manifest.splits)}, expected {sorted(SPLITS)}"
    known = sum(len(manifest.of(split)) for split in SPLITS)
    if known != len(manifest.shards):
        yield f"{len(manifest.shards) - known} shards of no known split"
    for split in SPLITS:
        first = 0
        for number, shard in enumerate(manifest.of(split)):
            if (shard.file, shard.first) != (shard_file(split, number), first):
                yield f"{shard.file} from example {shard.first} where {first} is next"
            if shard.examples < 1:
                yield f"{shard.file} of {shard.examples} examples"
            first += shard.examples
        if first != manifest.splits.get(split):
            yield f"{first} examples in the shards of {split}, {manifest.splits.get(split)} stated"
        if sum(manifest.class_counts.get(split, {}).values()) != first:
            yield f"class counts of {split} do not sum to {first}"


def find_dataset(storage: Storage, text: str) -> Manifest:
    """The data set that ``text`` means: ``mnist`` (the newest), ``mnist/<id>`` or a unique prefix.

    Raises DataError that lists what there is when there is none or more than one.
    """
    name, _, prefix = text.partition("/")
    known = _known(storage)
    found = [(a, b) for a, b in known if a == name and b.startswith(prefix)]
    if prefix and (name, prefix) in found:
        found = [(name, prefix)]
    if not found or (prefix and len(found) > 1):
        what = "means more than one data set" if found else "no such data set"
        listed = ", ".join("/".join(pair) for pair in (found or known)) or "none; run `prepare`"
        raise DataError(f"{text}: {what} in {storage.url}; there is: {listed}")
    return load_manifest(storage, *found[-1])


def _known(storage: Storage) -> list[tuple[str, str]]:
    """Name and id of every data set, oldest first."""
    found = [(e.modified, e.key.split("/")) for e in storage.list("datasets")]
    return [(p[1], p[2]) for _, p in sorted(found) if len(p) == 4 and p[3] == MANIFEST]


def verify(
    storage: Storage, manifest: Manifest, progress: Callable[[int, int], None] | None = None
) -> list[str]:
    """Reads the whole data set again; one line for each fault, none when all is well.

    ``progress`` gets the examples done and all there are.
    """
    where, faults = storage.address(manifest.path), []
    present = {e.key.rsplit("/", 1)[-1] for e in storage.list(manifest.path)}
    expected = {shard.file for shard in manifest.shards}
    for name in sorted(present - expected - {MANIFEST}):
        faults.append(f"{where}/{name}: not in the manifest; delete it")
    counts = {split: Counter[int]() for split in SPLITS}
    done, total = 0, sum(manifest.splits.values())
    for shard in manifest.shards:
        if shard.file not in present:
            faults.append(f"{where}/{shard.file}: missing; {REPAIR}")
        else:
            try:
                counts[shard.split].update(_read(storage, manifest, shard)[1].tolist())
            except DataError as fault:
                faults.append(f"{where}/{fault}")
        done += shard.examples
        if progress:
            progress(done, total)
    return faults or _miscounted(manifest, counts)


def _miscounted(manifest: Manifest, counts: dict[str, Counter[int]]) -> list[str]:
    return [
        f"{manifest.path}: {counts[split][label]} of class {name} in {split}, expected {stated}"
        for split in SPLITS
        for label, name in enumerate(manifest.classes)
        if counts[split][label] != (stated := manifest.class_counts[split].get(name, 0))
    ]


def _read(storage: Storage, manifest: Manifest, shard: Shard) -> tuple[np.ndarray, np.ndarray]:
    """Fetches and reads one shard; says so when it is another one of the same data set."""
    with tempfile.TemporaryDirectory(prefix="draw-shard-") as folder:
        path = Path(folder, shard.file)
        storage.download(f"{manifest.path}/{shard.file}", path)
        try:
            return read_shard(path, shard, manifest.shape, len(manifest.classes))
        except DataError:
            found = sha256_of(path)
            for other in manifest.shards:
                if other.sha256 == found != shard.sha256:
                    raise DataError(
                        f"{shard.file}: holds the bytes of {other.file}, sha256 {found}, expected "
                        f"{shard.sha256}; {REPAIR}"
                    ) from None
            raise


def sample_sheet(storage: Storage, manifest: Manifest) -> Image.Image:
    """A picture of the data set: a row for each class, a few examples of it from each split.

    Of a text: the first lines of each split.
    """
    if len(manifest.shape) == 1:
        return _text_sheet(storage, manifest)
    _, height, width = manifest.shape
    scale = max(1, 40 // max(height, width))
    cell = (width * scale + 4, height * scale + 4)
    left, top = 12 + 7 * max(len(name) for name in manifest.classes), 24
    across = SHEET_COLUMNS * cell[0] + 16
    size = (left + across * len(SPLITS), top + cell[1] * len(manifest.classes) + 4)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, name in enumerate(manifest.classes):
        draw.text((6, top + row * cell[1] + cell[1] // 2 - 6), name, fill="black")
    for block, split in enumerate(SPLITS):
        draw.text((left + block * across, 6), f"{split}: {manifest.splits[split]:,}", fill="black")
        for label, images in _few_of_each(storage, manifest, split).items():
            for column, image in enumerate(images):
                at = (left + block * across + column * cell[0], top + label * cell[1])
                sheet.paste(_enlarged(image, scale), at)
    return sheet


def _text_sheet(storage: Storage, manifest: Manifest) -> Image.Image:
    lines: list[str] = []
    for split in SPLITS:
        x, _ = _read(storage, manifest, manifest.of(split)[0])
        text = x[:SHEET_TEXTS].tobytes().decode("ascii")
        lines += [f"{split}: {manifest.splits[split]:,} × {manifest.shape[0]} characters", ""]
        lines += [*text.splitlines(), "", ""]
    sheet = Image.new("RGB", (24 + 6 * max(map(len, lines)), 24 + 15 * len(lines)), "white")
    ImageDraw.Draw(sheet).multiline_text((12, 12), "\n".join(lines), fill="black", spacing=3)
    return sheet


def _few_of_each(storage: Storage, manifest: Manifest, split: str) -> dict[int, list[np.ndarray]]:
    few: dict[int, list[np.ndarray]] = {label: [] for label in range(len(manifest.classes))}
    for shard in manifest.of(split)[:SHEET_SHARDS]:
        x, y = _read(storage, manifest, shard)
        for label, images in few.items():
            images.extend(x[y == label][: SHEET_COLUMNS - len(images)])
        if all(len(images) == SHEET_COLUMNS for images in few.values()):
            break
    return few


def _enlarged(image: np.ndarray, scale: int) -> Image.Image:
    """uint8 (C, H, W), each pixel as a square of ``scale``."""
    pixels = image.transpose(1, 2, 0).repeat(scale, axis=0).repeat(scale, axis=1)
    return Image.fromarray(pixels[..., 0] if len(image) == 1 else pixels)
