"""The gate's rules about a candidate by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from training.report import Agreement, Report, Scored
from training.rules import Rules
from training.verdict import RuleOutcome

LABELS_TO_TELL_APART = 2


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


def _too_few_labels(measured: int) -> RuleOutcome:
    return RuleOutcome(
        name="labels_measured",
        outcome="fail",
        value=measured,
        bound=LABELS_TO_TELL_APART,
        reason=f"the test set has rows of {measured} label; a model that always answers it would look perfect",
    )


def _minimum(candidate: Scored, metric: str, bound: float) -> RuleOutcome:
    value = candidate.metrics[metric]
    ok = value >= bound
    return _bounded("minimum", metric, value, bound, "reaches" if ok else "is below", ok=ok)


def _maximum(candidate: Scored, name: str, bound: float) -> RuleOutcome:
    value = _cost(candidate, name)
    ok = value <= bound
    return _bounded("maximum", name, value, bound, "is within" if ok else "is above", ok=ok)


def _bounded(kind: str, name: str, value: float, bound: float, stands: str, *, ok: bool) -> RuleOutcome:
    shown, limit = in_figures(value, bound)
    return RuleOutcome(
        name=f"{kind}.{name}",
        outcome="pass" if ok else "fail",
        value=value,
        bound=bound,
        reason=f"{name} {shown} {stands} the {kind} {limit}",
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
    said = f"the release answers {rows} otherwise than" if beyond else "the release answers within tolerance as"
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


def in_figures(one: float, other: float) -> tuple[str, str]:
    """:return: both with three decimals, or as many more as it takes to tell them apart, and from 0."""
    for decimals in range(3, 17):
        shown = f"{one:.{decimals}f}", f"{other:.{decimals}f}"
        differs = one == other or shown[0] != shown[1]
        if differs and all(float(text) != 0 or value == 0 for text, value in zip(shown, (one, other), strict=True)):
            return shown
    return str(one), str(other)
