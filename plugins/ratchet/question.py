"""Say in Markdown what an approver needs to know: the page on which a person decides about a candidate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ratchet.judged import name_of
from training.markdown import code, sentence
from training.report import HIGHER_IS_BETTER

OUTCOMES = {"undecided": 0, "fail": 1, "pass": 2}  # in the order in which they are shown
AGAINST = {"no_worse_by": "the champion", "better": "the champion", "mark": "the best ever promoted"}
NONE = "–"


def subject(pipeline: str, verdict: Mapping[str, Any]) -> str:
    return f"{pipeline}: make {name_of(verdict)} the champion?"


def body(
    verdict: Mapping[str, Any],
    metrics: Mapping[str, float | None],
    champion_metrics: Mapping[str, float | None],
    deadline: datetime,
    approvers: list[str],
    imported: str | None = None,
) -> str:
    """
    :param imported: where the candidate is from, if it was not trained here.
    :param metrics: of the candidate on the test split; ``champion_metrics`` those of the champion, empty if there is
        none.
    """
    sections = [
        _verdict(verdict),
        f"The candidate was not trained here, but imported from {code(imported)}." if imported else "",
        "\n".join(f"- {sentence(reason)}" for reason in verdict["reasons"]),
        "\n".join(_figures(verdict, metrics, champion_metrics)),
        "\n".join(_rules(verdict["rules"])),
        "\n".join(f"- Note: {sentence(note)}" for note in verdict.get("notes", [])),
        f"[The whole report: verdict, slices, examples]({verdict['report_url']})" if verdict.get("report_url") else "",
        _what_follows(deadline, approvers),
        f"Verdict `{verdict['key']}`",
    ]
    return "\n\n".join(section for section in sections if section)


def _verdict(verdict: Mapping[str, Any]) -> str:
    undecided = [rule["name"] for rule in verdict["rules"] if rule["outcome"] == "undecided"]
    if not undecided:
        return "**Every rule of the gate passed.** This pipeline asks before each promotion."
    count = f"{len(undecided)} rules" if len(undecided) > 1 else "one rule"
    return f"**The test rows do not decide {count}**; every other one passed."


def _figures(
    verdict: Mapping[str, Any], metrics: Mapping[str, float | None], champion_metrics: Mapping[str, float | None]
) -> Iterator[str]:
    champion = verdict.get("champion")
    yield "| | candidate | champion |"
    yield "|---|---|---|"
    yield f"| model | {code(verdict['candidate']['model'])} | {code(champion['model']) if champion else NONE} |"
    for name, value in metrics.items():
        better = "" if name in HIGHER_IS_BETTER else " (lower is better)"
        yield f"| {code(name)}{better} | {_number(value)} | {_number(champion_metrics.get(name))} |"


def _rules(rules: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the rules that compare two models, and those that did not pass."""
    shown = [rule for rule in rules if rule.get("low") is not None or rule["outcome"] != "pass"]
    if not shown:
        return
    yield "| rule | against | outcome | better by | interval | must be above | test rows | would decide |"
    yield "|---|---|---|---|---|---|---|---|"
    for rule in sorted(shown, key=lambda rule: OUTCOMES[rule["outcome"]]):
        interval = NONE if rule.get("low") is None else f"{rule['low']:+.4f} to {rule['high']:+.4f}"
        cells = (
            code(rule["name"]),
            AGAINST.get(rule["name"].partition(".")[0], NONE),
            rule["outcome"],
            f"{rule['value']:+.4f}",
            interval,
            f"{rule['bound']:+g}",
            _count(rule.get("rows")),
            _count(rule.get("rows_to_decide")),
        )
        yield f"| {' | '.join(cells)} |"


def _what_follows(deadline: datetime, approvers: list[str]) -> str:
    who = ", ".join(code(name) for name in approvers) or "whoever may answer for this DAG in Airflow"
    return (
        "**Approve**: the release goes on the endpoint and becomes the champion. **Reject**: nothing changes, and the "
        "gate does not promote these weights again by itself. Who may answer: "
        f"{who}. Without an answer by {deadline:%Y-%m-%d %H:%M} UTC it counts as rejected."
    )


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4f}"


def _count(rows: int | None) -> str:
    return NONE if rows is None else f"{rows:,}"
