"""Differences of two models on the same rows: what they are, how sure, and what chance makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from training.paired import Pairs, holm, mcnemar, worse_by_chance

BY_HAND = {
    "accuracy": metrics.accuracy_score,
    "f1_macro": lambda truth, said: metrics.f1_score(truth, said, labels=np.unique(truth), average="macro"),
    "f1_weighted": lambda truth, said: metrics.f1_score(truth, said, labels=np.unique(truth), average="weighted"),
}


def drawn(seed, rows=400, labels=3, one_right=0.9, other_right=0.9):
    random = np.random.default_rng(seed)
    truth = random.integers(0, labels, rows)
    said = [
        np.where(random.random(rows) < p, truth, random.integers(0, labels, rows)) for p in (one_right, other_right)
    ]
    return truth, *said


@pytest.mark.parametrize("metric", BY_HAND)
def test_the_difference_is_that_of_the_metrics(metric):
    truth, one, other = drawn(0)
    expected = BY_HAND[metric](truth, one) - BY_HAND[metric](truth, other)
    assert Pairs.of(truth, one, other, 3).difference(metric, seed=0).value == pytest.approx(expected)


@pytest.mark.parametrize("metric", BY_HAND)
def test_cells_give_the_interval_that_drawing_rows_gives(metric):
    truth, one, other = drawn(1, rows=200)
    random = np.random.default_rng(2)
    by_rows = []
    for _ in range(500):
        rows = random.integers(0, len(truth), len(truth))
        by_rows.append(BY_HAND[metric](truth[rows], one[rows]) - BY_HAND[metric](truth[rows], other[rows]))
    difference = Pairs.of(truth, one, other, 3).difference(metric, seed=0)
    for quantile, bound in ((0.05, difference.at_least(0.95)), (0.95, difference.at_most(0.95))):
        assert bound == pytest.approx(np.quantile(by_rows, quantile), abs=0.2 * np.std(by_rows))


def test_the_same_rows_and_seed_give_the_same_interval_in_any_order():
    truth, one, other = drawn(3)
    order = np.random.default_rng(0).permutation(len(truth))
    first = Pairs.of(truth, one, other, 3).difference("f1_macro", seed=5)
    again = Pairs.of(truth[order], one[order], other[order], 3).difference("f1_macro", seed=5)
    assert first == again


@pytest.mark.parametrize("metric", BY_HAND)
def test_what_a_model_reaches_by_itself_has_the_interval_that_drawing_rows_gives(metric):
    truth, one, other = drawn(1, rows=200)
    random = np.random.default_rng(2)
    places = [random.integers(0, len(truth), len(truth)) for _ in range(500)]
    by_rows = [BY_HAND[metric](truth[rows], one[rows]) for rows in places]
    score = Pairs.of(truth, one, other, 3).scores([metric], seed=0)[metric]
    assert score.value == pytest.approx(BY_HAND[metric](truth, one))
    for quantile, bound in ((0.05, score.at_least(0.95)), (0.95, score.at_most(0.95))):
        assert bound == pytest.approx(np.quantile(by_rows, quantile), abs=0.2 * np.std(by_rows))


@pytest.mark.parametrize("metric", BY_HAND)
def test_answers_that_never_differ_may_differ_in_the_next_row(metric):
    truth, one, _other = drawn(1, rows=200)
    difference = Pairs.of(truth, one, one, 3).difference(metric, seed=0)
    assert difference.value == 0
    assert -0.05 < difference.at_least(0.95) < -1 / 200
    assert difference.at_most(0.95) == -difference.at_least(0.95)


def test_a_label_that_no_row_has_counts_in_no_average():
    truth, one, other = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1]), np.array([0, 0, 1, 1])
    expected = BY_HAND["f1_macro"](truth, one) - 1
    assert Pairs.of(truth, one, other, 3).difference("f1_macro", seed=0).value == pytest.approx(expected)


def test_a_label_is_looked_at_by_itself():
    truth, one, other = drawn(4)
    expected = metrics.f1_score(truth == 2, one == 2) - metrics.f1_score(truth == 2, other == 2)
    assert Pairs.of(truth, one, other, 3).of_label(2).difference("f1", seed=0).value == pytest.approx(expected)


def test_mcnemars_test_is_the_exact_one():
    # 10 rows that only the one gets right, 2 that only the other does: 2 * (1 + 12 + 66) / 4096
    truth = np.zeros(20, int)
    one, other = np.repeat([0, 1, 0], [10, 2, 8]), np.repeat([1, 0, 0], [10, 2, 8])
    pairs = Pairs.of(truth, one, other, 2)
    assert (pairs.only_one, pairs.only_other) == (10, 2)
    assert mcnemar(pairs) == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert mcnemar(Pairs.of(truth, truth, truth, 2)) == 1


def test_the_rows_that_would_decide_do_decide():
    truth, one, other = drawn(6, rows=300, one_right=0.90, other_right=0.91)
    difference = Pairs.of(truth, one, other, 3).difference("accuracy", seed=0)
    limit = -0.02
    assert difference.at_least(0.95) < limit < difference.at_most(0.95)
    factor = -(-difference.rows_to_decide(limit, 0.95) // len(truth)) + 1
    more = Pairs.of(*(np.tile(each, factor) for each in (truth, one, other)), 3).difference("accuracy", seed=0)
    assert more.at_least(0.95) > limit


def test_a_difference_at_the_limit_is_decided_by_no_number_of_rows():
    truth = np.zeros(100, int)
    other = truth.copy()
    one = np.repeat([1, 0], [5, 95])
    difference = Pairs.of(truth, one, other, 2).difference("accuracy", seed=0)
    assert difference.rows_to_decide(-0.05, 0.95) is None


def test_few_rows_that_agree_by_chance_refute_nothing():
    truth = np.zeros(60, int)
    one, other = np.repeat([1, 0], [3, 57]), truth
    pairs = Pairs.of(truth, one, other, 2)
    assert worse_by_chance(pairs, pairs.difference("accuracy", seed=0), 0.0) == pytest.approx(1 / 8)
    assert worse_by_chance(Pairs.of(truth, truth, truth, 2), pairs.difference("accuracy", seed=0), 0.0) == 1


def test_holm_refutes_from_the_least_likely_on():
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([0.2, 0.001], 0.05) == [False, True]
    assert holm([], 0.05) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.2))
def test_holm_refutes_no_more_than_each_test_alone_and_no_less_than_bonferroni(chances, level):
    for chance, refuted in zip(chances, holm(chances, level), strict=True):
        assert not refuted or chance <= level
        assert refuted or chance > level / len(chances)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(5, 200), labels=st.integers(2, 5))
def test_swapping_the_models_swaps_the_sign(seed, rows, labels):
    truth, one, other = drawn(seed, rows, labels)
    there = Pairs.of(truth, one, other, labels).difference("f1_macro", seed=0)
    back = Pairs.of(truth, other, one, labels).difference("f1_macro", seed=0)
    assert there.value == pytest.approx(-back.value)
    assert there.at_least(0.95) <= there.at_most(0.95)


@pytest.mark.parametrize("metric", [*BY_HAND, "f1"])
def test_the_pull_of_a_row_is_what_one_more_of_it_changes(metric):
    truth, one, other = drawn(6, labels=2 if metric == "f1" else 4)
    pairs = Pairs.of(truth, one, other, 4)
    pull = pairs._pull(metric, pairs.counts / pairs.rows)
    more = 1e-3 * pairs.rows
    for cell in range(len(pull)):
        counts = pairs.counts / (1 + 1e-3)
        counts[cell] += more / (1 + 1e-3)
        moved = Pairs(pairs.truth, pairs.one, pairs.other, counts, 4)
        changed = _value(moved, metric) - _value(pairs, metric)
        expected = 1e-3 * (pull[cell] - pull @ pairs.counts / pairs.rows)
        assert changed == pytest.approx(expected, rel=0.02, abs=1e-6)


def _value(pairs, metric):
    def score(said):
        if metric == "accuracy":
            return metrics.accuracy_score(pairs.truth, said, sample_weight=pairs.counts)
        average = {"f1": "binary"}.get(metric, metric.removeprefix("f1_"))
        return metrics.f1_score(pairs.truth, said, average=average, sample_weight=pairs.counts)

    return score(pairs.one) - score(pairs.other)


def test_where_few_rows_decide_the_bounds_are_further_out():
    truth = np.repeat([0, 1], [990, 10])
    one, other = truth.copy(), truth.copy()
    one[990:993] = 0  # three of the ten rows of a rare label
    rare = Pairs.of(truth, one, other, 2).difference("f1_macro", seed=0)
    truth, one, other = drawn(7, rows=1000, labels=2)
    common = Pairs.of(truth, one, other, 2).difference("f1_macro", seed=0)
    assert rare.freedom < 15 < 50 < common.freedom
    reach = {each: (each.value - each.half_row - each.at_least(0.95)) / each.spread for each in (rare, common)}
    assert reach[rare] > 1.75 > 1.69 > reach[common] > 1.645
