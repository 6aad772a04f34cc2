"""Prometheus' own answer to every alert and every panel of infra/, from series that it scraped."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from pipeline.errors import TrainingError
from pipeline.exporter import SERIES, Exporter
from pipeline.lease import hold
from pipeline.run import run
from pipeline.terminal import Terminal
from pipeline.train import train
from pipeline.worker import Worker
from tests.cluster import Head
from tests.prometheus_server import PROMETHEUS, Ask, prometheus, until
from tests.test_exporter import seeded, serving
from tests.test_retrain import tick, weekly
from tests.test_train import Killed, kill_at
from tests.tiny import PLAIN, prepared

ROOT = Path(__file__).parents[1]
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]


def queries(dashboard: str) -> dict[str, str]:
    """Panel and letter → what it asks, of all runs, champions and searches."""
    path = ROOT / "infra/grafana/dashboards" / f"{dashboard}.json"
    return {
        f"{panel['title']} {target['refId']}": re.sub(r"\$\w+", ".*", target["expr"])
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    }


QUERIES, STORED = queries("training"), queries("storage")
MADE = re.compile(r'series\(\s*(Gauge|Counter), "(draw_\w+)"')
NODE = {"ray_node_disk_free": 9e9, "ray_node_disk_usage": 1e9, "ray_node_cpu_utilization": 50.0}
SEARCH = {"space": {"train.lr": {"grid": [0.001, 0.01]}}, "scheduler": {"kind": "none"}}
DIVERGING = {"lr": 999.0, "max_skipped_steps": 0, "clip_norm": None, "total_epochs": 30}
GPU = {"ray_node_gpus_utilization": 90.0}


def trained() -> dict[str, str]:
    """Every series that training makes, as Ray exports it → its kind, read from the source."""
    source = (ROOT / "pipeline" / "telemetry.py").read_text()
    ends = {"Gauge": "", "Counter": "_total"}
    return {f"ray_{name}{ends[kind]}": kind.lower() for kind, name in MADE.findall(source)}


def exposition(run: str, started: float) -> str:
    """Two workers of a run that does a step a second, and the node that they are on."""
    lines = []
    for name, kind in trained().items():
        lines.append(f"# TYPE {name} {kind}")
        growing = kind == "counter" or name == "ray_draw_step"
        value = 10 * (time.monotonic() - started) if growing else 0.1
        if "timestamp" in name:
            value = time.time() - 5
        for rank in "01":
            tags = f'run="{run}",rank="{rank}",WorkerId="w{rank}",NodeAddress="127.0.0.1"'
            lines.append(f"{name}{{{tags}}} {value}")
    for name, value in (NODE | GPU).items():
        extra = ',GpuIndex="0"' if name in GPU else ""
        lines += [f"# TYPE {name} gauge", f'{name}{{IsHeadNode="true"{extra}}} {value}']
    return "\n".join(lines) + "\n"


@contextmanager
def exporter(run: str) -> Iterator[int]:
    started = time.monotonic()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition(run, started).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """Nothing: a scrape a second is no news."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    folder = tmp_path_factory.mktemp("prometheus")
    discovery = folder / "targets.json"
    with exporter("svhn-0123456789") as port:
        target = {"labels": {"job": "ray"}, "targets": [f"127.0.0.1:{port}"]}
        discovery.write_text(json.dumps([target]))
        with prometheus(folder, discovery) as asking:
            until(lambda: asking("count_over_time(ray_draw_step[1m]) > 5"), 30)
            until(lambda: asking("ALERTS"), 30)
            yield asking


@pytest.mark.parametrize(
    "words",
    [("check", "config", "prometheus.yml"), ("check", "rules", "--lint=all", "rules.yml"),
     ("test", "rules", "rules_test.yml")],
    ids=" ".join,
)  # fmt: skip
def test_promtool_passes(words):
    done = subprocess.run(
        ["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout


def test_every_alert_has_a_test_that_sees_it_fire_and_says_what_to_do():
    tests = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in RULES}
    assert all(rule["annotations"]["action"].endswith(".") for rule in RULES)


def test_only_series_that_there_are_are_asked_for_and_all_of_training_are_shown():
    named = re.compile(r"\bray_\w+")
    known = set(trained()) | set(NODE) | set(GPU)
    assert len(trained()) >= 17
    shown = {name for query in QUERIES.values() for name in named.findall(query)}
    alerted = {name for rule in RULES for name in named.findall(rule["expr"])}
    assert shown | alerted <= known
    assert shown >= set(trained())


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_prometheus_answers_the_query_of_a_panel(ask, query):
    found = ask(query)
    assert found
    names = {name for one in found for name in one["metric"]}
    assert names <= {"run", "rank", "instance", "GpuIndex", "alertname"}
    assert all(float(one["value"][1]) >= 0 for one in found)


def test_the_variable_of_the_dashboard_finds_the_run(ask):
    assert [one["metric"]["run"] for one in ask("group by (run) (ray_draw_step)")] == [
        "svhn-0123456789"
    ]


def test_prometheus_evaluates_every_alert_and_this_run_fires_the_one_it_should(ask):
    for rule in RULES:
        ask(rule["expr"])
    assert {one["metric"]["alertname"] for one in ask("ALERTS")} == {"StepsSkipped"}
    assert ask("prometheus_rule_evaluation_failures_total > 0") == []
    assert ask("ray_draw_step{otel_scope_name!=''}") == []


@pytest.fixture(scope="module")
def ask_exporter(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Prometheus on the exporter of a storage with two ticks, a search, and runs that did not end
    well, all of them real; someone is at work on the next tick."""
    folder = tmp_path_factory.mktemp("told")
    url = f"file://{folder}/store"
    job = folder / "search.yaml"
    job.write_text(json.dumps({**PLAIN, "name": "searched", "storage": url, "search": SEARCH}))
    done = head.drive("run", str(job))
    assert done.returncode == 0, done.stderr[-2000:]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DRAW_CACHE", str(folder / "cache"))
        for week in (0, 1):
            tick(weekly(url), week)
        with pytest.raises(TrainingError):
            run(seeded(url, 3, **DIVERGING), Terminal(quiet=True), without_ray=True)
        killed = seeded(url, 4)
        manifest, storage = prepared(killed)
        with pytest.raises(Killed):
            train(killed, manifest, storage, Worker(progress=kill_at(5)))
    told = Exporter(storage)
    with hold(storage, "champions/tiny/lease"), serving(told) as page:
        told.read()
        with prometheus(folder, exporter=page.split("/")[2]) as asking:
            until(lambda: asking("count_over_time(draw_storage_up[1m]) > 3"), 30)
            until(lambda: asking("ALERTS{alertname='RunFailed'}"), 30)
            yield asking


@pytest.mark.cluster
@pytest.mark.parametrize("query", STORED.values(), ids=STORED)
def test_prometheus_answers_the_query_of_a_panel_about_the_storage(ask_exporter, query):
    found = ask_exporter(query)
    assert found
    names = {name for one in found for name in one["metric"]}
    assert names <= {"champion", "study", "kind", "metric", "run", "status", "folder", "instance",
                     "alertname"}  # fmt: skip
    assert all(float(one["value"][1]) >= 0 for one in found)


@pytest.mark.cluster
def test_prometheus_tells_of_the_run_that_failed_and_waits_with_what_may_pass(ask_exporter):
    """The ticks were due in a spring long past, so they are late and their champion is old."""
    states = {"RunFailed": "firing", "ScheduleLate": "pending", "ChampionStale": "pending"}
    found = [one["metric"] for one in ask_exporter("ALERTS")]
    assert {one["alertname"]: one["alertstate"] for one in found} == states
    assert ask_exporter("prometheus_rule_evaluation_failures_total > 0") == []
    (study,) = ask_exporter("group by (study) (draw_study_trials_wanted)")
    assert study["metric"]["study"].startswith("searched-")
    (trials,) = ask_exporter("draw_study_trials > 0")
    assert (trials["metric"]["status"], trials["value"][1]) == ("finished", "2")
    (champion,) = ask_exporter("group by (champion) (draw_champion_decisions)")
    assert champion["metric"] == {"champion": "tiny"}


def test_only_series_that_the_exporter_has_are_asked_for_and_all_of_them_are_shown():
    named = re.compile(r"\bdraw_\w+")
    own = {"draw_storage_up", "draw_storage_read_timestamp_seconds", "draw_storage_read_seconds"}
    known = own | {f"draw_{name}" for name in SERIES}
    shown = {name for query in STORED.values() for name in named.findall(query)}
    alerted = {name for rule in RULES for name in named.findall(rule["expr"])}
    assert shown | alerted <= known
    assert shown == known


@pytest.mark.cluster
def test_a_ray_node_is_found_by_its_heads_list_and_has_the_series_of_nodes(
    head: Head, tmp_path: Path
):
    discovery = Path(head.environment["RAY_TMPDIR"], "ray", "prom_metrics_service_discovery.json")
    listed = re.compile(rf'"([^"]+:{head.metrics_port})"')  # by the machine's own address
    found = until(lambda: discovery.exists() and listed.search(discovery.read_text()), 60)
    node = found[1]
    assert discovery.stat().st_mode & 0o004, "Prometheus runs as another user"
    with prometheus(tmp_path, discovery) as asking:
        for name in NODE:
            until(lambda name=name: asking(f'{name}{{job="ray",instance="{node}"}}'), 60)
        (free,) = asking(QUERIES["Free disk A"])
        assert 0 < float(free["value"][1]) < 1
        assert not asking(f'up{{instance="{node}"}} == 0')
