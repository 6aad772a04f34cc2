"""Who reads what, in which order: pure functions of sizes, seed and step; no state, no files.

A split of E examples is read in global batches of B places. Batch b of an epoch holds positions
b·B … (b+1)·B − 1 of that epoch's order; places past the end are padding. Each worker takes a
contiguous share of the places. So the global batches are the same on any number of workers, every
example comes exactly once an epoch, all ranks take equally many steps, and a resume needs the step
number only.
"""

import numpy as np

from draw_model import noise

PADDING = -1


def steps_per_epoch(examples: int, batch_size: int) -> int:
    return -(-examples // batch_size)


def order(examples: int, seed: int, epoch: int) -> np.ndarray:
    """(examples,) int64: the order of epoch ``epoch``, a permutation."""
    return noise.generator(seed, "order", epoch).permutation(examples)


def batch_ids(order: np.ndarray, index: int, batch_size: int) -> np.ndarray:
    """(batch_size,) int64 example ids of batch ``index``; PADDING where the split has ended."""
    ids = np.full(batch_size, PADDING, dtype=np.int64)
    real = order[index * batch_size : (index + 1) * batch_size]
    ids[: len(real)] = real
    return ids


def share(places: range, part: int, parts: int) -> range:
    """Part ``part`` of ``parts`` of these places: contiguous, sizes differ by one at most."""
    count = len(places)
    return range(places.start + part * count // parts, places.start + (part + 1) * count // parts)
