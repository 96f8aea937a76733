"""
``python -m ratchet.operator_reference`` writes docs/operators.md's tables and examples from the operators themselves.

Never imported while a DAG is parsed: it imports every operator and reads example DAGs.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator

from ratchet.operators.deploy_local import LocalDeployOperator
from ratchet.operators.evaluate import EvaluateOperator
from ratchet.operators.gate import GateOperator
from ratchet.operators.ingest import IngestOperator
from ratchet.operators.promote import PromoteOperator
from ratchet.operators.train import TrainOperator

# In the order of a pipeline's steps
OPERATORS: tuple[type[BaseOperator], ...] = (
    IngestOperator,
    TrainOperator,
    EvaluateOperator,
    GateOperator,
    LocalDeployOperator,
    PromoteOperator,
)
EXAMPLES = Path(__file__).with_name("example_dags")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"

BEGIN, END = "<!-- made by python -m ratchet.operator_reference from here", "to here -->"


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
        connections = [f"`{p.default}`" for name, p in parameters.items() if name.endswith("_conn_id")]
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
            f"- Returns {docstring.returned}\n- Raises {docstring.raised}\n- Buttons on the task: {links}.",
        ]
    )


def to_example(path: Path) -> str:
    """:return: the code of an example DAG."""
    return f"### {path.stem}\n\n```python\n{path.read_text(encoding='utf-8').strip()}\n```"


def with_reference(page: str) -> str:
    """:return: the page with its generated part made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    made = [
        "## Operators",
        to_overview(),
        *map(to_section, OPERATORS),
        "## By hand",
        *map(to_example, sorted(EXAMPLES.glob("example_*.py"))),
    ]
    return f"{head}{BEGIN} -->\n\n" + "\n\n".join(made) + f"\n\n<!-- {END}{tail}"


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


def main() -> None:
    PAGE.write_text(with_reference(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
