"""A job's schedule as its schedulers want it: KubeRay, Kubernetes, a crontab, a systemd timer.

Whatever starts it, a tick is named by its due time and decided once, so a scheduler that reads the
night of a clock change in another way, or fires twice, does no harm.
"""

import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import JobError
from pipeline.job import Job
from pipeline.schedule import fields_of

IMAGE = "draw-pipeline:latest"
SECRET = "draw-storage"
"""The Kubernetes secret with the storage's variables: manifests name it, and hold none."""
DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
DEADLINE_S = 3600
"""A tick that Kubernetes could not start within an hour is left out; the next stands for it."""


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
    assert job.retrain is not None
    container = {**_container("tick"), "command": _command(path)}
    pod = {
        "restartPolicy": "Never",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
        "containers": [container],
    }
    return _manifest(
        f"{job.name}: for clusters without KubeRay's RayCronJob. The pod starts its own Ray.",
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": _dashed(job)},
            "spec": {
                "schedule": job.retrain.cron,
                "timeZone": job.retrain.zone,
                "concurrencyPolicy": "Forbid",
                "startingDeadlineSeconds": DEADLINE_S,
                "successfulJobsHistoryLimit": 3,
                "failedJobsHistoryLimit": 3,
                "jobTemplate": {"spec": {"backoffLimit": 2, "template": {"spec": pod}}},
            },
        },
    )


def _kuberay(job: Job, path: str) -> str:
    assert job.retrain is not None
    head = {
        "rayStartParams": {"dashboard-host": "0.0.0.0"},
        "template": {"spec": {"containers": [_container("ray-head")]}},
    }
    workers = {
        "groupName": "workers",
        "replicas": 1,
        "minReplicas": 0,
        "maxReplicas": 4,
        "rayStartParams": {},
        "template": {"spec": {"containers": [_container("ray-worker")]}},
    }
    return _manifest(
        f"{job.name}: needs KubeRay 1.7 with --feature-gates=RayCronJob=true (alpha). It replays\n"
        "# missed ticks one by one; all but the first find their tick decided and end at once.",
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayCronJob",
            "metadata": {"name": _dashed(job)},
            "spec": {
                "schedule": job.retrain.cron,
                "timeZone": job.retrain.zone,
                "jobTemplate": {
                    "entrypoint": shlex.join(_command(path)),
                    "backoffLimit": 2,
                    "shutdownAfterJobFinishes": True,
                    "ttlSecondsAfterFinished": 600,
                    "rayClusterSpec": {
                        "rayVersion": version("ray"),
                        "headGroupSpec": head,
                        "workerGroupSpecs": [workers],
                    },
                },
            },
        },
    )


def _container(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "envFrom": [{"secretRef": {"name": SECRET}}],
        "env": [{"name": "RAY_AUTH_MODE", "value": "token"}],
        "resources": {
            "requests": {"cpu": "2", "memory": "4Gi"},
            "limits": {"cpu": "2", "memory": "4Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _manifest(comment: str, value: dict[str, Any]) -> str:
    return f"# {comment}\n" + yaml.safe_dump(value, sort_keys=False)


def _command(path: str) -> list[str]:
    return ["python", "-m", "pipeline", "retrain", path]


def _dashed(job: Job) -> str:
    """A name as Kubernetes takes it: no underscore, no dash at an end, 52 characters at most."""
    return f"retrain-{job.name.replace('_', '-')}"[:52].rstrip("-")


def _listed(values: list[int], all_of: int) -> str:
    return "*" if len(values) == all_of else ",".join(f"{value:02d}" for value in values)


def _root() -> Path:
    return Path(__file__).parents[1]
