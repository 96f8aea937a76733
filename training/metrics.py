"""Measure predictions against the truth: overall, per label, and which label was taken for which."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CALIBRATION_BINS = 15  # as in the paper that calibration_error follows


def measure(truth: np.ndarray, predicted: np.ndarray, scores: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """
    Compute ``metrics``, ``labels`` and ``confusion`` of the evaluation report.

    The averages are over the labels that test rows have, so that a label which only one of two models knows does not
    change what both are measured by. A number that cannot be computed is None.

    :param truth: (n_rows,), indices into ``labels``.
    :param predicted: (n_rows,), likewise.
    :param scores: (n_rows, n_labels), probabilities; a label that the model does not know has 0.
    """
    import numpy as np
    from sklearn import metrics

    every = range(len(labels))
    present = np.unique(truth)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        truth, predicted, labels=every, zero_division=np.nan
    )
    overall: dict[str, float | None] = {
        "accuracy": float(metrics.accuracy_score(truth, predicted)),
        "f1_macro": float(metrics.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)),
        "f1_weighted": float(metrics.f1_score(truth, predicted, labels=present, average="weighted", zero_division=0)),
        "log_loss": None,
        "calibration_error": None,
    }
    if np.isfinite(scores).all():
        overall["calibration_error"] = calibration_error(scores[np.arange(len(truth)), predicted], truth == predicted)
        with warnings.catch_warnings():
            # the scores of a model add up; those of an endpoint need not
            warnings.filterwarnings("ignore", "The y_prob values do not sum to one", UserWarning)
            # a probability of 0 counts as the smallest number that is not: about 36 for such a row
            overall["log_loss"] = float(metrics.log_loss(truth, scores, labels=every)) if len(labels) > 1 else 0.0
    else:
        overall = dict.fromkeys(overall)  # the model answers NaN: its predictions mean nothing
    per_label = {
        label: {
            "precision": _number(precision[i]),
            "recall": _number(recall[i]),
            "f1": _number(f1[i]),
            "support": int(support[i]),
        }
        for i, label in enumerate(labels)
    }
    confusion = metrics.confusion_matrix(truth, predicted, labels=every).tolist()
    return {"metrics": overall, "labels": per_label, "confusion": confusion}


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """
    Compute the expected calibration error: how far, on average, confidence is from the share of right answers.

    The usual one, of the predicted label in bins of equal width: Guo et al., On Calibration of Modern Neural Networks,
    2017, https://arxiv.org/abs/1706.04599, equation 3.

    :param confidence: (n_rows,), score of the predicted label.
    :param right: (n_rows,), whether it was the true one.
    :return: from 0 to 1.
    """
    import numpy as np

    bins = calibration_bins(confidence)
    too_confident = np.bincount(bins, weights=confidence - right, minlength=CALIBRATION_BINS)
    return float(np.abs(too_confident).sum() / len(confidence))


def calibration_bins(confidence: np.ndarray) -> np.ndarray:
    """:return: (n_rows,), the bin of each score, as calibration_error cuts them."""
    import numpy as np

    return np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
