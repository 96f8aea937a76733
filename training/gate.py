"""
Decide whether a candidate may replace the champion. Standard library only: this runs inside Airflow.

The gate fails closed: a report that is incomplete, damaged or contradicts itself is a ``hold``. It promotes only when
every rule passes, so one more rule can never turn a ``hold`` into a ``promote``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Self

from training.contract import BadInput, Message
from training.report import HIGHER_IS_BETTER, METRICS, Report, Scored, UnusableReport, read_report

LABELS_TO_TELL_APART = 2
LABELS_SHOWN = 10
FEW_TEST_ROWS = 10  # assumed: with fewer, one row more or less moves a label's recall by over ten points

Decision = Literal["promote", "hold", "ask"]


@dataclass(frozen=True, kw_only=True)
class Rules(Message):
    """:raises BadInput: a metric that does not exist, or a bound that no candidate or every candidate meets."""

    minimum: dict[str, float] = field(default_factory=dict)
    no_worse_by: float | None = 0.01  # how much worse than the champion is still let through; None: do not compare
    metric: str = "f1_macro"  # what candidate and champion are compared by

    def __post_init__(self) -> None:
        if not isinstance(self.minimum, dict):
            raise BadInput(f"gate.minimum is {self.minimum!r}; expected metric: number.")
        for name, bound in self.minimum.items():
            if name not in HIGHER_IS_BETTER:
                raise BadInput(f"gate.minimum: {name!r} takes no minimum; valid: {', '.join(HIGHER_IS_BETTER)}.")
            if not _is_number(bound) or not 0 <= bound <= 1:
                raise BadInput(f"gate.minimum.{name} is {bound!r}; expected a number from 0 to 1.")
        if self.metric not in METRICS:
            raise BadInput(f"gate.metric is {self.metric!r}; valid: {', '.join(METRICS)}.")
        if self.no_worse_by is None:
            return
        largest = 1.0 if self.metric in HIGHER_IS_BETTER else sys.float_info.max
        if not _is_number(self.no_worse_by) or not 0 <= self.no_worse_by <= largest:
            limit = "from 0 to 1" if largest == 1 else "of at least 0"
            raise BadInput(f"gate.no_worse_by is {self.no_worse_by!r}; expected a number {limit}.")


@dataclass(frozen=True, kw_only=True)
class RuleOutcome(Message):
    name: str
    outcome: Literal["pass", "fail"]
    value: float
    bound: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Verdict(Message):
    decision: Decision
    reasons: list[str]
    rules: list[RuleOutcome]
    candidate: dict[str, str] | None  # model, digest; None: the report could not be read
    champion: dict[str, str] | None
    test_set: str | None  # digest
    notes: list[str] = field(default_factory=list)  # what a reader of the scores should know; nothing follows from it

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        rules = [RuleOutcome.from_dict(rule) if isinstance(rule, dict) else rule for rule in values.get("rules", [])]
        return super().from_dict({**values, "rules": rules} if "rules" in values else values)


def decide(report: dict[str, Any], rules: Rules) -> Verdict:
    """
    Judge a report by the rules.

    A candidate that is the champion already is judged by the minimum rules like any other: the same data and rules give
    the same verdict again, and holding it changes nothing in production.

    :param report: of ``training.evaluate``; its shape is in docs/architecture.md.
    """
    try:
        evidence = read_report(report)
    except UnusableReport as fault:
        reason = f"The evaluation report cannot be used: {fault}"
        return Verdict(decision="hold", reasons=[reason], rules=[], candidate=None, champion=None, test_set=None)

    unmeasured = [label for label, score in evidence.candidate.labels.items() if not score.support]
    measured = len(evidence.test_set.labels) - len(unmeasured)
    outcomes = [_too_few_labels(measured)] if measured < LABELS_TO_TELL_APART else []
    outcomes += [_minimum(evidence.candidate, name, bound) for name, bound in sorted(rules.minimum.items())]
    if evidence.champion is not None and rules.no_worse_by is not None:
        outcomes.append(_no_worse(evidence.candidate, evidence.champion, rules.metric, rules.no_worse_by))
    failed = [outcome.reason for outcome in outcomes if outcome.outcome == "fail"]
    reasons = failed or [outcome.reason for outcome in outcomes]
    if not failed:
        reasons += _why_not_compared(evidence, rules)
    if unmeasured:
        reasons.append(_not_measured(unmeasured, len(evidence.test_set.labels)))
    return Verdict(
        decision="hold" if failed else "promote",
        reasons=reasons,
        rules=outcomes,
        candidate=_named(evidence.candidate),
        champion=None if evidence.champion is None else _named(evidence.champion),
        test_set=evidence.test_set.digest,
        notes=_notes(evidence.candidate),
    )


def _notes(candidate: Scored) -> list[str]:
    few = {label: score.support for label, score in candidate.labels.items() if 0 < score.support < FEW_TEST_ROWS}
    ranked = sorted(few, key=lambda label: (few[label], label))
    notes = [
        f"label {label!r} has {few[label]} test row{'s' if few[label] > 1 else ''}: its scores say little"
        for label in ranked[:LABELS_SHOWN]
    ]
    if (more := len(ranked) - LABELS_SHOWN) > 0:
        notes.append(f"{more:,} more label{'s have' if more > 1 else ' has'} fewer than {FEW_TEST_ROWS} test rows")
    return notes


def _too_few_labels(measured: int) -> RuleOutcome:
    return RuleOutcome(
        name="labels_measured",
        outcome="fail",
        value=measured,
        bound=LABELS_TO_TELL_APART,
        reason=f"the test set has rows of {measured} label; a model that always answers it would look perfect",
    )


def _not_measured(labels: list[str], of: int) -> str:
    shown = ", ".join(labels[:LABELS_SHOWN]) + (", ..." if len(labels) > LABELS_SHOWN else "")
    return f"{len(labels)} of {of} labels have no test row, so nothing is known of them: {shown}"


def _minimum(candidate: Scored, metric: str, bound: float) -> RuleOutcome:
    value = candidate.metrics[metric]
    ok = value >= bound
    shown, limit = _shown(value, bound)
    return RuleOutcome(
        name=f"minimum.{metric}",
        outcome="pass" if ok else "fail",
        value=value,
        bound=bound,
        reason=f"{metric} {shown} {'reaches' if ok else 'is below'} the minimum {limit}",
    )


def _no_worse(candidate: Scored, champion: Scored, metric: str, margin: float) -> RuleOutcome:
    """At exactly the margin the rule passes: numbers are compared as they are written, 0.884 - 0.874 is 0.01."""
    value, reference = candidate.metrics[metric], champion.metrics[metric]
    better_by = (_exact(value) - _exact(reference)) * (1 if metric in HIGHER_IS_BETTER else -1)
    ok = -better_by <= _exact(margin)
    if candidate.digest == champion.digest:
        reason = "the candidate is the champion already; there is nothing to compare"
    else:
        shown, compared = _shown(value, reference)
        by, allowed = _shown(float(abs(better_by)), margin)
        side = "equal to" if not better_by else "above" if value > reference else "below"
        reason = f"{metric} {shown} is {side} the champion's {compared}"
        if better_by:
            reason += f" by {by}"
        if better_by < 0:
            reason += f", {'no more' if ok else 'more'} than {allowed}"
    return RuleOutcome(
        name=f"no_worse_by.{metric}",
        outcome="pass" if ok else "fail",
        value=float(better_by),
        bound=0 - margin,
        reason=reason,
    )


def _why_not_compared(evidence: Report, rules: Rules) -> list[str]:
    if evidence.champion is None:
        if rules.minimum:
            return ["there is no champion yet, only the minimum rules were applied"]
        return ["there is no champion yet and no rule in gate.minimum: a first model is promoted however bad it is"]
    return ["the rules do not compare with the champion"] if rules.no_worse_by is None else []


def _named(scored: Scored) -> dict[str, str]:
    return {"model": scored.model, "digest": scored.digest}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)  # NaN fails every comparison above


def _exact(value: float) -> Fraction:
    return Fraction(str(value))


def _shown(one: float, other: float) -> tuple[str, str]:
    """:return: both with three decimals, or as many more as it takes to tell them apart, and from 0."""
    for decimals in range(3, 17):
        shown = f"{one:.{decimals}f}", f"{other:.{decimals}f}"
        differs = one == other or shown[0] != shown[1]
        if differs and all(float(text) != 0 or value == 0 for text, value in zip(shown, (one, other), strict=True)):
            return shown
    return str(one), str(other)
