"""A job's schedule as its schedulers want it: KubeRay, Kubernetes, a crontab, a systemd timer.

Whatever starts it, a tick is named by its due time and decided once, so a scheduler that reads the
night of a clock change in another way, or fires twice, does no harm.
"""

import json
import re
import shlex
import sys
from pathlib import Path

from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.schedule import fields_of
from pipeline.values import digest

DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
LONGEST = 38
"""Characters of a name: KubeRay adds the minute and a cluster's own ending, and takes 53 in all."""


def render(job: Job, path: str, kind: str) -> str:
    """The text for one scheduler; ``path`` is the job file as seen from the project's root.

    Raises JobError for a path or name that such a text cannot hold.
    """
    if job.retrain is None:
        raise JobError(f"{path}: no retrain section; write retrain.cron and retrain.zone")
    if not re.fullmatch(r"[A-Za-z0-9._/-]+", path):
        raise JobError(f"{path}: not a path that a schedule can hold; use letters, digits, . _ - /")
    return {
        "kuberay": _kuberay, "kubernetes": _kubernetes, "cron": _crontab, "systemd": _systemd
    }[kind](job, path)  # fmt: skip


def from_root(path: str) -> str:
    """A job file's path as a scheduler needs it: from the project's root, absolute if elsewhere."""
    there = Path(path).resolve()
    return str(there.relative_to(_root()) if there.is_relative_to(_root()) else there)


def _crontab(job: Job, path: str) -> str:
    assert job.retrain is not None
    command = f"cd {shlex.quote(str(_root()))} && {shlex.quote(sys.executable)}"
    if "%" in command:
        raise JobError(f"{_root()}: a crontab reads % as a new line; move the project elsewhere")
    return (
        f"# {job.name}: a line for a crontab. CRON_TZ is known to cronie; another cron ignores it\n"
        "# and takes the machine's own zone. Credentials come from the profile of its user.\n"
        f"CRON_TZ={job.retrain.zone}\n"
        f"{job.retrain.cron} {command} -m pipeline retrain {path}\n"
    )


def _systemd(job: Job, path: str) -> str:
    """Two units. Numbers are written out, so that nothing depends on how steps are read."""
    assert job.retrain is not None
    minutes, hours, days, months, weekdays = fields_of(job.retrain.cron)
    week = "" if len(weekdays) == 7 else ",".join(DAYS[day] for day in weekdays) + " "
    calendar = (
        f"{week}*-{_listed(months, 12)}-{_listed(days, 31)} "
        f"{_listed(hours, 24)}:{_listed(minutes, 60)}:00 {job.retrain.zone}"
    )
    name = _dashed(job)
    return f"""# /etc/systemd/system/{name}.timer
[Unit]
Description=Retraining of {job.name}

[Timer]
OnCalendar={calendar}
# After downtime one tick is done, however many were missed.
Persistent=true

[Install]
WantedBy=timers.target

# /etc/systemd/system/{name}.service
[Unit]
Description=Retraining of {job.name}, one tick
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={_root()}
# Storage and credentials: a file that only its user can read.
EnvironmentFile=-/etc/draw-pipeline.env
ExecStart={sys.executable} -m pipeline retrain {path}
"""


def _kubernetes(job: Job, path: str) -> str:
    return _manifest("cronjob.yaml", job, path)


def _kuberay(job: Job, path: str) -> str:
    return _manifest("raycronjob.yaml", job, path)


def _manifest(file: str, job: Job, path: str) -> str:
    """A manifest of infra/kuberay/, which is written for jobs/svhn.yaml, for this job."""
    assert job.retrain is not None
    if path.startswith("/"):
        raise JobError(f"{path}: not in {_root()}, so not in its image; put it below jobs/")
    meant = {
        "retrain-svhn": _dashed(job),
        "jobs/svhn.yaml": path,
        '"0 3 * * 0"': json.dumps(job.retrain.cron),
        "Etc/UTC": job.retrain.zone,
    }
    text = (_root() / "infra" / "kuberay" / file).read_text()
    return re.sub("|".join(map(re.escape, meant)), lambda found: meant[found[0]], text)


def _dashed(job: Job) -> str:
    """A name as Kubernetes takes it: no underscore, no dash at an end, not too long."""
    name = f"retrain-{job.name.replace('_', '-')}".rstrip("-")
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 7]}-{digest(job.name)[:6]}"  # two that begin alike stay two


def _listed(values: list[int], all_of: int) -> str:
    return "*" if len(values) == all_of else ",".join(f"{value:02d}" for value in values)


def _root() -> Path:
    return Path(__file__).parents[1]
