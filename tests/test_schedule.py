"""When a job is due: nights without an hour, nights with one twice, and weeks of downtime."""

import re
import shutil
import subprocess
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import JobError
from pipeline.job_file import check_job
from pipeline.schedule import check_cron, check_zone, due_after, last_due, utc
from pipeline.schedule_render import render
from tests.tiny import PLAIN

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def due(line: str, start: str, count: int = 5, zone: str = BERLIN) -> list[str]:
    return [utc(t)[:16] for t in islice(due_after(line, zone, at(start, zone)), count)]


def test_a_weekly_line_keeps_its_hour_through_both_changes_of_the_clocks():
    assert due("0 3 * * 1", "2026-03-20T00:00", 3) == [
        "2026-03-23T02:00", "2026-03-30T01:00", "2026-04-06T01:00",
    ]  # fmt: skip
    assert due("0 3 * * 1", "2026-10-18T00:00", 2) == ["2026-10-19T01:00", "2026-10-26T02:00"]


def test_a_time_that_spring_leaves_out_is_due_at_the_end_of_the_gap():
    # 29 March 2026, Berlin: 02:00 to 03:00 is missing; 01:00 UTC is 03:00 there.
    assert due("30 2 * * *", "2026-03-28T00:00", 3) == [
        "2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30",
    ]  # fmt: skip


def test_two_times_that_fall_on_the_end_of_the_gap_are_due_once():
    assert due("0 2,3 * * *", "2026-03-29T00:00", 3) == [
        "2026-03-29T01:00", "2026-03-30T00:00", "2026-03-30T01:00",
    ]  # fmt: skip


def test_a_time_that_autumn_has_twice_is_due_once():
    # 25 October 2026, Berlin: 02:30 comes at 00:30 UTC and at 01:30 UTC.
    assert due("30 2 * * *", "2026-10-24T12:00", 2) == ["2026-10-25T00:30", "2026-10-26T01:30"]


def test_an_hourly_line_follows_the_sun_through_both_nights():
    assert due("0 * * * *", "2026-10-25T01:30", 4) == [
        "2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T02:00", "2026-10-25T03:00",
    ]  # fmt: skip
    assert due("0 * * * *", "2026-03-29T00:30", 3) == [
        "2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00",
    ]  # fmt: skip


def test_after_weeks_of_downtime_one_tick_is_due_the_newest():
    now = at("2026-11-18T12:00")
    assert last_due("0 3 * * 1", "UTC", now) == datetime(2026, 11, 16, 3, tzinfo=UTC)
    assert last_due("0 3 * * 1", "UTC", at("2026-11-16T03:00")) == datetime(
        2026, 11, 16, 3, tzinfo=UTC
    )
    assert last_due("0 3 * * 1", "UTC", at("2026-11-16T02:59:59")) == datetime(
        2026, 11, 9, 3, tzinfo=UTC
    )
    assert last_due("0 0 29 2 *", "UTC", now) == datetime(2024, 2, 29, tzinfo=UTC)


@settings(max_examples=60, deadline=None)
@given(
    moment=st.integers(1_700_000_000, 1_900_000_000),
    line=st.sampled_from(["0 3 * * 1", "30 2 * * *", "*/20 * * * *", "15 1,2,3 * * *"]),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"]),
)
def test_what_is_due_next_is_the_last_due_once_its_time_has_come(moment, line, zone):
    times = list(islice(due_after(line, zone, moment), 5))
    stamps = [t.timestamp() for t in times]
    assert stamps == sorted(set(stamps))
    assert stamps[0] > moment
    assert last_due(line, zone, stamps[0]) == times[0]
    assert last_due(line, zone, stamps[1] - 1) == times[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 3 * *", "4 fields; write five"),
        ("0 3 * * * *", "6 fields"),
        ("61 3 * * *", "no such minute"),
        ("0 25 * * *", "no such hour"),
        ("0 3 * * FUNDAY", "day of week"),
        ("0 3 1 * 1", "both given"),
        ("0 3 31 2 *", "no such day of month|never due"),
        ("0 3 * * 7", "0 for Sunday"),
        ("0 3 L * *", "not known everywhere"),
        ("@weekly", "1 fields"),
        ("0 3 * * 1#2", "has characters"),
        ("0 3;rm * * *", "has characters|fields"),
    ],
)
def test_a_wrong_line_is_refused_in_one_line(line, words):
    with pytest.raises(ValueError, match=words) as refused:
        check_cron(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../../etc/passwd", "Berlin\0", "/"])
def test_an_unknown_zone_is_refused_in_one_line(zone):
    with pytest.raises(ValueError, match="no time zone; write one such as Europe/Berlin"):
        check_zone(zone)


@pytest.mark.parametrize("line", ["0 3 * * 1", "*/15 0-6 * JAN-MAR MON-FRI", "0 0 1 * *"])
def test_a_good_line_is_read(line):
    check_cron(line)
    check_zone(BERLIN)


def rendered(kind: str, cron: str = "0 3 * * 1", zone: str = BERLIN, name: str = "two_digits"):
    job = check_job({**PLAIN, "name": name, "retrain": {"cron": cron, "zone": zone}}, "job")
    return render(job, "jobs/two_digits.yaml", kind)


@pytest.mark.parametrize("kind", ["kuberay", "kubernetes"])
def test_a_manifest_names_line_zone_and_command_and_holds_no_secret(kind):
    (value,) = yaml.safe_load_all(rendered(kind, cron="*/20 3 * * 1"))
    spec = value["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("*/20 3 * * 1", BERLIN)
    assert "svhn" not in yaml.safe_dump(value)
    assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", value["metadata"]["name"])
    text = rendered(kind)
    assert "draw-ray-token" in text
    assert "AWS_" not in text
    if kind == "kubernetes":
        assert spec["concurrencyPolicy"] == "Forbid"
        (submit,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        assert submit["command"][:3] == ["ray", "job", "submit"]
        assert " ".join(submit["args"]) == "python -m pipeline retrain jobs/two_digits.yaml"
    else:
        assert (
            spec["jobTemplate"]["entrypoint"] == "python -m pipeline retrain jobs/two_digits.yaml"
        )


def test_names_are_short_enough_for_what_kuberay_adds_and_still_differ():
    long = [f"{'an_experiment_with_a_name_that_does_not_end' * 2}"[:62] + end for end in "ab"]
    names = {yaml.safe_load(rendered("kuberay", name=name))["metadata"]["name"] for name in long}
    assert len(names) == 2
    # KubeRay: 53 for a cluster, less 6 for its own ending and 9 for the minute of the tick.
    assert all(len(name) <= 53 - 6 - 9 for name in names)
    assert all(re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name) for name in names)


def test_a_crontab_line_names_its_zone():
    lines = [line for line in rendered("cron").splitlines() if not line.startswith("#")]
    assert lines[0] == f"CRON_TZ={BERLIN}"
    assert lines[1].startswith("0 3 * * 1 cd /")
    assert lines[1].endswith(" -m pipeline retrain jobs/two_digits.yaml")


@pytest.mark.parametrize("line", ["0 3 * * 1", "*/20 1-4 * * MON-FRI", "30 5 1,15 JAN,JUL *"])
def test_systemd_reads_its_calendar_as_the_line_is_meant(line):
    (calendar,) = re.findall("OnCalendar=(.*)", rendered("systemd", cron=line))
    if shutil.which("systemd-analyze") is None:  # then the text is all there is to look at
        assert calendar.endswith(BERLIN)
        return
    told = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=5", "--base-time=2026-01-05 00:00:00 UTC",
         calendar], capture_output=True, text=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    times = re.findall(r"(?:Next elapse|Iter\. #\d): \w+ ([\d-]+ [\d:]+) UTC", told.stdout)
    assert [t.replace(" ", "T")[:16] for t in times] == due(line, "2026-01-05T01:00")


def test_a_path_that_a_manifest_cannot_hold_is_refused():
    job = check_job({**PLAIN, "retrain": {"cron": "0 3 * * 1", "zone": "UTC"}}, "job")
    with pytest.raises(JobError, match="not a path that a schedule can hold"):
        render(job, "jobs/a;rm -rf b.yaml", "cron")


@pytest.mark.parametrize(
    ("section", "words"),
    [({"cron": "0 3 * *", "zone": "UTC"}, "4 fields"), ({"cron": "0 3 * * 1", "zone": "Mars"},
     "zone is 'Mars', no time zone"), ({"cron": "0 3 * * 1"}, "zone: missing")],
)  # fmt: skip
def test_a_job_file_with_a_wrong_schedule_is_refused_with_its_key(section, words):
    with pytest.raises(JobError, match=rf"^job: retrain.*{words}") as refused:
        check_job({**PLAIN, "retrain": section}, "job")
    assert "\n" not in str(refused.value)
