"""Processes of their own that start in a moment."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
"""Forked from one process that has loaded what each of them would need seconds for: torch with what
its optimisers load at their first step, and what draws curves."""
FORKS.set_forkserver_preload(
    ["pipeline.retrain", "torch._dynamo", "scipy.special", "pipeline.curves",
     "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg"]
)  # fmt: skip
