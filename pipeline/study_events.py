"""A study as event files that TensorBoard opens, every trial with its values as HParams."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from tensorboardX.proto.api_pb2 import (
    DataType,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
    Status,
)
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo
from tensorboardX.proto.summary_pb2 import SummaryMetadata
from tensorboardX.record_writer import RecordWriter

from pipeline.job import Job
from pipeline.space import Search, Values
from pipeline.study import TrialRecord
from pipeline.study_stats import best_report, known
from pipeline.study_tables import column, ended

FILE = "events.out.tfevents.study"
ENDED = {"finished": "SUCCESS", "stopped": "SUCCESS", "failed": "FAILURE"}
"""Status of a trial → TensorBoard's; all others are running."""


def tensorboard(folder: Path, job: Job, trials: Sequence[TrialRecord]) -> None:
    """Writes what the space is to ``folder``, and each trial to a folder of its own in it
    (``trial-000007``): HParams, validations at their steps, and last the best and the test.

    The same trials give the same names and bytes, however often they are written.
    """
    search = job.search
    assert search is not None
    tags = (f"best/{search.metric}", f"test/{search.metric}", "cost/examples", "cost/seconds")
    whole = Experiment(
        hparam_infos=[_info(key, values) for key, values in search.space.items()],
        metric_infos=[MetricInfo(name=MetricName(tag=tag)) for tag in tags],
    )
    began = min((trial.clock.decided for trial in trials), default=0.0)
    _write(folder, [_about("experiment", HParamsPluginData(experiment=whole), began)])
    for trial in trials:
        _write(folder / f"trial-{trial.number:06d}", _events(search, trial))


def _events(search: Search, trial: TrialRecord) -> list[Any]:
    events = [_about("session_start_info", _start(search, trial), trial.clock.decided)]
    for report in trial.reports:
        numbers = {f"cost/{name}": getattr(report, name) for name in ("examples", "seconds")}
        seen = {**report.terms, search.metric: report.value}
        numbers |= {f"validation/{name}": value for name, value in seen.items()}
        events.append(_scalars(numbers, report.step, report.time))
    if (best := best_report(trial, search.mode)) is not None:
        numbers = {f"best/{search.metric}": best.value, f"test/{search.metric}": trial.test}
        events.append(_scalars(numbers, best.step, best.time))
    status = Status.Value(f"STATUS_{ENDED.get(trial.status, 'RUNNING')}")
    over = ended(trial)
    end = SessionEndInfo(status=status, end_time_secs=over)
    return [*events, _about("session_end_info", HParamsPluginData(session_end_info=end), over)]


def _info(key: str, values: Values) -> Any:
    """What TensorBoard is told of a key: its type and what it may be."""
    kind, listed = column(values, values.listed or [])
    name = {pa.bool_(): "BOOL", pa.string(): "STRING"}.get(kind, "FLOAT64")
    info = HParamInfo(name=key, type=DataType.Value(f"DATA_TYPE_{name}"))
    if values.listed:
        info.domain_discrete.extend([one for one in listed if one is not None])
    else:
        info.domain_interval.min_value, info.domain_interval.max_value = values.corners
    return info


def _start(search: Search, trial: TrialRecord) -> Any:
    data = HParamsPluginData()
    data.session_start_info.start_time_secs = trial.clock.decided
    for key, values in search.space.items():
        (value,) = column(values, [trial.values.get(key)])[1]
        field = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
        if value is not None:
            setattr(data.session_start_info.hparams[key], field, value)
    return data


def _about(tag: str, data: Any, time: float) -> Any:
    """An event that the HParams plugin reads."""
    plugin = SummaryMetadata.PluginData(
        plugin_name="hparams", content=data.SerializeToString(deterministic=True)
    )
    event = Event(wall_time=time)
    metadata = SummaryMetadata(plugin_data=plugin)
    event.summary.value.add(tag=f"_hparams_/{tag}", metadata=metadata)
    return event


def _scalars(numbers: Mapping[str, float | None], step: int, time: float) -> Any:
    event = Event(wall_time=time, step=step)
    for tag, value in numbers.items():
        if known(value):
            event.summary.value.add(tag=tag, simple_value=value)
    return event


def _write(folder: Path, events: Sequence[Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # The package's SummaryWriter would add a thread, the time of day and the name of this machine
    # to every trial; its format is these records.
    writer = RecordWriter(str(folder / FILE))
    first = Event(wall_time=events[0].wall_time, file_version="brain.Event:2")
    for event in (first, *events):
        writer.write(event.SerializeToString(deterministic=True))
    writer.close()
