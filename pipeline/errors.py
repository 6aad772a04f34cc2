"""The errors that a person can act upon: one line each, with the exit code it ends in.

Every message names what was found, where, and what to do. Anything else that is raised is a fault
of this program and ends with a traceback and exit code 1.
"""

from collections.abc import Mapping
from typing import Any


class PipelineError(Exception):
    """Base of the errors that are shown as one line, without a traceback."""

    exit_code = 1
    details: Mapping[str, Any] = {}
    """What ``--json`` prints beside the line."""


class JobError(PipelineError):
    """A job file or a command line that cannot be run as it stands."""

    exit_code = 2


class DataError(PipelineError):
    """A source file, shard or manifest that is missing, damaged or not what it says."""

    exit_code = 3


class StorageError(PipelineError):
    """Object storage that cannot be reached, refuses, or lacks what was asked for."""

    exit_code = 4


class TrainingError(PipelineError):
    """Training that gave up: diverged, or failed more often than the job allows."""

    exit_code = 5


class ClusterError(PipelineError):
    """A Ray cluster that cannot be reached or has not what the job asks for."""

    exit_code = 6


class LeaseError(PipelineError):
    """Another process is at the same thing, which only one may do at a time."""

    exit_code = 7


class Interrupted(PipelineError):
    """Asked to stop (SIGTERM, Ctrl-C): a checkpoint was written; the same command goes on."""

    exit_code = 143


EXIT_CODES = {
    0: "done",
    1: "a fault of this program (traceback shown)",
    JobError.exit_code: "the job file or the command line is wrong; nothing was started",
    DataError.exit_code: "source data, shards or manifest missing or damaged",
    StorageError.exit_code: "object storage unreachable, refusing, or lacking what was asked for",
    TrainingError.exit_code: "training gave up (diverged, or failed too often)",
    ClusterError.exit_code: "the Ray cluster cannot be reached or lacks the resources",
    LeaseError.exit_code: "another process is doing the same; nothing was changed",
    130: "interrupted before training had begun",
    Interrupted.exit_code: "stopped by a signal after writing a checkpoint; run again to go on",
}
