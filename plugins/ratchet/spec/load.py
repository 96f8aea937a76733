"""Read a spec file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ratchet.document import Document, KeyPath, Problem, SpecError, dotted, read_document
from ratchet.location import behaviour_path, resolve_model, resolve_source
from ratchet.spec.gate import Slice
from ratchet.spec.notification import Notification
from ratchet.spec.pipeline import PipelineSpec, Sections, sections
from ratchet.spec.problems import nearest, problem_of
from ratchet.spec.section import Section
from ratchet.spec.trigger import NewData

RESERVED_NAMES = ("airflow", "ratchet", "serving", "training")  # dags/ is on Airflow's import path
# where ${NAME} and relative paths are resolved
LOCATIONS = {
    ("data", "source"): resolve_source,
    ("data", "validation"): resolve_source,
    ("data", "test"): resolve_source,
    ("train", "base_model"): resolve_model,
}


def load_spec(path: Path, environment: Mapping[str, str] = os.environ) -> PipelineSpec:
    """
    Read ``NAME.yaml``.

    :param environment: what ``${NAME}`` in a location stands for.
    :raises SpecError: everything that is wrong with the file, with lines.
    """
    name = _name(path)
    document = read_document(path)
    values, problems = _resolve_locations(document, path, environment)
    try:
        checked = Sections.model_validate(values)
    except ValidationError as error:
        problems += [
            problem_of(each, document, _keys_beside, _other_sections) for each in error.errors(include_url=False)
        ]
    else:
        problems += _problems_between_keys(checked, document)
    if problems := document.problems + problems:
        raise SpecError(path, problems)
    endpoint = checked.deploy.endpoint or name.replace("_", "-")
    resolved = {**dict(checked), "deploy": checked.deploy.model_copy(update={"endpoint": endpoint})}
    behaviour = []
    if (tests := behaviour_path(path)).exists():
        from ratchet.behaviour import load_behaviour  # which is made of the parts here, and few pipelines need it

        behaviour = load_behaviour(tests)
    return PipelineSpec.model_construct(name=name, path=path.absolute(), behaviour=behaviour, **resolved)


def _name(path: Path) -> str:
    """:return: the pipeline's name, which is also a DAG's, a registered model's and, with hyphens, an endpoint's."""
    if path.suffix != ".yaml" or not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", path.stem):
        message = "expected a file NAME.yaml, NAME of at most 63 lower-case letters, digits, - and _, no - or _ first."
    elif path.stem in RESERVED_NAMES:
        message = f"the name {path.stem!r} would hide the package {path.stem}; choose another."
    else:
        return path.stem
    raise SpecError(path, [Problem(1, "", message)])


def _resolve_locations(
    document: Document, path: Path, environment: Mapping[str, str]
) -> tuple[dict[str, Any], list[Problem]]:
    """:return: the values with variables replaced and relative paths made absolute; what could not be replaced."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in document.values.items()}
    problems = []
    for (section, key), resolve in LOCATIONS.items():
        holder = values.get(section)
        if not isinstance(holder, dict) or not isinstance(location := holder.get(key), str):
            continue
        try:
            holder[key] = resolve(location, path.absolute().parent, environment)
        except ValueError as error:
            at = (section, key)
            problems.append(Problem(document.line(at), dotted(at), f"{error}, found {document.shown(at)}."))
            holder[key] = "/"  # a value that raises no second problem
    return values, problems


def _problems_between_keys(checked: Sections, document: Document) -> Iterator[Problem]:
    """Yield what is wrong although each key by itself is right."""

    def problem(at: KeyPath, message: str) -> Problem:
        return Problem(document.line(at), dotted(at), message)

    data, new_data = checked.data, checked.trigger.new_data
    locations = [location or "" for location in (data.source, data.validation, data.test)]
    if data.connection and data.query is None and not any(location.startswith("s3://") for location in locations):
        yield problem(("data", "connection"), "nothing here uses it; expected s3:// or a query beside it.")
    if data.phone_region is not None and data.checks.get("personal_data", "ignore") == "ignore":
        yield problem(("data", "phone_region"), "nothing here uses it; expected checks.personal_data beside it.")
    if checked.gate.approval == "never":
        given = {
            "approvers": bool(checked.gate.approvers),
            "approval_hours": "approval_hours" in checked.gate.model_fields_set,
        }
        for key in (key for key, is_given in given.items() if is_given):
            yield problem(("gate", key), "nobody is asked; expected approval: undecided or always beside it.")
        for place in (place for place, one in enumerate(checked.notify) if one.on == ["ask"]):
            yield problem(("notify", place, "on"), "nobody is asked; expected gate.approval: undecided or always.")
    for key in ("stale_after_holds", "stale_after_days"):
        is_given = key in checked.gate.model_fields_set and getattr(checked.gate, key) is not None
        if is_given and not any("stale" in one.on for one in checked.notify):
            yield problem(("gate", key), "nobody is told; expected notify with one whose events, on, have stale.")
    for name, one in checked.gate.slices.items():
        at = ("gate", "slices", name)
        if one.column is not None and one.column not in data.keep:
            kept = nearest(one.column, data.keep) if data.keep else "it names none."
            yield problem((*at, "column"), f"expected a column that data.keep names; {kept}")
        if data.labels and (unknown := [label for label in one.label or () if label not in data.labels]):
            yield problem((*at, "label"), f"no label of data.labels; {nearest(unknown[0], data.labels)}")
        if one.age_days is not None and data.query is not None and data.time is None:
            yield problem((*at, "age_days"), "needs data.time, since the answer to a query has no date of its own.")
    if data.query is not None and data.window_days is not None and data.time is None:
        message = "needs data.time, since the answer to a query has no date of its own."
        yield problem(("data", "window_days"), message)
    if new_data is not None and data.query is not None:
        message = "a query is not watched, since only asking it tells what is new; expected a schedule instead."
        yield problem(("trigger", "new_data"), message)
    elif new_data is not None and new_data.queue is not None and not locations[0].startswith("s3://"):
        message = "expected a source on s3://; nothing else sends notifications."
        yield problem(("trigger", "new_data", "queue"), message)


def _keys_beside(loc: KeyPath) -> list[str]:
    if len(loc) == 1:
        return list(Sections.model_fields)
    inside: dict[str, type[Section]] = {"slices": Slice, "new_data": NewData, "notify": Notification}
    model = next((model for key, model in inside.items() if key in loc[:-1]), None) or sections()[str(loc[0])]
    return [field.alias or name for name, field in model.model_fields.items()]


def _other_sections(loc: KeyPath) -> list[str]:
    return [f"{name}: {loc[-1]}" for name, model in sections().items() if loc[-1] in model.model_fields]
