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
METRICS = (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)

TOLERANCE = 1e-6  # assumed: far above the rounding of a sum, far below what a person would call a difference
LARGEST = 2**53  # beyond it a float no longer counts; also refuses infinity, and NaN fails the comparison


class UnusableReport(Exception):
    """The report is incomplete, damaged or contradicts itself. The message names the place."""


@dataclass(frozen=True)
class TestedOn:
    uri: str
    digest: str
    rows: int
    labels: tuple[str, ...]  # every label that a test row, the candidate or the champion knows


@dataclass(frozen=True)
class LabelScore:
    precision: float | None  # None: never predicted
    recall: float | None  # None: no test row has it
    f1: float | None  # None: neither
    support: int


@dataclass(frozen=True)
class Scored:
    """One model's answers on the test set."""

    model: str
    digest: str
    metrics: Mapping[str, float]
    labels: Mapping[str, LabelScore]
    confusion: tuple[tuple[int, ...], ...]  # true label by predicted label, in the order of the test set's labels
    unknown_labels: tuple[str, ...]  # labels of test rows that the model cannot answer


@dataclass(frozen=True)
class Report:
    test_set: TestedOn
    candidate: Scored
    champion: Scored | None


def read_report(values: Any) -> Report:
    """:raises UnusableReport: a part is missing, of the wrong kind, or contradicts another."""
    report = _mapping(values, "the report")
    test_set = _test_set(_get(report, "test_set", "the report"))
    candidate = _scored(_get(report, "candidate", "the report"), "candidate", test_set)
    found = _get(report, "champion", "the report")
    champion = None if found is None else _scored(found, "champion", test_set)

    predictions = _mapping(_get(report, "predictions", "the report"), "predictions")
    _text(_get(predictions, "candidate", "predictions"), "predictions.candidate")
    kept = _get(predictions, "champion", "predictions")
    if champion is None and kept is not None:
        raise UnusableReport("predictions.champion is there although no champion was scored.")
    if champion is not None:
        _text(kept, "predictions.champion")
        _same_test_rows(candidate, champion)
    return Report(test_set, candidate, champion)


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
    return TestedOn(_text(uri, "test_set.uri"), _digest(digest, "test_set.digest"), rows, labels)


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


def _metrics(values: Any, place: str) -> dict[str, float]:
    found = _mapping(values, place)
    metrics = {metric: _number(_get(found, metric, place), f"{place}.{metric}") for metric in METRICS}
    for metric, value in metrics.items():
        if value < 0 or (metric in HIGHER_IS_BETTER and value > 1):
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


def _same_test_rows(candidate: Scored, champion: Scored) -> None:
    for label, score in candidate.labels.items():
        if score.support != champion.labels[label].support:
            raise UnusableReport(
                f"Candidate and champion were not scored on the same rows: {score.support} and "
                f"{champion.labels[label].support} of label {label!r}."
            )
    same_answers = (candidate.confusion, candidate.metrics) == (champion.confusion, champion.metrics)
    if candidate.digest == champion.digest and not same_answers:
        raise UnusableReport("Candidate and champion are the same model with different answers.")


def _agrees(given: float | None, expected: float | None, place: str) -> None:
    both = given is not None and expected is not None
    if (both and abs(given - expected) > TOLERANCE) or (not both and given is not expected):  # type: ignore[operator]
        raise UnusableReport(f"{place} is {given}, but the confusion matrix gives {expected}.")


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
