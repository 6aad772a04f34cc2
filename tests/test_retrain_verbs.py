"""Ticks, schedules and champions from the command line, as a person or a scheduler calls them."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from cronsim import CronSim

from infra import store as s3
from pipeline import champion
from pipeline.__main__ import main
from pipeline.job import run_id
from pipeline.job_file import read_job
from pipeline.prepare import prepare
from pipeline.records import CHECKPOINTS, run_path
from pipeline.retrain import retrain
from pipeline.storage import Storage, open_storage
from tests.faults.proxy import Fault, Proxy
from tests.ray_kinds import SPECS
from tests.tiny import PLAIN

ROOT = Path(__file__).parents[1]
WEEK = 7 * 86400.0
MONDAY = 1_772_420_400.0  # 2026-03-02 03:00 UTC
JOB = {
    **PLAIN,
    "storage": "${DRAW_STORAGE}",
    "model": {**PLAIN["model"], "steps": 1},
    "train": {**PLAIN["train"], "total_epochs": 1, "checkpoint_every_steps": 99},
    "retrain": {"cron": "0 3 * * 1", "zone": "UTC", "new": ["data", "job"]},
}
TICK = ("retrain", "weekly.yaml", "--without-ray")


class Shop:
    """A storage, a job file, and a clock that stands still."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capsys: Any = None):
        self.url, self._patch, self._capsys = f"file://{folder}/storage", patch, capsys
        (folder / "weekly.yaml").write_text(yaml.safe_dump(JOB))
        patch.setenv("DRAW_STORAGE", self.url)
        patch.setenv("DRAW_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        self.at(0)

    def at(self, week: float) -> None:
        """Ticks are done a minute after this many weeks."""
        clock = {**(retrain.__kwdefaults__ or {}), "clock": lambda: MONDAY + week * WEEK + 60.5}
        self._patch.setattr(retrain, "__kwdefaults__", clock)

    @property
    def storage(self) -> Storage:
        return open_storage(self.url)

    def call(self, *words: str) -> tuple[int, Any, str]:
        """Exit code, value and standard error of a verb with ``--json``."""
        code = main([*words, "--json"])
        out, err = self._capsys.readouterr()
        return code, json.loads(out), err

    def say(self, *words: str) -> str:
        assert main(words) == 0
        out, err = self._capsys.readouterr()
        return out + err

    def everything(self) -> dict[str, bytes]:
        """All that is stored, but for who was at work last, and when."""
        work = re.compile(r"champions/\w+/(lease/|schedule\.json$)")
        keys = [entry.key for entry in self.storage.list() if not work.match(entry.key)]
        return {key: self.storage.read(key) for key in keys}


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the first tick has promoted, and the second what came from there."""
    folder = tmp_path_factory.mktemp("weekly")
    with pytest.MonkeyPatch.context() as patch:
        shop = Shop(folder, patch)
        assert main([*TICK, "--json"]) == 0
        shop.at(1)
        more = ("--set", "data.train=90", "--set", "train.total_epochs=4")
        assert main([*TICK, *more, "--json"]) == 0
    return folder


@pytest.fixture
def shop(promoted: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> Shop:
    """A copy of it for one test, in its second week."""
    shutil.copytree(promoted, tmp_path / "copy")
    shop = Shop(tmp_path / "copy", monkeypatch, capsys)
    shop.at(1)
    return shop


def runs_of(shop: Shop) -> list[str]:
    """The two that were promoted, oldest first."""
    found = [champion.read(shop.storage, "tiny", number).challenger for number in (1, 2)]
    return [run for run in found if run]


def test_a_tick_promotes_and_a_second_start_says_that_it_is_decided(shop):
    before = shop.everything()
    first, second = (champion.read(shop.storage, "tiny", number) for number in (1, 2))
    assert [first.kind, second.kind] == ["promotion", "promotion"]
    code, value, _ = shop.call(*TICK)
    assert (code, value["already"], value["number"], value["kind"]) == (0, True, 2, "promotion")
    assert value["page"] == f"{shop.url}/champions/tiny/index.html"
    said = shop.say(*TICK)
    assert "tick 2026-03-09T03:00:00+00:00: decided already: decision 2, promotion: better" in said
    assert shop.everything() == before


def test_a_tick_with_nothing_new_is_a_skip_and_ends_well(shop):
    shop.at(2)
    last = ("--set", "data.train=90", "--set", "train.total_epochs=4")
    code, value, _ = shop.call(*TICK, *last)
    assert (code, value["kind"], value["already"]) == (0, "skip", False)
    assert value["reason"] == "nothing new since decision 2 (data, job: the same)"


def test_a_tick_that_is_wished_for_is_named_by_its_minute_and_decided_once(shop):
    shop.at(1.5)
    last = ("--set", "data.train=90", "--set", "train.total_epochs=4")
    _, waiting, _ = shop.call(*TICK, *last)
    assert (waiting["already"], waiting["tick"]) == (True, "2026-03-09T03:00:00+00:00")
    code, wished, _ = shop.call(*TICK, *last, "--now")
    assert (code, wished["kind"], wished["number"]) == (0, "skip", 3)
    assert wished["tick"] == "2026-03-12T15:01:00+00:00"
    assert shop.call(*TICK, *last, "--now")[1]["already"]
    assert shop.call(*TICK, *last)[1]["number"] == 2  # the scheduled one is still known
    shop.at(2)
    assert shop.call(*TICK, *last)[1]["number"] == 4


def test_the_ordinary_run_of_a_job_with_a_schedule_is_the_run_it_would_be_without(shop):
    job = read_job("weekly.yaml")
    plain = read_job("weekly.yaml", ["retrain=null"])
    manifest = prepare(job.data, shop.storage)
    assert run_id(job, manifest) == run_id(plain, manifest)
    svhn = [read_job(str(ROOT / "jobs" / "svhn.yaml"), words) for words in ([], ["retrain=null"])]
    assert run_id(svhn[0], manifest) == run_id(svhn[1], manifest)
    code, record, _ = shop.call("run", "weekly.yaml", "--without-ray")
    assert (code, record["id"]) == (0, run_id(plain, manifest))
    assert champion.numbers(shop.storage, "tiny") == [1, 2]


BAD: dict[str, tuple[tuple[str, ...], int, str]] = {
    "a cron line": ((*TICK, "--set", "retrain.cron=0 3 * *"), 2, "4 fields; write five"),
    "a time zone": ((*TICK, "--set", "retrain.zone=Mars"), 2, "zone is 'Mars', no time zone"),
    "a metric": (
        (*TICK, "--set", "retrain.gate.metric=error", "--set", "train.lr=0.02"),
        2, "retrain.gate.metric: this model has no error; write one of ['kl', 'loss'",
    ),
    "another model": (
        (*TICK, "--set", "model.hidden=24", "--set", "train.total_epochs=4"),
        2, "is another model (hidden 16, here 24); write cold",
    ),
    "no schedule": ((*TICK, "--set", "retrain=null"), 2, "tiny: no retrain section; write"),
    "no schedule to tell": (
        ("schedule", "next", "weekly.yaml", "--set", "retrain=null"), 2, "no retrain section",
    ),
    "a job outside of the image": (
        ("schedule", "render", "weekly.yaml", "--as", "kubernetes"), 2, "put it below jobs/",
    ),
    "no such decision": (("champion", "rollback", "tiny", "--to", "7"), 2, "at decision 7 to go"),
    "a name": (("champion", "show", "tinny"), 4, "no decisions; there are: tiny"),
    "a name of nothing": (("champion", "history", "tinny"), 4, "no decisions; there are: tiny"),
    "a name to roll back": (("champion", "rollback", "tinny"), 4, "there are: tiny"),
    "a name to pin": (("champion", "pin", "tinny"), 4, "there are: tiny"),
    "a name to prune": (("champion", "prune", "tinny", "--delete"), 4, "there are: tiny"),
    "a key that leads elsewhere": (("champion", "show", "../runs"), 4, "parts are refused"),
    "no pin to take away": (("champion", "unpin", "tiny"), 2, "as asked already"),
    "nothing to keep": (("champion", "prune", "tiny", "--keep", "0"), 2, "write 1 or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_wish_is_one_line_with_its_code_and_changes_nothing(name, shop):
    words, code, said = BAD[name]
    shop.at(2)
    before = shop.everything()
    found, value, err = shop.call(*words)
    assert (found, value["exit_code"]) == (code, code)
    assert said in value["error"]
    before_it = [line for line in err.splitlines()[:-1] if not line.startswith("prepare")]
    assert err.endswith(f"{value['error']}\n")
    assert not before_it  # one line, below how far it had come
    assert "\n" not in value["error"]
    assert shop.everything() == before


def test_a_rollback_to_a_decision_that_promoted_nobody_is_refused(shop):
    shop.at(2)
    last = ("--set", "data.train=90", "--set", "train.total_epochs=4")
    assert shop.call(*TICK, *last)[1]["kind"] == "skip"
    before = shop.everything()
    code, value, err = shop.call("champion", "rollback", "tiny", "--to", "3")
    assert (code, err.count("\n")) == (2, 1)
    assert value["error"].endswith("at decision 3 to go back to; decisions that made one: 1, 2")
    assert shop.everything() == before


def test_a_store_without_create_once_writes_is_refused_for_ticks_and_champions(
    s3_server: s3.Running, s3_storage: Storage, shop: Shop, monkeypatch: Any
):
    for key, data in shop.everything().items():
        s3_storage.write(key, data)
    before = {entry.key for entry in s3_storage.list()}
    with Proxy(s3_server.endpoint, []) as proxy:
        proxy.always = Fault(without_header="if-none-match")
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("DRAW_STORAGE", s3_storage.url)
        for words in (TICK, ("champion", "rollback", "tiny"), ("champion", "pin", "tiny")):
            code, value, err = shop.call(*words)
            assert (code, err.count("\n")) == (4, 1)
            assert (
                "(If-None-Match is ignored), so leases and promotion are unsafe" in value["error"]
            )
    assert {entry.key for entry in s3_storage.list()} == before


def test_next_times_are_told_in_the_zone_and_in_utc_also_when_clocks_change(shop, monkeypatch):
    # 28 March 2026, noon: the next night Berlin has no 02:30, and on 25 October it has two.
    for at, expected in (
        (1_774_695_600.0, ["Sun 2026-03-29 03:00 CEST  Sun 2026-03-29 01:00 UTC",
                           "Mon 2026-03-30 02:30 CEST  Mon 2026-03-30 00:30 UTC"]),
        (1_792_843_200.0, ["Sun 2026-10-25 02:30 CEST  Sun 2026-10-25 00:30 UTC",
                           "Mon 2026-10-26 02:30 CET   Mon 2026-10-26 01:30 UTC"]),
    ):  # fmt: skip
        words = ("schedule", "next", "weekly.yaml", "--set", "retrain.cron=30 2 * * *",
                 "--set", "retrain.zone=Europe/Berlin")  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda at=at: at)
            lines, (_, value, _) = shop.say(*words).splitlines(), shop.call(*words)
        assert [" ".join(line.split()) for line in lines[:2]] == [
            " ".join(line.split()) for line in expected
        ]
        assert len(lines) == len(value) == 5
        assert value[0]["utc"].endswith("+00:00")
        assert value[0]["zone"].endswith("+02:00")


def rendered(shop: Shop, kind: str) -> str:
    words = ("schedule", "render", str(ROOT / "jobs" / "quickstart_weekly.yaml"), "--as", kind)
    text = shop.say(*words)
    assert shop.call(*words)[1] == {"as": kind, "text": text}
    return text


def test_a_rendered_manifest_is_one_that_its_cluster_takes(shop):
    for kind in ("kubernetes", "kuberay"):
        (value,) = yaml.safe_load_all(rendered(shop, kind))
        assert value["metadata"]["name"] == "retrain-quickstart-weekly"
        assert (value["spec"]["schedule"], value["spec"]["timeZone"]) == (
            "0 3 * * 1", "Europe/Berlin",
        )  # fmt: skip
        if kind == "kubernetes":
            kubernetes_validate.validate(value, "1.34", strict=True)
        else:
            spec = SPECS[value["kind"]].model_validate(value["spec"])
            entry = "python -m pipeline retrain jobs/quickstart_weekly.yaml"
            assert spec.jobTemplate.entrypoint == entry
        # Names that are made by hand are those that infra/README.md makes.
        secrets = set(re.findall(r"(?:secretName|secretRef|secretKeyRef): *\{?(?:name: )?([\w-]+)",
                                 rendered(shop, kind)))  # fmt: skip
        made = set(re.findall("create secret generic ([a-z0-9-]+)",
                              (ROOT / "infra" / "README.md").read_text()))  # fmt: skip
        assert "draw-ray-token" in secrets <= made


def test_a_rendered_crontab_starts_a_tick_in_the_projects_folder(shop):
    zone, line = [one for one in rendered(shop, "cron").splitlines() if not one.startswith("#")]
    assert zone == "CRON_TZ=Europe/Berlin"
    *fields, command = line.split(" ", 5)
    CronSim(" ".join(fields), datetime(2026, 3, 2, tzinfo=UTC))
    change, start = command.split(" && ")
    folder = Path(shlex.split(change)[1])
    told = subprocess.run(
        [*shlex.split(start)[:-2], "--help"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0
    assert "python -m pipeline" in told.stdout
    assert (folder / shlex.split(start)[-1]).is_file()


def test_rendered_units_are_units_that_systemd_takes(shop, tmp_path):
    parts = re.split(r"^# /etc/systemd/system/(\S+)\n", rendered(shop, "systemd"), flags=re.M)[1:]
    units = dict(zip(parts[::2], parts[1::2], strict=True))
    assert sorted(units) == [
        "retrain-quickstart-weekly.service", "retrain-quickstart-weekly.timer",
    ]  # fmt: skip
    for name, text in units.items():
        reader = configparser.ConfigParser(interpolation=None)
        reader.optionxform = str
        reader.read_string(text)
        (tmp_path / name).write_text(text)
    service = units["retrain-quickstart-weekly.service"]
    assert f"WorkingDirectory={ROOT}\n" in service
    assert service.endswith(" -m pipeline retrain jobs/quickstart_weekly.yaml\n")
    if tool := shutil.which("systemd-analyze"):  # else the text is all there is to look at
        files = [str(tmp_path / name) for name in units]
        told = subprocess.run(
            [tool, "verify", "--man=no", *files], capture_output=True, text=True, timeout=60
        )
        ours = [line for line in told.stderr.splitlines() if "retrain-" in line]
        assert ours == []


def test_the_champion_and_its_history_are_shown_in_words_and_as_json(shop):
    first, second = runs_of(shop)
    code, value, _ = shop.call("champion", "show", "tiny")
    assert (code, value["number"], value["after"]["champion"]["run"]) == (0, 2, second)
    said = shop.say("champion", "show", "tiny")
    assert second in said
    assert "better: loss lower by" in " ".join(said.split())
    code, rows, _ = shop.call("champion", "history", "tiny")
    assert (code, [row["challenger"] for row in rows]) == (0, [first, second])
    assert [line.split()[:2] for line in shop.say("champion", "history", "tiny").splitlines()] == [
        ["1", "promotion"], ["2", "promotion"],
    ]  # fmt: skip


def test_a_rollback_a_pin_and_its_end_are_decisions_with_their_reasons(shop):
    first, second = runs_of(shop)
    code, value, _ = shop.call("champion", "rollback", "tiny", "--why", "grey samples")
    assert (code, value["kind"], value["after"]["champion"]["run"]) == (0, "rollback", first)
    assert value["reason"].endswith(": grey samples")
    code, value, _ = shop.call("champion", "rollback", "tiny", "--to", "2")
    assert (code, value["after"]["champion"]["run"]) == (0, second)
    assert shop.call("champion", "pin", "tiny", "--why", "a fair")[1]["after"]["pinned"] is True
    shop.at(2)
    assert "pinned" in shop.call(*TICK)[1]["reason"]
    assert shop.call("champion", "unpin", "tiny")[1]["after"]["pinned"] is False
    kinds = [row["kind"] for row in shop.call("champion", "history", "tiny")[1]]
    assert kinds[2:] == ["rollback", "rollback", "pin", "skip", "unpin"]
    page = shop.storage.read("champions/tiny/index.html").decode()
    assert all(words in page for words in ("grey samples", "a fair", "unpin"))


def test_pruning_says_what_would_go_and_then_removes_it(shop):
    first, second = runs_of(shop)
    code, value, _ = shop.call("champion", "prune", "tiny", "--keep", "1")
    assert (code, value["deleted"], [one["run"] for one in value["runs"]]) == (0, False, [first])
    assert list(shop.storage.list(f"{run_path(first)}/{CHECKPOINTS}"))
    said = shop.say("champion", "prune", "tiny", "--keep", "1")
    assert "a dry run: --delete removes" in said
    assert f"old checkpoints: {first}, " in said
    assert shop.call("champion", "prune", "tiny", "--keep", "1", "--delete")[1]["deleted"]
    assert not list(shop.storage.list(f"{run_path(first)}/{CHECKPOINTS}"))
    assert list(shop.storage.list(f"{run_path(second)}/{CHECKPOINTS}"))
    assert shop.call("champion", "prune", "tiny", "--keep", "1")[1]["runs"] == []
