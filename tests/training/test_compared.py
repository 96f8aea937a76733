"""Two models beside each other: the same figures whoever asks, and each of them drawn once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reports import answers, binary
from training import paired
from training.compared import Compared
from training.paired import Pairs


@pytest.fixture
def both():
    kept = answers(binary(900, 850), seed=1, slices={"half": np.arange(1000) < 500, "none": np.zeros(1000, bool)})
    return kept.against("champion", ["a", "b"], 7)


def test_differences_are_those_of_the_pairs(both):
    pairs = Pairs.of(both.truth, both.one, both.other, 2)
    for metric in ("accuracy", "f1_macro", "f1_weighted"):
        assert both.difference(metric) == pairs.difference(metric, 7)
    assert both.difference("log_loss").value == 0


def test_what_was_drawn_is_not_drawn_again(both, monkeypatch):
    first = both.difference("f1_macro")
    monkeypatch.setattr(paired, "resampled", lambda *_: pytest.fail("drawn again"))
    assert both.difference("f1_macro") is first


def test_the_parts_are_slices_with_rows_and_labels(both):
    assert [(part.kind, part.name, part.metric, part.rows) for part in both.parts] == [
        ("slice", "half", "accuracy", 500),
        ("label", "a", "f1", 500),
        ("label", "b", "f1", 500),
    ]
    half, label, _other = both.parts
    right = [(said == both.truth)[:500].mean() for said in (both.one, both.other)]
    assert half.difference.value == pytest.approx(right[0] - right[1])
    assert label.difference.value == pytest.approx(both.pairs.of_label(0).difference("f1", 7).value)


def test_evidence_has_one_comparison_for_each_role():
    kept = answers(binary(900, 850))
    assert isinstance(kept.against("champion", ["a", "b"], 1), Compared)
    assert kept.against("champion", ["a", "b"], 1) is kept.against("champion", ["a", "b"], 1)
    assert kept.against("champion", ["a", "b"], 1) is not kept.against("champion", ["a", "b"], 2)
