"""Optuna's view of a study: its search space, its trials, and what Optuna would try next."""

import json
from collections.abc import Sequence
from typing import Any

from pipeline.errors import JobError
from pipeline.space import Search, Values
from pipeline.study import TrialRecord

Scalar = (str, int, float, bool, type(None))


def optuna() -> Any:
    """The module. Raises JobError where it is not installed."""
    try:
        import optuna as module
    except ModuleNotFoundError:
        raise JobError(
            "optuna is not installed; pip install 'draw-pipeline[search]', or search.searcher: "
            "random"
        ) from None
    module.logging.set_verbosity(module.logging.ERROR)
    return module


def distribution(values: Values) -> Any:
    """What Optuna calls a distribution; lists of other than plain values become JSON texts."""
    kinds = optuna().distributions
    if values.listed:
        return kinds.CategoricalDistribution([label(value) for value in values.listed])
    if values.int_range:
        return kinds.IntDistribution(*values.int_range)
    ends = values.uniform or values.log_uniform or [0.0, 1.0]
    return kinds.FloatDistribution(ends[0], ends[1], log=values.uniform is None)


def label(value: Any) -> Any:
    """A value as Optuna can hold it."""
    return value if isinstance(value, Scalar) else json.dumps(value, sort_keys=True)


def frozen(search: Search, trial: TrialRecord) -> Any:
    """A trial as Optuna records one: stopped trials are pruned ones, with their best value."""
    module = optuna()
    states = module.trial.TrialState
    state = {"finished": states.COMPLETE, "stopped": states.PRUNED, "failed": states.FAIL}.get(
        trial.status, states.RUNNING
    )
    best = trial.best(search.mode)
    if state == states.COMPLETE and best is None:
        state = states.FAIL
    return module.trial.create_trial(
        state=state,
        value=best.value if best and state != states.FAIL else None,
        params={key: label(trial.values[key]) for key in search.space},
        distributions={key: distribution(values) for key, values in search.space.items()},
        intermediate_values={r.step: r.value for r in trial.reports if r.value is not None},
    )


def ask(search: Search, trials: Sequence[TrialRecord], setting: int) -> dict[str, Any]:
    """Values of the next setting: a function of the trials so far and the setting's number.

    A new sampler each time: nothing is remembered between two calls that a restart could lose.
    Trials that run count as bad ones near them, so that several at once differ.
    """
    module = optuna()
    sampler = module.samplers.TPESampler(seed=(search.seed + setting) % 2**32, constant_liar=True)
    direction = "minimize" if search.mode == "min" else "maximize"
    study = module.create_study(sampler=sampler, direction=direction)
    study.add_trials([frozen(search, trial) for trial in trials])
    asked = study.ask({key: distribution(values) for key, values in search.space.items()})
    found = {}
    for key, values in search.space.items():
        chosen = asked.params[key]
        listed = {label(value): value for value in values.listed or ()}
        found[key] = listed.get(chosen, chosen)
    return found
