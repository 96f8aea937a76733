"""
Decide whether a candidate may replace the champion.

The gate fails closed: a report that is incomplete, damaged or contradicts itself is a ``hold``. It promotes only when
every rule passes, so one more rule can never turn a ``hold`` into a ``promote``. What a comparison says holds with the
confidence that the rules ask for (training.bootstrap); what the test rows cannot tell is ``undecided``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from training.evidence import Evidence, check
from training.report import HIGHER_IS_BETTER, Report, Scored, UnusableReport, read_report
from training.rules import Rules
from training.rules_alone import alone
from training.rules_compared import compared, worse_groups
from training.verdict import RuleOutcome, Verdict, decided

LABELS_SHOWN = 10
FEW_TEST_ROWS = 10  # assumed: with fewer, one row more or less moves a label's recall by over ten points
NOTHING: Mapping[str, str] = {}


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
            check(report, evidence)
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
        notes=[*_worse(report, evidence, rules, seed), *_few_rows(report.candidate)],
    )


def unusable(fault: UnusableReport) -> Verdict:
    reason = f"The evaluation report cannot be used: {fault}"
    return Verdict(decision="hold", reasons=[reason], rules=[], candidate=None, champion=None, test_set=None)


def _barred(candidate: Scored, barred: Mapping[str, str]) -> Iterator[RuleOutcome]:
    if candidate.digest in barred:
        yield RuleOutcome(name="barred", outcome="fail", value=1, bound=0, reason=barred[candidate.digest])


def _raises_mark(report: Report, metric: str) -> bool:
    mark = report.best or report.champion
    if mark is None:
        return True
    better_by = report.candidate.metrics[metric] - mark.metrics[metric]
    return (better_by if metric in HIGHER_IS_BETTER else -better_by) >= 0


def _compares(report: Report, rules: Rules) -> bool:
    others = [one for one in (report.champion, report.best) if one is not None]
    return rules.no_worse_by is not None and any(one.digest != report.candidate.digest for one in others)


def _worse(report: Report, evidence: Evidence | None, rules: Rules, seed: int) -> list[str]:
    champion = report.champion
    if evidence is None or champion is None or champion.digest == report.candidate.digest:
        return []
    both = evidence.against("champion", list(report.candidate.labels), seed)
    return list(islice(worse_groups(both, rules), LABELS_SHOWN))


def _few_rows(candidate: Scored) -> list[str]:
    few = {label: score.support for label, score in candidate.labels.items() if 0 < score.support < FEW_TEST_ROWS}
    ranked = sorted(few, key=lambda label: (few[label], label))
    notes = [
        f"label {label!r} has {few[label]} test row{'s' if few[label] > 1 else ''}: its scores say little"
        for label in ranked[:LABELS_SHOWN]
    ]
    if (more := len(ranked) - LABELS_SHOWN) > 0:
        notes.append(f"{more:,} more label{'s have' if more > 1 else ' has'} fewer than {FEW_TEST_ROWS} test rows")
    return notes


def _not_measured(labels: list[str], of: int) -> str:
    shown = ", ".join(labels[:LABELS_SHOWN]) + (", ..." if len(labels) > LABELS_SHOWN else "")
    return f"{len(labels)} of {of} labels have no test row, so nothing is known of them: {shown}"


def why_not_compared(rules: Rules, *, has_champion: bool) -> list[str]:
    """:return: a sentence where nothing that the candidate is compared with decides."""
    if not has_champion:
        if rules.minimum:
            return ["there is no champion yet, only the bounds were applied"]
        return ["there is no champion yet and no rule in gate.minimum: a first model is promoted however bad it is"]
    return ["the rules do not compare with the champion"] if rules.no_worse_by is None else []


def _named(scored: Scored) -> dict[str, str]:
    return {"model": scored.model, "digest": scored.digest}
