"""What is measured in training: sums over real examples, and rows that become Parquet parts."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as dist
from torch import Tensor

from draw_model import Terms
from pipeline.records import METRICS
from pipeline.storage import Storage

Row = dict[str, Any]
Sums = dict[str, Tensor]


def masked_sums(terms: Terms, mask: Tensor) -> Sums:
    """Name → sum over real examples, float64: () for a (B,) term, (T,) for a (B, T) term."""
    sums = {}
    for name, value in terms.items():
        real = mask if value.dim() == 1 else mask[:, None]
        sums[name] = torch.where(real, value.detach().double(), 0.0).sum(0)
    return sums


def add(total: Sums | None, more: Sums) -> Sums:
    return more if total is None else {name: total[name] + more[name] for name in total}


def across_workers(sums: Sums, world: int, extra: float = 0.0) -> tuple[Sums, float]:
    """Sums over all workers in one all-reduce, with one more number that travels along."""
    if world == 1:
        return sums, extra
    names = sorted(sums)
    some = sums[names[0]]
    packed = torch.cat([sums[n].reshape(-1) for n in names] + [some.new_tensor([extra])])
    dist.all_reduce(packed)
    parts = packed[:-1].split([sums[n].numel() for n in names])
    return {n: p.reshape(sums[n].shape) for n, p in zip(names, parts, strict=True)}, float(
        packed[-1]
    )


def means(sums: Sums, count: int) -> dict[str, float | list[float]]:
    """Sums divided by the global count of real examples, as plain numbers."""
    return {name: (value / count).tolist() for name, value in sums.items()}


def write_part(run: Storage, kind: str, attempt: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of consecutive steps as ``metrics/<kind>-<attempt>-<first>-<last>.parquet``.

    A later attempt may write a step again; readers keep the row of the last attempt.
    """
    if not rows:
        return
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), buffer)
    first, last = rows[0]["step"], rows[-1]["step"]
    run.write(f"{METRICS}/{kind}-{attempt:06d}-{first:08d}-{last:08d}.parquet", buffer.getvalue())
