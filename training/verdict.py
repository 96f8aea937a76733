"""What a gate says of a candidate. Standard library only: Airflow imports this."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from training.contract import Message

VERDICT, DETAILS, PAGE = "verdict.json", "details.json", "verdict.html"  # of verdicts/KEY, and of the candidate's run
TOLD_GROUPS = 20  # slices and labels that are worse, in what is handed from step to step

Decision = Literal["promote", "hold", "ask"]
Outcome = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, kw_only=True)
class RuleOutcome(Message):
    name: str
    outcome: Outcome
    value: float
    bound: float
    reason: str
    low: float | None = None  # the interval of ``value``, where it has one
    high: float | None = None
    rows: int | None = None  # test rows that ``value`` is of
    rows_to_decide: int | None = None  # of an undecided one: how many would do if the value stayed


@dataclass(frozen=True, kw_only=True)
class Verdict(Message):
    decision: Decision
    reasons: list[str]
    rules: list[RuleOutcome]
    candidate: dict[str, str] | None  # model, digest; None: the report could not be read
    champion: dict[str, str] | None
    test_set: str | None  # digest
    best: dict[str, str] | None = None  # the best version ever promoted, where that is not the champion
    raises_mark: bool = False  # once promoted the candidate is the best version ever promoted
    notes: list[str] = field(default_factory=list)  # what a reader of the scores should know; nothing follows from it

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        rules = [RuleOutcome.from_dict(rule) if isinstance(rule, dict) else rule for rule in values.get("rules", [])]
        return super().from_dict({**values, "rules": rules} if "rules" in values else values)


def decided(rules: list[RuleOutcome], approval: str) -> Decision:
    """
    :param approval: never, undecided or always: when a person is asked.
    :return: what follows from the outcomes. One more rule never turns a hold into a promote.
    """
    outcomes = {rule.outcome for rule in rules}
    if "fail" in outcomes:
        return "hold"
    if "undecided" in outcomes:
        return "hold" if approval == "never" else "ask"
    return "ask" if approval == "always" else "promote"


def shortened(verdict: Verdict) -> Verdict:
    """:return: the verdict as steps hand it on: of very many slices and labels that are worse some, and how many."""
    left_out = [one for one in verdict.rules if one.name.startswith("group.")][TOLD_GROUPS:]
    if not left_out:
        return verdict
    untold = {one.reason for one in left_out}
    reasons = [reason for reason in verdict.reasons if reason not in untold]
    more = f"{len(left_out):,} more slices and labels are shown to be worse; the report has all of them"
    return replace(verdict, reasons=[*reasons, more], rules=[one for one in verdict.rules if one not in left_out])
