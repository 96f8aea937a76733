from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import measure
from training.report import computed_metrics, label_score


def measured(truth, predicted, labels=("a", "b", "c"), scores=None):
    if scores is None:
        scores = np.full((len(truth), len(labels)), 1 / len(labels))
    return measure(np.array(truth), np.array(predicted), scores, labels)


def test_a_label_without_test_rows_does_not_change_the_averages():
    assert measured([0, 0, 1], [0, 1, 1])["metrics"]["f1_macro"] == pytest.approx(2 / 3)
    assert measured([0, 0, 1], [0, 1, 1], ("a", "b"))["metrics"]["f1_macro"] == pytest.approx(2 / 3)


def test_what_cannot_be_computed_is_null():
    labels = measured([0, 0, 1], [0, 0, 0])["labels"]
    assert labels["b"] == {"precision": None, "recall": 0.0, "f1": 0.0, "support": 1}
    assert labels["c"] == {"precision": None, "recall": None, "f1": None, "support": 0}


def test_calibration_is_how_far_confidence_is_from_being_right():
    always_sure = np.array([[1.0, 0.0]] * 4)
    assert measured([0, 0, 0, 1], [0, 0, 0, 0], ("a", "b"), always_sure)["metrics"]["calibration_error"] == 0.25
    as_sure_as_right = np.array([[0.75, 0.25]] * 4)
    assert measured([0, 0, 0, 1], [0, 0, 0, 0], ("a", "b"), as_sure_as_right)["metrics"]["calibration_error"] == 0
    # half of the rows 0.25 too sure, half 0.4 not sure enough, in bins of their own
    both = np.array([[1.0, 0.0]] * 4 + [[0.6, 0.4]] * 4)
    found = measured([0, 0, 0, 1, 0, 0, 0, 0], [0] * 8, ("a", "b"), both)["metrics"]["calibration_error"]
    assert found == pytest.approx((0.25 + 0.4) / 2)


def test_a_prediction_outside_the_test_labels_counts_as_wrong():
    result = measured([0, 1], [2, 1])
    assert result["metrics"]["accuracy"] == 0.5
    assert result["confusion"] == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert result["labels"]["c"] == {"precision": 0.0, "recall": None, "f1": 0.0, "support": 0}


def test_a_model_that_answers_nan_has_no_metrics():
    scores = np.array([[0.5, 0.5], [math.nan, math.nan]])
    assert set(measured([0, 1], [0, 0], ("a", "b"), scores)["metrics"].values()) == {None}


def test_log_loss_is_finite_for_a_label_the_model_does_not_know():
    scores = np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    loss = measured([2, 0], [0, 0], scores=scores)["metrics"]["log_loss"]
    assert 10 < loss < 20


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_the_gate_computes_the_same_numbers_from_the_confusion_matrix(rows):
    truth, predicted = zip(*rows, strict=True)
    result = measured(truth, predicted, ("a", "b", "c", "d"))
    expected = computed_metrics(result["confusion"])
    assert {name: result["metrics"][name] for name in expected} == pytest.approx(expected)
    for i, scores in enumerate(result["labels"].values()):
        assert scores == pytest.approx(vars(label_score(result["confusion"], i)))
