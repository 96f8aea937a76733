"""The gate's rules that hold a candidate against another model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.paired import Pairs, holm, mcnemar, worse_by_chance
from training.report import Scored
from training.rules import Rules
from training.rules_alone import in_figures
from training.verdict import Outcome, RuleOutcome

if TYPE_CHECKING:
    from training.bootstrap import Difference
    from training.compared import Compared
    from training.evidence import Evidence

ROLES = {"champion": "champion", "best": "best version ever promoted"}


def compared(
    candidate: Scored, other: Scored, role: str, evidence: Evidence | None, rules: Rules, seed: int
) -> Iterator[RuleOutcome]:
    """
    Yield what the rules say that hold the candidate against another model.

    :param role: champion, or best: the best version ever promoted.
    :param evidence: has the answers of ``candidate`` and ``role``, by which both are scored; None: both are the same
        model, which is not looked at.
    """
    if rules.no_worse_by is None:
        return
    name = f"no_worse_by.{rules.metric}" if role == "champion" else f"mark.{rules.metric}"
    if candidate.digest == other.digest:
        reason = f"the candidate is the {ROLES[role]} already; there is nothing to compare"
        yield RuleOutcome(name=name, outcome="pass", value=0.0, bound=0 - rules.no_worse_by, reason=reason)
        return
    assert evidence is not None
    both = evidence.against(role, list(candidate.labels), seed)
    compared = _Comparison(candidate, other, role, rules, both.difference(rules.metric), both.pairs)
    yield compared.no_worse(name)
    if role == "champion":
        if rules.better:
            yield compared.better()
        if rules.group_no_worse_by is not None:
            yield from _groups(both, rules)


@dataclass(frozen=True)
class _Comparison:
    """Candidate and champion, or candidate and the best version ever promoted, by the metric of the rules."""

    candidate: Scored
    other: Scored
    role: str
    rules: Rules
    difference: Difference
    pairs: Pairs

    def no_worse(self, name: str) -> RuleOutcome:
        assert self.rules.no_worse_by is not None
        return self._outcome(name, 0 - self.rules.no_worse_by)

    def better(self) -> RuleOutcome:
        return self._outcome(f"better.{self.rules.metric}", 0.0)

    def _outcome(self, name: str, limit: float) -> RuleOutcome:
        confidence = self.rules.confidence
        low, high = self.difference.at_least(confidence), self.difference.at_most(confidence)
        strictly = limit == 0 and name.startswith("better")
        outcome: Outcome = "undecided"
        if low > limit or (low == limit and not strictly):
            outcome = "pass"
        elif high < limit or (high == limit and strictly):
            outcome = "fail"
        needed = self.difference.rows_to_decide(limit, confidence) if outcome == "undecided" else None
        return RuleOutcome(
            name=name,
            outcome=outcome,
            value=self.difference.value,
            bound=limit,
            low=low,
            high=high,
            rows=self.difference.rows,
            rows_to_decide=needed,
            reason=self._sentence(outcome, low, high, limit, needed),
        )

    def _sentence(self, outcome: Outcome, low: float, high: float, limit: float, needed: int | None) -> str:
        metric = self.rules.metric
        value, reference = self.candidate.metrics[metric], self.other.metrics[metric]
        shown, compared = in_figures(value, reference)
        whose = "the champion's" if self.role == "champion" else "the best ever promoted,"
        side = "equal to" if value == reference else "above" if value > reference else "below"
        by = f", by {in_figures(abs(value - reference), 0)[0]}" if value != reference else ""
        said = f"{metric} {shown} is {side} {whose} {compared}{by}"
        sure = f"with {self.rules.confidence:.0%} confidence"
        wanted = "that it is better" if limit == 0 else f"whether it is worse by more than {-limit:g}"
        if outcome == "pass":
            said += f"; {sure} it is {_at_least(low)}" + ("" if limit == 0 else f", and {-limit:g} is allowed")
        elif outcome == "fail":
            said += f"; {sure} it is {_at_most(high)}" + (
                ", so it is not better" if limit == 0 else f", more than the {-limit:g} allowed"
            )
        else:
            rows = f"{self.difference.rows:,}"
            said += f"; {rows} test rows do not tell {wanted} ({_gain(low)} to {_gain(high)} {sure})"
            said += f"; about {float(f'{needed:.2g}'):,.0f} would if it stayed so" if needed else ""
        if metric == "accuracy":
            one, other = self.pairs.only_one, self.pairs.only_other
            chance = mcnemar(self.pairs)
            said += f" ({one:,} rows are right in the candidate alone, {other:,} in the other; McNemar p {chance:.2g})"
        return said


def worse_groups(both: Compared, rules: Rules) -> Iterator[str]:
    """Yield a sentence for each slice and label in which the candidate is shown to be worse at all."""
    tested = [part for part in both.parts if part.rows >= rules.group_rows]
    chances = [worse_by_chance(part.pairs, part.difference, 0.0) for part in tested]
    for part, is_worse in zip(tested, holm(chances, 1 - rules.confidence), strict=True):
        if is_worse:
            by = part.difference
            low, high = -by.at_most(rules.confidence), -by.at_least(rules.confidence)
            allowed = "" if rules.group_no_worse_by is None else f"; {rules.group_no_worse_by:g} is allowed"
            yield f"{part.kind} {part.name!r}: {part.metric} is shown to be worse, by {low:.3f} to {high:.3f}{allowed}"


def _groups(both: Compared, rules: Rules) -> Iterator[RuleOutcome]:
    """Yield a failure for each slice and label in which the candidate is shown to be worse than is allowed."""
    assert rules.group_no_worse_by is not None
    limit = 0 - rules.group_no_worse_by
    tested = [part for part in both.parts if part.rows >= rules.group_rows]
    chances = [worse_by_chance(part.pairs, part.difference, limit) for part in tested]
    for part, chance, is_worse in zip(tested, chances, holm(chances, 1 - rules.confidence), strict=True):
        if is_worse:
            name, difference = f"{part.kind} {part.name!r}", part.difference
            yield RuleOutcome(
                name=f"group.{name}",
                outcome="fail",
                value=difference.value,
                bound=limit,
                low=difference.at_least(rules.confidence),
                high=difference.at_most(rules.confidence),
                rows=difference.rows,
                reason=f"{name}: {part.metric} is {-difference.value:.3f} below the champion's, shown to be more than "
                f"the {-limit:g} allowed (p {chance:.2g}, among {len(tested)} slices and labels)",
            )


def _at_least(low: float) -> str:
    """:param low: positive where it is better, whatever the metric."""
    return f"at least {_gain(low)}" if low > 0 else f"no more than {_gain(low)}"


def _at_most(high: float) -> str:
    return f"at least {_gain(high)}" if high <= 0 else f"no more than {_gain(high)}"


def _gain(value: float) -> str:
    return f"{abs(value):.3f} {'better' if value > 0 else 'worse'}"
