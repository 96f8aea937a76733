from __future__ import annotations

import numpy as np

from training.golden import golden_examples
from training.testset import TestSet


def test_golden_examples_cover_the_labels_and_are_the_same_each_time():
    texts = [f"text {i}" for i in range(100)] + ["text 0"]
    labels = ["often"] * 97 + ["rare"] * 3 + ["often"]
    clear = np.tile([0.9, 0.1], (101, 1))
    clear[:50] = [0.51, 0.49]
    golden = golden_examples(TestSet("", "", texts, labels), ["often", "rare"], clear, 8)
    assert golden == golden_examples(TestSet("", "", texts, labels), ["often", "rare"], clear, 8)
    rows = [texts.index(text) for text in golden["texts"]]
    assert len(set(rows)) == 8
    assert {97, 98, 99} < set(rows)
    assert all(row >= 50 for row in rows), "near ties are taken last"
    assert golden["labels"] == ["often"] * 8


def test_golden_examples_are_short_where_there_is_a_choice():
    texts = [f"{i} " + "long " * (400 + i) for i in range(40)] + [f"text {i}" for i in range(10)]
    clear = np.tile([0.9, 0.1], (50, 1))
    golden = golden_examples(TestSet("", "", texts, ["a"] * 50), ["a", "b"], clear, 12)
    rows = [texts.index(text) for text in golden["texts"]]
    assert sorted(rows[:10]) == list(range(40, 50))
    assert rows[10:] == [0, 1], "then the shortest of the long ones"
