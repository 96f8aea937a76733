"""
Read an evaluation report, or say why it cannot be believed. Its shape is in docs/architecture.md.

Standard library only: the gate runs inside Airflow. What can be computed again from the confusion matrix is, so that a
damaged or hand-edited number is found instead of trusted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HIGHER_IS_BETTER = ("accuracy", "f1_macro", "f1_weighted")
LOWER_IS_BETTER = ("log_loss",)
METRICS = (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)  # by which candidate and champion may be compared
REPORTED = (*METRICS, "calibration_error")
JUDGED = ("candidate", "champion", "best")  # whose answers the gate looks at
COMPARED = ("champion", "best", "baseline")  # what may stand beside the candidate
LATENCIES = ("p50", "p95", "p99")

TOLERANCE = 1e-6  # assumed: far above the rounding of a sum, far below what a person would call a difference
LARGEST = 2**53  # beyond it a float no longer counts; also refuses infinity, and NaN fails the comparison


class UnusableReport(Exception):
    """The report is incomplete, damaged or contradicts itself. The message names the place."""


@dataclass(frozen=True)
class TestedOn:
    uri: str
    digest: str
    rows: int
    labels: tuple[str, ...]  # every label that a test row or one of the models knows
    new_rows: int | None  # that joined since the champion was judged; None: nobody knows


@dataclass(frozen=True)
class LabelScore:
    precision: float | None  # None: never predicted
    recall: float | None  # None: no test row has it
    f1: float | None  # None: neither
    support: int


@dataclass(frozen=True)
class Agreement:
    """How far the answers of a release are those of its checkpoint."""

    labels: float  # share of the rows
    largest_difference: float  # of a score
    rows_beyond_tolerance: int
    tolerance: float


@dataclass(frozen=True)
class Serving:
    """What serving a model costs, measured where it was evaluated."""

    release: str
    precision: str
    latency_ms: Mapping[str, float]  # by percentile, of one text alone
    throughput: float  # texts/s
    disk_bytes: int
    memory_bytes: int
    agreement: Agreement


@dataclass(frozen=True)
class Scored:
    """One model's answers on the test set, as its release gives them."""

    model: str
    digest: str
    metrics: Mapping[str, float]
    labels: Mapping[str, LabelScore]
    confusion: tuple[tuple[int, ...], ...]  # true label by predicted label, in the order of the test set's labels
    unknown_labels: tuple[str, ...]  # labels of test rows that the model cannot answer
    serving: Serving | None  # None: a baseline, which is no model of ours


@dataclass(frozen=True)
class Slice:
    name: str
    rows: int
    description: str


@dataclass(frozen=True)
class Report:
    test_set: TestedOn
    candidate: Scored
    champion: Scored | None
    best: Scored | None
    baseline: Scored | None
    predictions: Mapping[str, str | None]  # URI of the answers, by role
    slices: tuple[Slice, ...]
    membership: str | None  # URI: which rows are in which slice
    behaviour: Mapping[str, Any] | None


def read_report(values: Any) -> Report:
    """:raises UnusableReport: a part is missing, of the wrong kind, or contradicts another."""
    report = _mapping(values, "the report")
    if "best" not in report:
        raise UnusableReport("an earlier version of Ratchet wrote it and measured less. Run the evaluation again.")
    test_set = _test_set(_get(report, "test_set", "the report"))
    candidate = _scored(_get(report, "candidate", "the report"), "candidate", test_set)
    others: dict[str, Scored | None] = {}
    for role in COMPARED:
        found = _get(report, role, "the report")
        others[role] = None if found is None else _scored(found, role, test_set)
        if (other := others[role]) is not None:
            _same_test_rows(candidate, other, role)
    membership = _get(report, "membership", "the report")
    behaviour = _get(report, "behaviour", "the report")
    if behaviour is not None:
        _check_behaviour(_mapping(behaviour, "behaviour"))
    return Report(
        test_set,
        candidate,
        **others,
        predictions=_predictions(report, {"candidate": candidate, **others}),
        slices=tuple(_slice(one, test_set) for one in _list(_get(report, "slices", "the report"), "slices")),
        membership=None if membership is None else _text(membership, "membership"),
        behaviour=behaviour,
    )


def _check_behaviour(behaviour: Mapping[str, Any]) -> None:
    """:raises UnusableReport: a test says that it passed, or did not, and its counts say otherwise."""
    passed = []
    for test in _list(_get(behaviour, "tests", "behaviour"), "behaviour.tests"):
        found = _mapping(test, "a test of behaviour")
        place = f"behaviour test {_text(_get(found, 'name', 'a test of behaviour'), 'its name')!r}"
        cases, failures = (_count(_get(found, part, place), f"{place}.{part}") for part in ("cases", "failures"))
        rate, wanted = (_number(_get(found, part, place), f"{place}.{part}") for part in ("rate", "pass"))
        if failures > cases:
            raise UnusableReport(f"{place} has more failures than cases.")
        _agrees(rate, 1 - failures / cases if cases else 0.0, f"{place}.rate")
        if _get(found, "passed", place) is not (cases > 0 and rate >= wanted):
            raise UnusableReport(f"{place}: its cases do not say whether it passed.")
        passed.append(found["passed"])
    if _get(behaviour, "passed", "behaviour") is not all(passed):
        raise UnusableReport("behaviour.passed is not what its tests say.")


def _predictions(report: Mapping[str, Any], roles: Mapping[str, Scored | None]) -> dict[str, str | None]:
    kept = _mapping(_get(report, "predictions", "the report"), "predictions")
    for role, scored in roles.items():
        uri = _get(kept, role, "predictions")
        if scored is not None:
            _text(uri, f"predictions.{role}")
        elif uri is not None:
            raise UnusableReport(f"predictions.{role} is there although no {role} was scored.")
    return {role: kept[role] for role in roles}


def _slice(values: Any, test_set: TestedOn) -> Slice:
    found = _mapping(values, "a slice")
    name = _text(_get(found, "name", "a slice"), "the name of a slice")
    place = f"slice {name!r}"
    rows = _count(_get(found, "rows", place), f"{place}.rows")
    if rows > test_set.rows:
        raise UnusableReport(f"{place} has {rows} rows, the test set has {test_set.rows}.")
    return Slice(name, rows, _text(_get(found, "description", place), f"{place}.description"))


def computed_metrics(confusion: Sequence[Sequence[int]]) -> dict[str, float]:
    """:return: accuracy, f1_macro and f1_weighted; the averages are over the labels that test rows have."""
    scores = [label_score(confusion, i) for i in range(len(confusion))]
    rows = sum(score.support for score in scores)
    present = [(score.f1 or 0.0, score.support) for score in scores if score.support]
    return {
        "accuracy": sum(row[i] for i, row in enumerate(confusion)) / rows,
        "f1_macro": math.fsum(f1 for f1, _ in present) / len(present),
        "f1_weighted": math.fsum(f1 * support for f1, support in present) / rows,
    }


def label_score(confusion: Sequence[Sequence[int]], index: int) -> LabelScore:
    right, support = confusion[index][index], sum(confusion[index])
    predicted = sum(row[index] for row in confusion)
    return LabelScore(
        precision=right / predicted if predicted else None,
        recall=right / support if support else None,
        f1=2 * right / (predicted + support) if predicted + support else None,
        support=support,
    )


def _test_set(values: Any) -> TestedOn:
    found = _mapping(values, "test_set")
    labels = _labels(_get(found, "labels", "test_set"), "test_set.labels")
    if not labels:
        raise UnusableReport("test_set.labels is empty.")
    rows = _count(_get(found, "rows", "test_set"), "test_set.rows")
    if rows == 0:
        raise UnusableReport("The test set is empty.")
    uri, digest = _get(found, "uri", "test_set"), _get(found, "digest", "test_set")
    new_rows = _get(found, "new_rows", "test_set")
    return TestedOn(
        _text(uri, "test_set.uri"),
        _digest(digest, "test_set.digest"),
        rows,
        labels,
        None if new_rows is None else _count(new_rows, "test_set.new_rows"),
    )


def _scored(values: Any, name: str, test_set: TestedOn) -> Scored:
    found = _mapping(values, name)
    confusion = _confusion(_get(found, "confusion", name), f"{name}.confusion", test_set)
    scored = Scored(
        model=_text(_get(found, "model", name), f"{name}.model"),
        digest=_digest(_get(found, "digest", name), f"{name}.digest"),
        metrics=_metrics(_get(found, "metrics", name), f"{name}.metrics"),
        labels=_label_scores(_get(found, "labels", name), f"{name}.labels", test_set),
        confusion=confusion,
        unknown_labels=_labels(_get(found, "unknown_labels", name), f"{name}.unknown_labels"),
        serving=None if name == "baseline" else _serving(_get(found, "serving", name), f"{name}.serving", test_set),
    )
    for metric, expected in computed_metrics(confusion).items():
        _agrees(scored.metrics[metric], expected, f"{name}.metrics.{metric}")
    for index, label in enumerate(test_set.labels):
        given, computed = scored.labels[label], label_score(confusion, index)
        place = f"{name}.labels.{label}"
        _agrees(given.precision, computed.precision, f"{place}.precision")
        _agrees(given.recall, computed.recall, f"{place}.recall")
        _agrees(given.f1, computed.f1, f"{place}.f1")
        _agrees(given.support, computed.support, f"{place}.support")
    for label in scored.unknown_labels:
        if label not in scored.labels or not scored.labels[label].support:
            raise UnusableReport(f"{name}.unknown_labels names {label!r}, which no test row has.")
    return scored


def _serving(values: Any, place: str, test_set: TestedOn) -> Serving:
    found = _mapping(values, place)
    latency = _mapping(_get(found, "latency_ms", place), f"{place}.latency_ms")
    agreement = _mapping(_get(found, "agreement", place), f"{place}.agreement")

    def positive(values: Mapping[str, Any], name: str, place: str) -> float:
        number = _number(_get(values, name, place), f"{place}.{name}")
        if number < 0:
            raise UnusableReport(f"{place}.{name} is {number}, which is out of range.")
        return number

    share = positive(agreement, "labels", f"{place}.agreement")
    beyond = _count(_get(agreement, "rows_beyond_tolerance", f"{place}.agreement"), f"{place}.agreement")
    if share > 1 or beyond > test_set.rows:
        raise UnusableReport(f"{place}.agreement is of more rows than the test set has.")
    largest, tolerance = (
        positive(agreement, part, f"{place}.agreement") for part in ("largest_difference", "tolerance")
    )
    if (largest > tolerance) is not (beyond > 0):
        raise UnusableReport(f"{place}.agreement contradicts itself.")
    return Serving(
        release=_text(_get(found, "release", place), f"{place}.release"),
        precision=_text(_get(found, "precision", place), f"{place}.precision"),
        latency_ms={each: positive(latency, each, f"{place}.latency_ms") for each in LATENCIES},
        throughput=positive(found, "throughput", place),
        disk_bytes=_count(_get(found, "disk_bytes", place), f"{place}.disk_bytes"),
        memory_bytes=_count(_get(found, "memory_bytes", place), f"{place}.memory_bytes"),
        agreement=Agreement(
            labels=share,
            largest_difference=largest,
            rows_beyond_tolerance=beyond,
            tolerance=tolerance,
        ),
    )


def _metrics(values: Any, place: str) -> dict[str, float]:
    found = _mapping(values, place)
    metrics = {metric: _number(_get(found, metric, place), f"{place}.{metric}") for metric in REPORTED}
    for metric, value in metrics.items():
        if value < 0 or (metric != "log_loss" and value > 1):
            raise UnusableReport(f"{place}.{metric} is {value}, which is out of range.")
    return metrics


def _label_scores(values: Any, place: str, test_set: TestedOn) -> dict[str, LabelScore]:
    found = _mapping(values, place)
    if set(found) != set(test_set.labels):
        raise UnusableReport(f"{place} does not have the labels of the test set.")
    scores = {}
    for label, each in found.items():
        here = f"{place}.{label}"
        parts = _mapping(each, here)
        ratios = {
            part: None if (value := _get(parts, part, here)) is None else _number(value, f"{here}.{part}")
            for part in ("precision", "recall", "f1")
        }
        scores[label] = LabelScore(**ratios, support=_count(_get(parts, "support", here), f"{here}.support"))
    return scores


def _confusion(values: Any, place: str, test_set: TestedOn) -> tuple[tuple[int, ...], ...]:
    size = len(test_set.labels)
    rows = _list(values, place)
    if len(rows) != size or any(len(_list(row, place)) != size for row in rows):
        raise UnusableReport(f"{place} is not {size} by {size}, the number of labels.")
    confusion = tuple(tuple(_count(cell, place) for cell in row) for row in rows)
    counted = sum(map(sum, confusion))
    if counted != test_set.rows:
        raise UnusableReport(f"{place} counts {counted} rows, the test set has {test_set.rows}.")
    return confusion


def _same_test_rows(candidate: Scored, other: Scored, role: str) -> None:
    for label, score in candidate.labels.items():
        if score.support != other.labels[label].support:
            raise UnusableReport(
                f"Candidate and {role} were not scored on the same rows: {score.support} and "
                f"{other.labels[label].support} of label {label!r}."
            )
    same_answers = (candidate.confusion, candidate.metrics) == (other.confusion, other.metrics)
    if candidate.digest == other.digest and not same_answers:
        raise UnusableReport(f"Candidate and {role} are the same model with different answers.")


def _agrees(given: float | None, expected: float | None, place: str) -> None:
    both = given is not None and expected is not None
    if (both and abs(given - expected) > TOLERANCE) or (not both and given is not expected):  # type: ignore[operator]
        raise UnusableReport(f"{place} is {given}, but what was counted gives {expected}.")


def _get(values: Mapping[str, Any], key: str, place: str) -> Any:
    if key not in values:
        raise UnusableReport(f"{place} has no {key!r}.")
    return values[key]


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UnusableReport(f"{place} is {_kind(value)}, not an object.")
    return value


def _list(value: Any, place: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise UnusableReport(f"{place} is {_kind(value)}, not a list.")
    return value


def _labels(value: Any, place: str) -> tuple[str, ...]:
    labels = _list(value, place)
    if any(not isinstance(label, str) for label in labels) or len(set(labels)) != len(labels):
        raise UnusableReport(f"{place} is not a list of different texts.")
    return tuple(labels)


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise UnusableReport(f"{place} is {_kind(value)}, not a text.")
    return value


def _digest(value: Any, place: str) -> str:
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
        raise UnusableReport(f"{place} is {_kind(value)}, not a SHA-256 digest.")
    return value


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise UnusableReport(f"{place} is {_kind(value)}, not a number.")
    return value


def _count(value: Any, place: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise UnusableReport(f"{place} is {_kind(value)}, not a count.")
    return value


def _kind(value: Any) -> str:
    """:return: the value as JSON would name it, long ones by their type."""
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
