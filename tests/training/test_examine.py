from __future__ import annotations

import numpy as np
import pytest

from training.answers import Answers
from training.examine import agreement_of

LABELS = ("neg", "pos")


def test_a_release_that_differs_is_told_row_by_row():
    trained = Answers(LABELS, np.array([[0.9, 0.1], [0.52, 0.48], [0.2, 0.8], [0.1, 0.9]]))
    served = Answers(LABELS, np.array([[0.9, 0.1], [0.49, 0.51], [0.26, 0.74], [0.1, 0.9]]))
    assert agreement_of(trained, served, 0.05) == {
        "labels": 0.75,
        "largest_difference": pytest.approx(0.06),
        "rows_beyond_tolerance": 1,
        "tolerance": 0.05,
    }


def test_what_is_no_number_is_beyond_every_tolerance():
    trained = Answers(LABELS, np.array([[0.9, 0.1], [0.5, 0.5]]))
    served = Answers(LABELS, np.array([[0.9, 0.1], [np.nan, np.nan]]))
    agreement = agreement_of(trained, served, 0.05)
    assert agreement["largest_difference"] is None
    assert agreement["rows_beyond_tolerance"] == 1
