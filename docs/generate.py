"""
Write what documentation can take from the code: plugins/ratchet/spec.schema.json, docs/spec.md and docs/operators.md.

``make docs`` runs it. It is no part of the package: it reads source code to find what stands beneath each field,
imports every operator and reads the example DAGs.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator

from ratchet.operators.approve import ApproveOperator
from ratchet.operators.choose import ChooseOperator
from ratchet.operators.deploy_local import LocalDeployOperator
from ratchet.operators.evaluate import EvaluateOperator
from ratchet.operators.gate import GateOperator
from ratchet.operators.ingest import IngestOperator
from ratchet.operators.promote import PromoteOperator
from ratchet.operators.reconcile import ReconcileOperator
from ratchet.operators.rollback import RollbackOperator
from ratchet.operators.train import TrainOperator
from ratchet.spec.gate import Slice
from ratchet.spec.notification import Notification
from ratchet.spec.pipeline import Sections, sections
from ratchet.spec.section import Section
from ratchet.spec.trigger import NewData
from training.checks import CHECKS

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "plugins" / "ratchet" / "spec.schema.json"
SPEC_PAGE = ROOT / "docs" / "spec.md"
OPERATORS_PAGE = ROOT / "docs" / "operators.md"
EXAMPLES = ROOT / "plugins" / "ratchet" / "example_dags"

BEGIN, END = "<!-- made by docs/generate.py from here", "to here -->"

# In the order of a pipeline's steps, then of a rollback's
OPERATORS: tuple[type[BaseOperator], ...] = (
    IngestOperator,
    TrainOperator,
    EvaluateOperator,
    GateOperator,
    ApproveOperator,
    LocalDeployOperator,
    PromoteOperator,
    ChooseOperator,
    RollbackOperator,
    ReconcileOperator,
)


def main() -> None:
    SCHEMA.write_text(json.dumps(to_schema(), indent=2) + "\n", encoding="utf-8")
    for page, made_anew in ((SPEC_PAGE, with_tables), (OPERATORS_PAGE, with_reference)):
        page.write_text(made_anew(page.read_text(encoding="utf-8")), encoding="utf-8")


def _with_generated(page: str, made: str) -> str:
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN} -->\n\n{made}\n\n<!-- {END}{tail}"


def to_schema() -> dict[str, Any]:
    """:return: the JSON schema of a spec file, for editors."""
    schema = Sections.model_json_schema()
    _describe(schema, Sections)
    for name, model in sections().items():
        _describe(schema["$defs"][model.__name__], model)
        if not Sections.model_fields[name].is_required():
            # a section with nothing but comments below it is valid and means its defaults
            text = schema["properties"][name]["description"]
            reference = {"$ref": f"#/$defs/{model.__name__}"}
            schema["properties"][name] = {"anyOf": [reference, {"type": "null"}], "description": text}
    for model in (NewData, Slice, Notification):
        _describe(schema["$defs"][model.__name__], model)
    del schema["$defs"]["Deploy"]["properties"]["endpoint"]["default"]  # the pipeline's name, which is the file's
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A Ratchet pipeline"}


def _describe(definition: dict[str, Any], model: type[Section]) -> None:
    definition.pop("description", None)  # the class's docstring: about the code, not about the file
    for key, text in _descriptions(model).items():
        definition["properties"][model.model_fields[key].alias or key]["description"] = text


def to_tables() -> str:
    """:return: one Markdown table per section, and one for what is inside a key."""
    parts = []
    purposes = _descriptions(Sections)
    for name, model in sections().items():
        parts.append(f"### `{name}`\n\n{purposes[name]}\n\n{_table(model)}")
        if name == "data":
            parts.append(f"#### `data.checks`\n\n{_checks_table()}")
        if name == "gate":
            parts.append(f"#### `gate.slices.NAME`\n\n{_table(Slice)}")
        if name == "trigger":
            parts.append(f"#### `trigger.new_data`\n\n{_table(NewData)}")
    parts.append(
        f"### `notify`\n\n{purposes['notify']} A list, each of its items with these keys.\n\n{_table(Notification)}"
    )
    return "\n\n".join(parts)


def _table(model: type[Section]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    properties = model.model_json_schema()["properties"]
    for key, text in _descriptions(model).items():
        field = model.model_fields[key]
        key = field.alias or key
        default = "required" if field.is_required() else f"`{json.dumps(field.default)}`" if field.default != "" else ""
        rows.append(f"| `{key}` | {_type(properties[key])} | {default} | {text} |")
    return "\n".join(rows)


def _checks_table() -> str:
    rows = ["| check | default | or | what it is about |", "|---|---|---|---|"]
    for name, check in CHECKS.items():
        others = ", ".join(f"`{policy}`" for policy in check.policies if policy != check.default)
        rows.append(f"| `{name}` | `{check.default}` | {others} | {check.meaning} |")
    return "\n".join(rows)


def with_tables(page: str) -> str:
    """:return: docs/spec.md with its tables made anew."""
    return _with_generated(page, to_tables())


def _descriptions(model: type[Section]) -> dict[str, str]:
    """:return: field to the text beneath it in the source."""
    [definition] = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, beneath in zip(definition.body, definition.body[1:], strict=False):
        match field, beneath:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return texts


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if values := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{value}`" for value in values)
    if "$ref" in schema:
        return "keys and values"
    if schema["type"] == "array":
        return "list"
    bounds = [
        f"{word} {schema[bound]:,}" for bound, word in (("minimum", "from"), ("maximum", "to")) if bound in schema
    ]
    names = {"string": "text", "integer": "whole number", "object": "keys and values"}
    return " ".join([names.get(schema["type"], schema["type"]), *bounds])


@dataclass(frozen=True)
class Docstring:
    """A docstring in this project's style: what changes, retry behaviour, then fields."""

    summary: str
    details: str
    parameters: dict[str, str]
    returned: str
    raised: str

    @property
    def retry(self) -> str:
        """:return: the sentence about retries, without the words that open it everywhere."""
        found = re.search(r"(?:^|\. )Safe to retry: (.+?\.)(?: |$)", self.details)
        return _capital(found[1]) if found else ""


def read_docstring(operator: type[BaseOperator]) -> Docstring:
    text = inspect.cleandoc(operator.__doc__ or "")
    prose, *fields = re.split(r"^:", text, flags=re.MULTILINE)
    summary, _, details = prose.partition("\n\n")
    parameters, returned, raised = {}, "", ""
    for each in fields:
        name, _, meaning = _one_line(each).partition(": ")
        match name.split():
            case ["param", parameter]:
                parameters[parameter] = meaning
            case ["return"]:
                returned = meaning
            case ["raises", exception]:
                raised = f"`{exception}`: {meaning}"
    return Docstring(_one_line(summary), _one_line(details), parameters, returned, raised)


def to_overview() -> str:
    """:return: one row per operator."""
    rows = ["| operator | input | output | connections | a retry |", "|---|---|---|---|---|"]
    for operator in OPERATORS:
        docstring, parameters = read_docstring(operator), own_parameters(operator)
        inputs = [f"`{name}`" for name, parameter in parameters.items() if parameter.default is parameter.empty]
        connections = [f"`{p.default or name}`" for name, p in parameters.items() if name.endswith("_conn_id")]
        link = f"[`{operator.__name__}`](#{operator.__name__.lower()})"
        cells = [link, ", ".join(inputs), docstring.returned, ", ".join(connections) or "none", docstring.retry]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def to_section(operator: type[BaseOperator]) -> str:
    """:return: what one operator does, takes, returns and shows."""
    docstring = read_docstring(operator)
    rows = ["| parameter | type | default | templated | meaning |", "|---|---|---|---|---|"]
    for name, parameter in own_parameters(operator).items():
        kind = str(parameter.annotation).replace(" | ", "` or `")
        templated = "yes" if name in operator.template_fields else ""
        meaning = _capital(docstring.parameters[name].replace(" (templated)", ""))
        rows.append(f"| `{name}` | `{kind}` | {_default(parameter.default)} | {templated} | {meaning} |")
    links = ", ".join(link.name for link in operator.operator_extra_links) or "none"
    return "\n\n".join(
        [
            f"### {operator.__name__}",
            f"`from {operator.__module__} import {operator.__name__}`",
            f"{docstring.summary} {docstring.details}",
            "\n".join(rows),
            f"- Returns {docstring.returned}\n- Raises {docstring.raised}\n"
            f"- Buttons on the task (tab Details, below Extra Links): {links}.",
        ]
    )


def to_example(path: Path) -> str:
    """:return: the code of an example DAG."""
    return f"### {path.stem}\n\n```python\n{path.read_text(encoding='utf-8').strip()}\n```"


def with_reference(page: str) -> str:
    """:return: docs/operators.md with its generated part made anew."""
    made = [
        "## Operators",
        to_overview(),
        *map(to_section, OPERATORS),
        "## By hand",
        *map(to_example, sorted(EXAMPLES.glob("example_*.py"))),
    ]
    return _with_generated(page, "\n\n".join(made))


def own_parameters(operator: type[BaseOperator]) -> dict[str, inspect.Parameter]:
    """:return: what the operator's constructor takes beside what every Airflow operator takes."""
    signature = inspect.signature(inspect.unwrap(operator.__init__))
    return {name: p for name, p in signature.parameters.items() if p.kind is p.KEYWORD_ONLY}


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if isinstance(value, timedelta):
        return f"{value.total_seconds() / 60:g} minutes"
    return f"`{value!r}`"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    main()
