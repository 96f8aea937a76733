"""A pipeline's DAG page in Markdown, so that the UI says what the spec says."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING

from training.markdown import code

if TYPE_CHECKING:
    from ratchet.spec import PipelineSpec

ASKED = {
    "never": "",
    "undecided": "; a person decides what the test rows do not",
    "always": "; a person approves each promotion",
}


def dag_page(spec: PipelineSpec) -> str:
    minimum = ", ".join(f"{name} at least {value:g}" for name, value in spec.gate.minimum.items()) or "no minimum"
    gate = f"{minimum}; `{spec.gate.metric}` no worse than the champion's by more than {spec.gate.no_worse_by:g}"
    asked = ASKED[spec.gate.approval]
    arguments = ", ".join(code(f"{name}: {value}") for name, value in spec.train.arguments.items())
    return f"""\
### {spec.name}

| | |
|---|---|
| **Data** | {_source(spec)}: text {code(spec.data.text)}, label {code(spec.data.label)} |
| **Base model** | {code(spec.train.base_model)}, {arguments or "Ratchet's defaults"} |
| **Gate** | {gate}{asked} |
| **Endpoint** | `{spec.deploy.endpoint}` ({spec.deploy.target}) |
| **Runs** | {_when(spec)} |

{_steps(spec)}

From `{spec.path.name}`; change it there.
"""


def _source(spec: PipelineSpec) -> str:
    """:return: the source; a long query is cut."""
    if spec.data.query is None:
        return code(spec.data.source or "")
    return f"connection `{spec.data.connection}`, {code(shorten(spec.data.query, 200))}"


def _when(spec: PipelineSpec) -> str:
    """:return: what starts a run."""
    trigger, starts = spec.trigger, []
    if trigger.schedule:
        starts.append(f"on the schedule {code(trigger.schedule)} ({trigger.timezone})")
    if trigger.new_data:
        rows = "new rows" if trigger.new_data.min_rows == 1 else f"{trigger.new_data.min_rows:,} new rows"
        starts.append(f"on {rows} that have been left unchanged for {trigger.new_data.quiet_minutes:g} minutes")
    started = " and ".join(starts) or "when somebody starts it"
    cooldown = spec.trigger.cooldown
    return started + (f"; {cooldown.total_seconds() / 3600:g} hours between two at least" if cooldown else "")


def _steps(spec: PipelineSpec) -> str:
    asked = (
        "**Ask a person**, where the gate does not decide alone. The run waits; a rejected one succeeds, and the steps "
        "after it are skipped."
    )
    steps = [
        "**Take a snapshot of the data**: an immutable copy with a train, validation and test split, named by its "
        "content.",
        "**Train a candidate** and register it in MLflow. What was trained before from the same inputs is not trained "
        "again.",
        "**Compare it with the champion** on the same test rows.",
        "**Decide**: promote, or hold with reasons. A held run succeeds; the steps after it are skipped and nothing "
        "changes.",
        *([] if spec.gate.approval == "never" else [asked]),
        "**Put it on the endpoint**: start it beside the old release, test it, switch.",
        "**Make it the champion**, once the endpoint answers with it.",
    ]
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
