"""Runs that are killed or asked to stop, on clusters of their drivers' own.

A file for itself: whole files are shared out to the suite's processes, and these take longest.
"""

import random
import signal

import pytest

from pipeline import checkpoint
from tests.faults.kill_loop import Run, survive


@pytest.mark.cluster
def test_killed_workers_drivers_and_clusters_change_no_bit(tmp_path):
    """The short form of ``make faults``, on a cluster of the driver's own."""
    random.seed(1)
    straight = Run(tmp_path / "straight", 40)
    straight.finish()
    killed = survive(tmp_path / "killed", ["worker", "driver", "cluster"], 40)
    (weights, losses, one), (others, theirs, starts) = straight.result(), killed.result()
    assert weights == others
    assert losses == theirs
    assert (one, starts) == (1, 4)


@pytest.mark.cluster
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_a_run_writes_a_checkpoint_and_leaves_with_its_code(tmp_path, sign):
    run = Run(tmp_path / "asked", 100_000)
    try:
        assert run.wait_past(-1), run.tail()
        run.driver.send_signal(sign)
        assert run.driver.wait(60) == 143
        at = run.newest()
        text = run.tail()
        assert f"stopped at step {at} of" in text
        assert "Traceback" not in text
    finally:
        run.end()
    home = run.home()
    assert home is not None
    assert checkpoint.latest(home, run.storage.folders("runs")[0])[0].step == at
