"""The project's own rules: who imports what, and how long a file may be."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = """
errors values wilson gate schedule retrain_values storage storage_file storage_s3_errors storage_s3
lease
manifest records ending champion retrain_due retrain_manual
fetch sources.contract sources.synthetic sources.mnist sources.fashion_mnist
sources.binarised_mnist sources.affine sources.canvas sources.cluttered sources.two_digits
sources.shares sources.own_files sources.unpacked sources.svhn sources.cifar10 sources.quickdraw
sources.text sources.images sources.digit_struct sources.svhn_numbers sources space
job_optimizer job job_file plan shards datasets prepare cache loader metrics evaluate worker
optimizer checkpoint estimate
recorder retrain_start train cluster telemetry gloo launch contact_sheet pictures curve_lines
curves curve_pictures study captions survey surveyor listing lineage validations starting findings
report publish finished
gallery.codes gallery.epochs gallery.paths gallery.steps gallery.windows gallery.plane
gallery.draws gallery.race gallery
study_stats study_view study_answer study_header study_rows study_page
study_tables study_events study_export serve exporter terminal run tpe trial study_run
tuning
study_progress search study_verbs retrain_check retrain_compare
retrain_news retrain_hook retrain_retention retrain_page retrain schedule_render probe_nodes probe
doctor measures measures.counts measures.matrix measures.cells measures.contract
measures.importance measures.thousand measures.answers measures.further measures.against
measures.classes measures.nearest measures.reach measures.text measure fault_costs results_shows
results_studies results_words results
verbs run_verbs picture_verbs retrain_verbs commands
""".split()  # noqa: SIM905
"""A module of pipeline/ imports, at its top, only from those before it."""
ONLY_IN = {
    "ray": {
        "cluster",
        "gloo",
        "launch",
        "telemetry",
        "trial",
        "tuning",
        "search",
        "probe",
        "probe_nodes",
    },
    "optuna": {"tpe"},
    "tensorboardX": {"study_events"},
    "boto3": {"storage_s3", "storage_s3_errors"},
    "botocore": {"storage_s3", "storage_s3_errors"},
    "webdataset": {"shards"},
    "matplotlib": {"curve_lines", "curves", "curve_pictures", "gallery.plane"},
    "cronsim": {"schedule"},
    "jinja2": {"report"},
    "vl_convert": {"study_page"},
    "prometheus_client": {"exporter"},
    "scipy": {"sources.svhn", "study_stats", "gate", "measures.counts"},
    "h5py": {"sources.digit_struct"},
}
"""Packages that only these modules of pipeline/ may import, anywhere in them."""


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / package).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def imported(nodes: list[ast.stmt] | Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", sorted(ONLY_IN))
def test_a_package_is_imported_only_where_it_belongs(package):
    users = {
        name
        for name, tree in modules("pipeline")
        if any(one.split(".")[0] == package for one in imported(ast.walk(tree)))
    }
    assert users <= ONLY_IN[package]


def test_modules_import_only_from_those_before_them():
    known = dict(modules("pipeline"))
    assert set(known) - {"__init__", "__main__"} == set(ORDER)
    for place, name in enumerate(ORDER):
        for other in imported(known[name].body):
            used = other.removeprefix("pipeline.")
            if other.startswith("pipeline.") and used in ORDER and used != name:
                assert used in ORDER[:place], f"{name} imports {used}"


def test_the_model_knows_neither_pipeline_nor_files_nor_network():
    allowed = {"torch", "numpy", "draw_model", "abc", "collections", "dataclasses", "hashlib",
               "math", "typing"}  # fmt: skip
    for name, tree in modules("draw_model"):
        used = {one.split(".")[0] for one in imported(ast.walk(tree))}
        assert used <= allowed, name
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == "open"]


def test_nothing_is_unpickled_or_evaluated():
    banned = re.compile(
        r"\b(pickle|torch\.load|torch\.save|eval|exec|yaml\.load|yaml\.unsafe)\b\(?"
    )
    for package in ("draw_model", "pipeline", "infra"):
        for path in (ROOT / package).rglob("*.py"):
            calls = [
                ast.unparse(node.func)
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call)
            ]
            assert not [call for call in calls if banned.fullmatch(call)], path
            assert "allow_pickle=True" not in path.read_text()


def test_files_and_functions_stay_short():
    for package in ("draw_model", "pipeline", "infra", "tests"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            assert text.count("\n") <= (260 if package != "tests" else 400), path
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert node.end_lineno is not None
                    assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"
