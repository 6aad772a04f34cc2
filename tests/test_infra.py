"""Every file of infra/, through the strictest validator that there is for its kind."""

import json
import re
import shutil
import stat
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import boto3
import kubernetes_validate
import pytest
import yaml
from botocore.validate import ParamValidator
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

from infra import store
from infra.alive import alive
from pipeline.__main__ import parsed
from pipeline.cluster import ENVIRONMENT
from pipeline.commands import VERBS
from pipeline.exporter import PORT
from pipeline.job_file import read_job
from pipeline.schedule_render import render
from pipeline.storage import open_storage
from tests.cluster import free_port
from tests.ray_kinds import SPECS, ClusterSpec, CronJobSpec, JobSpec

ROOT = Path(__file__).parents[1]
INFRA = ROOT / "infra"
BIN = Path(sys.executable).parent
KUBERAY = sorted((INFRA / "kuberay").glob("*.yaml"))
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
DOCKERFILE = (INFRA / "Dockerfile").read_text()
EXPORTER = yaml.safe_load((INFRA / "kuberay" / "exporter.yaml").read_text())
DASHBOARDS = sorted((INFRA / "grafana" / "dashboards").glob("*.json"))
UNITS = {"m": 1e-3, "": 1.0, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def passes(*command: str | Path) -> None:
    done = subprocess.run(
        [str(BIN / str(command[0])), *map(str, command[1:])], cwd=ROOT, text=True,
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def amount(quantity: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(\D*)", quantity).groups()
    return float(number) * UNITS[unit]


def kind(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def ray_spec(name: str) -> Any:
    document = kind(INFRA / "kuberay" / name)
    assert document["apiVersion"] == "ray.io/v1"
    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    return SPECS[document["kind"]].model_validate(document["spec"])


def jobs_of_infra() -> list[JobSpec]:
    return [ray_spec("rayjob.yaml"), ray_spec("raycronjob.yaml").jobTemplate]


def clusters() -> list[ClusterSpec]:
    return [ray_spec("raycluster.yaml"), *(job.rayClusterSpec for job in jobs_of_infra())]


def pod_templates() -> list[dict[str, Any]]:
    """Each pod template of all manifests, those inside Ray's own kinds included."""
    cron = kind(INFRA / "kuberay" / "cronjob.yaml")["spec"]["jobTemplate"]["spec"]["template"]
    inside = [template for cluster in clusters() for template in cluster.templates()]
    return [
        cron, EXPORTER["spec"]["template"], *inside,
        *(job.submitterPodTemplate for job in jobs_of_infra()),
    ]  # fmt: skip


def containers() -> list[dict[str, Any]]:
    return [one for template in pod_templates() for one in template["spec"]["containers"]]


def test_the_dockerfile_passes_hadolint():
    passes("hadolint", "--failure-threshold", "style", INFRA / "Dockerfile")


def test_scripts_pass_shellcheck_and_yaml_files_pass_yamllint():
    passes("shellcheck", "--severity", "style", *sorted(INFRA.rglob("*.sh")))
    passes("yamllint", "--strict", "-c", INFRA / "yamllint.yaml", INFRA)


def test_compose_passes_its_schema_and_refers_only_to_what_is_there():
    passes("check-jsonschema", "--builtin-schema", "vendor.compose-spec", INFRA / "compose.yaml")
    services = COMPOSE["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", [])) <= set(services), name
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            named = source in COMPOSE["volumes"]
            assert named or source == "./data" or (INFRA / source).exists(), volume
        tag = service["image"].partition(":")[2]
        assert service["image"] == "draw-pipeline" or re.fullmatch(r"v?\d+\.\d+\.\d+", tag)


def test_compose_opens_ports_on_loopback_only_and_takes_secrets_from_a_file_outside_git():
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert service["cap_drop"] == ["ALL"], name
        assert not [key for key in service.get("environment", {}) if "TOKEN" in key.upper()]
    for name in ("head", "worker"):
        service = COMPOSE["services"][name]
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["env_file"] == ["compose.env"]
        assert service["shm_size"] == "1gb"
    ignored = subprocess.run(["git", "check-ignore", "-q", "infra/compose.env"], cwd=ROOT)
    assert ignored.returncode == 0


def test_the_env_file_is_made_once_and_for_its_owner_only(tmp_path):
    for name in ("make_env.sh", "compose.env.example"):
        shutil.copy(INFRA / name, tmp_path)
    made = tmp_path / "compose.env"
    texts = set()
    for _ in range(2):
        subprocess.run(["sh", tmp_path / "make_env.sh"], check=True, capture_output=True)
        texts.add(made.read_text())
    (text,) = texts
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    values = dict(line.split("=") for line in text.splitlines())
    assert set(values) == {"RAY_AUTH_TOKEN", "GF_SECURITY_ADMIN_PASSWORD"}
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in values.values())
    assert len(set(values.values())) == 2


def test_the_image_installs_what_the_project_needs_and_holds_only_what_runs():
    program = re.search(r'python -c "(.*?)" > /tmp/needed.txt', DOCKERFILE, re.DOTALL)[1]
    printed = subprocess.run(
        ["sh", "-c", f'"$0" -c "{program}"', sys.executable], cwd=ROOT, capture_output=True,
        text=True, check=True,
    ).stdout  # fmt: skip
    names = {Requirement(line).name for line in printed.splitlines()}
    needed = [Requirement(line) for line in metadata.requires("draw-pipeline") or []]
    assert names >= {one.name for one in needed if not one.marker} | {"swift", "optuna"}
    copied = re.findall(r"^COPY (?:--\S+ )?(.*) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {word for line in copied for word in line.split()}
    kept = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sources == set(kept)
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_is_not_root_and_starts_in_the_projects_root_with_executable_jobs():
    user = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)[-1]
    assert user == "${USER_ID}"
    assert "ARG USER_ID=10001" in DOCKERFILE
    assert re.findall(r"^WORKDIR (.*)$", DOCKERFILE, re.MULTILINE) == ["/draw"]
    assert "COPY --chmod=755 jobs jobs" in DOCKERFILE
    assert {one.get("workingDir", "/draw") for one in containers()} == {"/draw"}


def test_nodes_start_with_the_environment_that_the_pipeline_means():
    script = (INFRA / "ray-up" / "environment.sh").read_text()
    for name, value in (ENVIRONMENT | {"RAY_AUTH_MODE": "token"}).items():
        assert re.search(rf"\b{name}={re.escape(value)}[ \n]", DOCKERFILE), name
        assert f"export {name}={value}\n" in script


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_a_manifest_passes_the_strict_schema_of_its_kind(path):
    document = kind(path)
    assert re.fullmatch(r"[a-z0-9-]+", document["metadata"]["name"])
    if document["apiVersion"].startswith("ray.io/"):
        ray_spec(path.name)
    else:
        kubernetes_validate.validate(document, "1.34", strict=True)


def test_every_pod_template_is_a_pod_that_the_strict_schema_accepts():
    for template in pod_templates():
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {"name": "one", **template["metadata"]}
        kubernetes_validate.validate(pod, "1.34", strict=True)


def test_every_container_is_bounded_and_confined_and_one_of_ray_takes_its_token_from_a_secret():
    for one in containers():
        requests, limits = (one["resources"][key] for key in ("requests", "limits"))
        assert {"cpu", "memory", "ephemeral-storage"} <= set(requests) == set(limits)
        assert all(amount(requests[name]) <= amount(limits[name]) for name in limits)
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        environment = {entry["name"]: entry for entry in one["env"]}
        if one["name"] == "exporter":  # it has nothing to do with Ray
            assert set(environment) == {"HOME"}
            continue
        assert environment["RAY_AUTH_MODE"]["value"] == "token"
        reference = environment["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "draw-ray-token", "key": "auth_token"}
    for template in pod_templates():
        context = template["spec"]["securityContext"]
        assert context["runAsNonRoot"]
        assert context["runAsUser"] == 10001
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "draw"


def test_ray_pods_have_probes_shared_memory_and_the_store_by_reference():
    for cluster in clusters():
        assert cluster.authOptions.mode == "token"
        assert cluster.authOptions.secretName == "draw-ray-token"
        assert cluster.rayVersion == metadata.version("ray")
        for template in cluster.templates():
            (one,) = template["spec"]["containers"]
            assert one["livenessProbe"]["httpGet"]["port"] == 52365
            assert "readinessProbe" in one
            assert one["envFrom"] == [
                {"configMapRef": {"name": "draw"}}, {"secretRef": {"name": "draw-s3"}},
            ]  # fmt: skip
            volumes = {volume["name"]: volume["emptyDir"] for volume in template["spec"]["volumes"]}
            assert volumes["shared-memory"]["medium"] == "Memory"
            mounts = {mount["mountPath"]: mount["name"] for mount in one["volumeMounts"]}
            assert mounts["/dev/shm"] == "shared-memory"
            assert set(mounts.values()) == set(volumes)
        gpu = cluster.workerGroupSpecs[-1].template["spec"]
        assert gpu["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert "nvidia.com/gpu" in [one["key"] for one in gpu["tolerations"]]


def test_the_exporter_is_reached_by_its_service_and_by_prometheus_alone():
    service = kind(INFRA / "kuberay" / "exporter-service.yaml")["spec"]
    template = EXPORTER["spec"]["template"]
    labels = EXPORTER["spec"]["selector"]["matchLabels"]
    assert service["selector"] == labels == template["metadata"]["labels"]
    assert not [
        one
        for one in pod_templates()
        if one is not template and labels.items() <= one["metadata"]["labels"].items()
    ]
    (one,) = template["spec"]["containers"]
    (port,) = one["ports"]
    assert service["type"] == "ClusterIP"
    assert service["ports"][0]["targetPort"] == port["name"]
    assert service["ports"][0]["port"] == port["containerPort"] == PORT
    options = parsed(VERBS, one["command"][3:])
    assert (options.verb, options.host, options.port) == ("exporter", "0.0.0.0", PORT)
    assert [*one["envFrom"][0], *one["envFrom"][1]] == ["configMapRef", "secretRef"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert one[probe]["httpGet"] == {"path": "/metrics", "port": port["name"]}
    policy = kind(INFRA / "kuberay" / "networkpolicy.yaml")["spec"]["ingress"]
    ports = [[port["port"] for port in rule.get("ports", [])] for rule in policy]
    open_to = [rule["from"] for rule, there in zip(policy, ports, strict=True) if PORT in there]
    assert open_to == [
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    ]
    scraped = yaml.safe_load((INFRA / "prometheus" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job.get("static_configs") for job in scraped["scrape_configs"]}
    assert targets["storage"] == [{"targets": [f"exporter:{PORT}"]}]
    compose = COMPOSE["services"]["exporter"]
    assert "ports" not in compose
    assert compose["healthcheck"]["test"][-1] == f"http://127.0.0.1:{PORT}/metrics"


def test_one_cluster_and_one_job_are_meant_by_all_manifests():
    cluster, *inside = clusters()
    assert inside == [cluster, cluster]
    job, scheduled = jobs_of_infra()
    tick = f"python -m pipeline retrain {job.entrypoint}"
    assert scheduled == job.model_copy(update={"entrypoint": tick})
    assert job.submissionMode == "K8sJobMode"
    assert job.backoffLimit > 0
    cron = kind(INFRA / "kuberay" / "cronjob.yaml")["spec"]
    ray_cron = ray_spec("raycronjob.yaml")
    assert isinstance(ray_cron, CronJobSpec)
    assert (cron["schedule"], cron["timeZone"]) == (ray_cron.schedule, ray_cron.timeZone)
    ZoneInfo(ray_cron.timeZone)
    assert cron["concurrencyPolicy"] == "Forbid"
    (submit,) = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    name = kind(INFRA / "kuberay" / "raycluster.yaml")["metadata"]["name"]
    assert submit["command"][-2:] == [f"http://{name}-head-svc:8265", "--"]
    assert submit["args"] == tick.split()
    assert read_job(str(ROOT / job.entrypoint)).name == "svhn"


def test_what_is_rendered_for_the_example_is_the_file_that_is_here():
    job = read_job(str(ROOT / "jobs" / "svhn.yaml"))
    for kind, name in (("kubernetes", "cronjob"), ("kuberay", "raycronjob")):
        written = (INFRA / "kuberay" / f"{name}.yaml").read_text()
        assert render(job, "jobs/svhn.yaml", kind) == written


@pytest.mark.parametrize("name", ["aws", "local"])
def test_ray_up_takes_the_cluster_file(name):
    config = yaml.safe_load((INFRA / "ray-up" / f"{name}.yaml").read_text())
    validate_config(prepare_config(config))
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    assert all(line.startswith(". ~/draw/infra/ray-up/environment.sh") for line in starts)
    for script in (*starts, *config["setup_commands"], *config.get("initialization_commands", [])):
        subprocess.run(["sh", "-n", "-c", script], check=True)


def test_amazon_would_accept_the_machines_that_are_asked_for():
    config = yaml.safe_load((INFRA / "ray-up" / "aws.yaml").read_text())
    session = boto3.session.Session(region_name=config["provider"]["region"])
    shape = session.client("ec2").meta.service_model.operation_model("RunInstances").input_shape
    for node in config["available_node_types"].values():
        asked = {**node["node_config"], "MinCount": 1, "MaxCount": 1}
        report = ParamValidator().validate(asked, shape)
        assert not report.has_errors(), report.generate_report()
    market = config["available_node_types"]["gpu"]["node_config"]["InstanceMarketOptions"]
    assert market == {"MarketType": "spot"}


def test_no_file_holds_a_credential():
    """A name that sounds of a secret is given no value but a path, a variable or a reference."""
    given = re.compile(
        r"(?i)(secret|token|password|access_key)\w*[\"']?\s*[:=]\s*[\"']?[^\s~/${\"']"
    )
    references = {"secretName", "HttpTokens", "automountServiceAccountToken"}
    for path in (*INFRA.rglob("*"), ROOT / ".dockerignore"):
        if path.is_dir() or "__pycache__" in path.parts or path.name == "compose.env":
            continue
        text = path.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|\b[0-9a-f]{32,}\b", text), path
        for line in text.splitlines() if path.suffix != ".py" else []:
            assert not given.search(line) or any(name in line for name in references), line


def test_the_store_is_reached_through_the_forwarded_port(s3_server: store.Running):
    inner, port = s3_server.endpoint.rpartition(":")[2], free_port()
    endpoint = f"http://127.0.0.1:{port}"
    assert not alive(endpoint)
    command = [sys.executable, "-m", "infra.forward", str(port), inner, "127.0.0.1"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            deadline = time.monotonic() + 20
            while not alive(endpoint) and time.monotonic() < deadline:
                time.sleep(0.05)
            storage = open_storage(f"s3://{s3_server.bucket}/forwarded", endpoint)
            storage.preflight().require_create_once()
            storage.write("large", bytes(3_000_000))
            assert storage.read("large") == bytes(3_000_000)
        finally:
            process.terminate()


def test_dashboards_are_told_apart():
    read = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({one["uid"] for one in read}) == len({one["title"] for one in read}) == len(read)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_says_what_it_shows_and_nothing_twice(path):
    panels = json.loads(path.read_text())["panels"]
    assert all(panel["description"] for panel in panels if panel["type"] != "row")
    assert all(
        panel["fieldConfig"]["defaults"]["unit"] for panel in panels if panel["type"] != "row"
    )
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    corners = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(corners) == len(panels)
    source = yaml.safe_load(
        (INFRA / "grafana" / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    )["datasources"][0]
    used = {target["datasource"]["uid"] for panel in panels for target in panel["targets"]}
    assert used == {source["uid"]}
    folder = yaml.safe_load(
        (INFRA / "grafana" / "provisioning" / "dashboards" / "draw.yaml").read_text()
    )["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{folder}:ro" in COMPOSE["services"]["grafana"]["volumes"]
