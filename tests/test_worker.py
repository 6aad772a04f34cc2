"""What a worker does to its process."""

import subprocess
import sys

PAGES = """
import mmap, resource, torch
from pipeline.worker import ready_cpu
ready_cpu()
def taken(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        torch.ones(40 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first, _, many = taken(1), taken(4), taken(10)
print(first * mmap.PAGESIZE / 2**20, many * mmap.PAGESIZE / 2**20)
assert torch.tensor([2.0**-130]).mul(2.0**-10).item() == 0, "a subnormal number"
"""


def test_memory_that_a_step_freed_is_there_for_the_next() -> None:
    """40 MB, which glibc would give back each time; and subnormal numbers are zeros."""
    done = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, others = map(float, done.stdout.split())
    assert first > 39
    assert others < 10
