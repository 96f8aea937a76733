"""
Decide whether a candidate may replace the champion.

The gate fails closed: a report that is incomplete, damaged or contradicts itself is a ``hold``. It promotes only when
every rule passes, so one more rule can never turn a ``hold`` into a ``promote``. What a comparison says holds with the
confidence that the rules ask for (training.paired); what the test rows cannot tell is ``undecided``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from training.compared import Compared
from training.paired import Pairs, holm, mcnemar, worse_by_chance
from training.report import HIGHER_IS_BETTER, JUDGED, Agreement, Report, Scored, UnusableReport, read_report
from training.rules import Rules
from training.verdict import Outcome, RuleOutcome, Verdict, decided

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

    from training.paired import Difference

ROLES = {"champion": "champion", "best": "best version ever promoted"}
LABELS_TO_TELL_APART = 2
LABELS_SHOWN = 10
FEW_TEST_ROWS = 10  # assumed: with fewer, one row more or less moves a label's recall by over ten points
NOTHING: Mapping[str, str] = {}
SAME_COUNT = 1e-6  # the report's tolerance: the kept answers must give the report's numbers


@dataclass(frozen=True)
class Evidence:
    """What the models said to each test row; labels are indices into those of the report."""

    truth: NDArray[np.int64]  # (n_rows,)
    predicted: Mapping[str, NDArray[np.int64]]  # role to (n_rows,)
    losses: Mapping[str, NDArray[np.float64]]  # role to (n_rows,): minus the logarithm of the true label's score
    slices: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)  # name to (n_rows,)
    sureness: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)  # role to (n_rows,): score of its answer
    new: NDArray[np.bool_] | None = None  # (n_rows,): joined since the champion was judged; None: not kept
    hashes: pyarrow.ChunkedArray | None = None  # (n_rows,): SHA-256 of the normalised texts; None: not kept
    _against: dict[tuple[str, int], Compared] = field(default_factory=dict, init=False, repr=False, compare=False)

    def against(self, role: str, labels: Sequence[str], seed: int) -> Compared:
        """:return: the candidate beside the model of this role: the same thing whoever asks, drawn once."""
        if (role, seed) not in self._against:
            self._against[role, seed] = Compared(
                self.truth,
                self.predicted["candidate"],
                self.predicted[role],
                (self.losses["candidate"], self.losses[role]),
                self.slices,
                labels,
                seed,
            )
        return self._against[role, seed]


def decide(
    values: dict[str, Any],
    evidence: Evidence | None,
    rules: Rules,
    barred: Mapping[str, str] = NOTHING,
    *,
    seed: int = 0,
) -> Verdict:
    """
    Judge a report by the rules.

    A candidate that is the champion already is judged by the bounds like any other: the same data and rules give the
    same verdict again, and holding it changes nothing in production.

    :param values: the report of ``training.evaluate``; its shape is in docs/architecture.md.
    :param evidence: the answers that the report counts; None: they were not kept.
    :param barred: digest of a model to why it is not to be promoted, whatever its scores.
    :param seed: of the resamples: the same evidence gives the same verdict.
    """
    try:
        report = read_report(values)
        if evidence is not None:
            _check(report, evidence)
        elif _compares(report, rules):
            raise UnusableReport("the answers of candidate and champion were not kept, so they cannot be compared.")
    except UnusableReport as fault:
        return unusable(fault)

    unmeasured = [label for label, score in report.candidate.labels.items() if not score.support]
    outcomes = [*_barred(report.candidate, barred), *alone(report, rules)]
    for role, other in (("champion", report.champion), ("best", report.best)):
        if other is not None:
            outcomes += compared(report.candidate, other, role, evidence, rules, seed)
    serves = report.champion is not None and report.champion.digest == report.candidate.digest
    decision = decided(outcomes, "never" if serves else rules.approval)  # nobody is asked about what serves already
    against = {"hold": ("fail", "undecided"), "ask": ("undecided",), "promote": ()}[decision]
    reasons = [one.reason for one in outcomes if one.outcome in against]
    reasons = reasons or [one.reason for one in outcomes]
    if decision != "hold":
        reasons += why_not_compared(rules, has_champion=report.champion is not None)
    if unmeasured:
        reasons.append(_not_measured(unmeasured, len(report.test_set.labels)))
    return Verdict(
        decision=decision,
        reasons=reasons,
        rules=outcomes,
        candidate=_named(report.candidate),
        champion=_named(report.champion) if report.champion else None,
        best=_named(report.best) if report.best else None,
        raises_mark=_raises_mark(report, rules.metric),
        test_set=report.test_set.digest,
        notes=_notes(report.candidate),
    )


def unusable(fault: UnusableReport) -> Verdict:
    reason = f"The evaluation report cannot be used: {fault}"
    return Verdict(decision="hold", reasons=[reason], rules=[], candidate=None, champion=None, test_set=None)


def _barred(candidate: Scored, barred: Mapping[str, str]) -> Iterator[RuleOutcome]:
    if candidate.digest in barred:
        yield RuleOutcome(name="barred", outcome="fail", value=1, bound=0, reason=barred[candidate.digest])


def alone(report: Report, rules: Rules) -> Iterator[RuleOutcome]:
    """Yield what the rules say that are about the candidate alone."""
    measured = sum(score.support > 0 for score in report.candidate.labels.values())
    if measured < LABELS_TO_TELL_APART:
        yield _too_few_labels(measured)
    for name, bound in sorted(rules.minimum.items()):
        yield _minimum(report.candidate, name, bound)
    for name, bound in sorted(rules.maximum.items()):
        yield _maximum(report.candidate, name, bound)
    if report.candidate.serving is not None:
        yield _agreement(report.candidate.serving.agreement)
    for test in (report.behaviour or {}).get("tests", ()):
        yield _behaviour(test)


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
        shown, compared = _shown(value, reference)
        whose = "the champion's" if self.role == "champion" else "the best ever promoted,"
        side = "equal to" if value == reference else "above" if value > reference else "below"
        by = f", by {_shown(abs(value - reference), 0)[0]}" if value != reference else ""
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


def _raises_mark(report: Report, metric: str) -> bool:
    mark = report.best or report.champion
    if mark is None:
        return True
    better_by = report.candidate.metrics[metric] - mark.metrics[metric]
    return (better_by if metric in HIGHER_IS_BETTER else -better_by) >= 0


def _compares(report: Report, rules: Rules) -> bool:
    others = [one for one in (report.champion, report.best) if one is not None]
    return rules.no_worse_by is not None and any(one.digest != report.candidate.digest for one in others)


def _check(report: Report, evidence: Evidence) -> None:
    """:raises UnusableReport: the kept answers are not those that the report counts."""
    import numpy as np

    labels = len(report.test_set.labels)
    for role in JUDGED:
        scored = getattr(report, role)
        if scored is None:
            continue
        if role not in evidence.predicted:
            raise UnusableReport(f"the answers of {role} were not kept.")
        counted = np.bincount(evidence.truth * labels + evidence.predicted[role], minlength=labels**2)
        if counted.tolist() != [count for row in scored.confusion for count in row]:
            raise UnusableReport(f"the kept answers of {role} do not give its confusion matrix.")
        if abs(float(evidence.losses[role].mean()) - scored.metrics["log_loss"]) > SAME_COUNT:
            raise UnusableReport(f"the kept answers of {role} do not give its log_loss.")
    sizes = {one.name: one.rows for one in report.slices}
    if sizes != {name: int(member.sum()) for name, member in evidence.slices.items()}:
        raise UnusableReport("the kept slices do not have the rows that the report counts.")


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


def _maximum(candidate: Scored, name: str, bound: float) -> RuleOutcome:
    value = _cost(candidate, name)
    ok = value <= bound
    shown, limit = _shown(value, bound)
    return RuleOutcome(
        name=f"maximum.{name}",
        outcome="pass" if ok else "fail",
        value=value,
        bound=bound,
        reason=f"{name} {shown} {'is within' if ok else 'is above'} the maximum {limit}",
    )


def _cost(candidate: Scored, name: str) -> float:
    if candidate.serving is None or name in candidate.metrics:
        return candidate.metrics[name]
    serving = candidate.serving
    costs = {f"latency_{each}_ms": value for each, value in serving.latency_ms.items()}
    return {**costs, "disk_mb": serving.disk_bytes / 1e6, "memory_mb": serving.memory_bytes / 1e6}[name]


def _agreement(agreement: Agreement) -> RuleOutcome:
    beyond = agreement.rows_beyond_tolerance
    rows = f"{beyond:,} test row{'s' if beyond > 1 else ''}"
    said = f"the release answers {rows} otherwise than" if beyond else "the release answers as"
    return RuleOutcome(
        name="agreement",
        outcome="fail" if beyond else "pass",
        value=beyond,
        bound=0,
        reason=f"{said} its checkpoint (scores differ by up to {agreement.largest_difference:.2g}, "
        f"{agreement.tolerance:g} is allowed)",
    )


def _behaviour(test: Mapping[str, Any]) -> RuleOutcome:
    ok = test["passed"] is True
    failures, cases = test["failures"], test["cases"]
    said = f"{failures:,} of {cases:,} cases failed" if cases else "nothing in the test split is what it is about"
    return RuleOutcome(
        name=f"behaviour.{test['name']}",
        outcome="pass" if ok else "fail",
        value=test["rate"],
        bound=test["pass"],
        rows=cases,
        reason=f"behaviour test {test['name']!r}: {said}; {test['pass']:.0%} have to pass",
    )


def why_not_compared(rules: Rules, *, has_champion: bool) -> list[str]:
    """:return: a sentence where nothing that the candidate is compared with decides."""
    if not has_champion:
        if rules.minimum:
            return ["there is no champion yet, only the bounds were applied"]
        return ["there is no champion yet and no rule in gate.minimum: a first model is promoted however bad it is"]
    return ["the rules do not compare with the champion"] if rules.no_worse_by is None else []


def _named(scored: Scored) -> dict[str, str]:
    return {"model": scored.model, "digest": scored.digest}


def _at_least(low: float) -> str:
    """:param low: positive where it is better, whatever the metric."""
    return f"at least {_gain(low)}" if low > 0 else f"no more than {_gain(low)}"


def _at_most(high: float) -> str:
    return f"at least {_gain(high)}" if high <= 0 else f"no more than {_gain(high)}"


def _gain(value: float) -> str:
    return f"{abs(value):.3f} {'better' if value > 0 else 'worse'}"


def _shown(one: float, other: float) -> tuple[str, str]:
    """:return: both with three decimals, or as many more as it takes to tell them apart, and from 0."""
    for decimals in range(3, 17):
        shown = f"{one:.{decimals}f}", f"{other:.{decimals}f}"
        differs = one == other or shown[0] != shown[1]
        if differs and all(float(text) != 0 or value == 0 for text, value in zip(shown, (one, other), strict=True)):
            return shown
    return str(one), str(other)
