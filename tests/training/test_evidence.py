"""What models said is read as it was kept, whatever the order of their labels."""

from __future__ import annotations

import numpy as np

from tests.reports import binary
from tests.training.evaluations import SCORE, Evaluation
from training.evidence import read_evidence


def test_the_answers_are_those_that_were_kept_whatever_the_order_of_a_models_labels(tmp_path):
    evidence = Evaluation(tmp_path, binary(910, 884))
    found = read_evidence(evidence.report)
    assert np.array_equal(found.truth, evidence.kept.truth)
    for role, predicted in evidence.kept.predicted.items():
        assert np.array_equal(found.predicted[role], predicted)
        right = predicted == found.truth
        assert np.allclose(found.losses[role][right], -np.log(SCORE))
        assert np.allclose(found.losses[role][~right], -np.log(1 - SCORE))
