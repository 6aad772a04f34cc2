"""How a job file is read: once, strictly, with the line and key path of every fault."""

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import JobError
from pipeline.job import Job, job_schema

MAX_BYTES = 1 << 20
MAX_DEPTH = 20
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
BARE_EXPONENT = re.compile(r"^[+-]?\d+(\.\d*)?[eE][+-]?\d+$")
Path_ = tuple[str, ...]
Places = dict[Path_, str]


def read_job(
    path: str | Path, sets: Sequence[str] = (), env: Mapping[str, str] = os.environ
) -> Job:
    """The job in a file, with ``--set key.path=value`` laid over it.

    Raises JobError: one line for each fault, naming file, line, key path, what was found and the
    nearest right thing.
    """
    plain, places = parse(_text(path), str(path))
    for assignment in sets:
        places[_override(plain, assignment)] = f"--set {assignment}:"
    plain = _expand(plain, (), str(path), places, env)
    return check_job(plain, str(path), places)


def check_job(plain: Any, where: str, places: Places | None = None) -> Job:
    """A job from plain values; ``places`` says for the messages where each key path stands."""
    try:
        # Through JSON, where strictness means the types of values, not of their containers.
        return TypeAdapter(Job).validate_json(json.dumps(plain, default=str))
    except ValidationError as fault:
        faults = [_sentence(error, plain) for error in fault.errors()]
    raise JobError(
        "\n".join(f"{_place(path, where, places or {})} {text}" for path, text in faults)
    ) from None


def dump_job(job: Job) -> str:
    """YAML of a job with every default filled in; reading it gives an equal job."""
    from pipeline.values import to_plain

    return yaml.safe_dump(to_plain(job), sort_keys=False, allow_unicode=True)


def _text(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        here = sorted(str(p) for p in Path("jobs").glob("*.yaml"))
        near = difflib.get_close_matches(str(path), here, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "give the path of a job file"
        raise JobError(f"{path}: no such file; {hint}") from None
    except OSError as fault:
        raise JobError(f"{path}: {fault.strerror}; give the path of a job file") from None
    if len(data) > MAX_BYTES:
        raise JobError(f"{path}: larger than 1 MiB; this is not a job file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise JobError(f"{path}: byte {fault.start} is not UTF-8; save it as UTF-8") from None


def parse(text: str, where: str) -> tuple[dict[str, Any], Places]:
    """The plain mapping and where each key path stands, as ``file:line:``."""
    places: Places = {}
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise JobError(f"{where}: nested too deeply; this is not a job file")
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise JobError(
                    f"{where}:{line}: *{event.anchor}: aliases are not read; write the value out"
                )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _walk(node, (), where, places)
        plain = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError) as fault:
        mark: yaml.Mark | None = getattr(fault, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        problem = getattr(fault, "problem", None) or str(fault).splitlines()[0]
        if "\\t" in problem:
            problem = "a tab is used to indent; use spaces"
        raise JobError(f"{where}:{line}: not YAML: {problem}") from None
    if plain is None:
        raise JobError(f"{where}: empty; a job needs name, data, model and train")
    if not isinstance(plain, dict):
        raise JobError(
            f"{where}:1: a job file is a mapping of keys (name, data, …), found {_show(plain)}"
        )
    return plain, places


def _walk(node: yaml.Node | None, path: Path_, where: str, places: Places) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        here = (*path, str(key.value))
        place = f"{where}:{key.start_mark.line + 1}:"
        if here in places:
            raise JobError(
                f"{place} {'.'.join(here)}: stands twice, first at {places[here][:-1]}; keep one"
            )
        places[here] = place
        _walk(value, here, where, places)


def _override(plain: dict[str, Any], assignment: str) -> Path_:
    """Lays one assignment over the job; its key path."""
    path, equals, text = assignment.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise JobError(f"--set {assignment}: write it as --set key.path=value")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise JobError(f"--set {assignment}: aliases are not read; write the value out")
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, OverflowError):
        raise JobError(f"--set {assignment[:80]}: not a YAML value") from None
    for key in keys[:-1]:
        plain[key] = {} if plain.get(key) is None else plain[key]  # null is a section left out
        if not isinstance(plain := plain[key], dict):
            raise JobError(f"--set {assignment}: {key} is a value, not a section")
    plain[keys[-1]] = value
    return tuple(keys)


def _expand(value: Any, path: Path_, where: str, places: Places, env: Mapping[str, str]) -> Any:
    """``${NAME}`` and ``${NAME:-default}`` in texts, from the environment."""
    if isinstance(value, dict):
        return {k: _expand(v, (*path, str(k)), where, places, env) for k, v in value.items()}
    if not isinstance(value, str):
        return value

    def one(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = env.get(name, default)
        if found is None:
            raise JobError(
                f"{_place(path, where, places)} {'.'.join(path)}: the environment variable {name} "
                f"is not set; export it or write ${{{name}:-default}}"
            )
        return found

    return VARIABLE.sub(one, value)


def _place(path: Path_, where: str, places: Places) -> str:
    """Where a key path stands, or the nearest section above it."""
    while path and path not in places:
        path = path[:-1]
    return places.get(path, f"{where}:")


def _show(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value[:60]!r}"
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "nothing (null)"}[value]
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, tuple | list):
        return "a list"
    return f"{value!r}"[:60]


def key_paths() -> list[str]:
    """Every key path that a job file may have, from the schema."""
    schema, found = job_schema(), set[str]()

    def visit(part: Any, path: str) -> None:
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
        for choice in (*part.get("anyOf", ()), *part.get("oneOf", ())):
            visit(choice, path)
        for name, inner in part.get("properties", {}).items():
            here = f"{path}.{name}" if path else name
            found.add(here)
            visit(inner, here)

    visit(schema, "")
    return sorted(found)


def _nearest(path: str) -> str:
    """The key path that was most likely meant."""
    known = key_paths()
    section, _, last = path.rpartition(".")
    if path in known:
        return f"another kind of {section} has it; leave it out, or choose that kind"
    siblings = {p.rpartition(".")[2]: p for p in known if p.rpartition(".")[0] == section}
    elsewhere = {p.rpartition(".")[2]: p for p in reversed(known)}
    for names in (siblings, elsewhere):
        if near := difflib.get_close_matches(last, names, 1, 0.6):
            return f"did you mean {names[near[0]]}?"
    initials = "".join(word[0] for word in last.split("_") if word)
    if initials in siblings:
        return f"did you mean {siblings[initials]}?"
    return f"known here: {', '.join(siblings) or 'nothing'}"


def _sentence(error: Mapping[str, Any], plain: Any) -> tuple[Path_, str]:
    """Key path in the file, and one line for a person."""
    # Pydantic puts the tag of a chosen union member into the path; it is no key of the file.
    path: Path_ = ()
    value = plain
    for part in error["loc"]:
        if isinstance(value, dict) and str(part) in value:
            value = value[str(part)]
            path = (*path, str(part))
        elif part == error["loc"][-1] and error["type"] == "missing":
            path = (*path, str(part))
    name = ".".join(path) or "the job"
    kind, found = error["type"], _show(error.get("input"))
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return path, f"{name}: unknown key; {_nearest(name)}"
    if kind == "missing":
        return path, f"{name}: missing; every job needs it"
    if kind == "union_tag_not_found":
        tag = error["ctx"]["discriminator"].strip("'")
        return path, f"{name}.{tag}: missing; it names the kind of {path[-1]}"
    if kind in ("union_tag_invalid", "literal_error"):
        if kind == "union_tag_invalid":
            tag = error["ctx"]["discriminator"].strip("'")
            name, found = f"{name}.{tag}", _show(error["ctx"]["tag"])
        choices = error["ctx"].get("expected_tags") or error["ctx"]["expected"]
        near = difflib.get_close_matches(
            found.removeprefix("the text ").strip("'"), re.findall(r"\w+", choices), 1
        )
        hint = f"; did you mean {near[0]}?" if near else ""
        return path, f"{name}: found {found}, expected {choices}{hint}"
    if kind == "value_error":
        return path, f"{name}: {error['ctx']['error']}"
    wanted = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    text = error.get("input")
    hint = ""
    if isinstance(text, str) and BARE_EXPONENT.match(text):
        mantissa, exponent = re.split("[eE]", text)
        point = mantissa if "." in mantissa else mantissa + ".0"
        sign = exponent if exponent[0] in "+-" else "+" + exponent
        hint = f"; YAML reads {text} as text: write {point}e{sign}"
    return path, f"{name}: expected {wanted}, found {found}{hint}"
