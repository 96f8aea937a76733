"""When a label's share has moved: seldom by chance, whatever the number of rows, and surely when it has."""

import numpy as np
import pytest

from training.shares import LEVEL, moved_shares

BATCHES = 1000
SIZES = (20, 200, 20_000)
BEFORE = {"a": 400, "b": 300, "c": 200, "d": 100}


def share_told(shares, rows, bound=10.0, before=BEFORE):
    """:return: the share of many batches, drawn with these shares of their labels, in which anything has moved."""
    drawn = np.random.default_rng(20).multinomial(rows, shares, size=BATCHES).tolist()
    return sum(bool(moved_shares(before, dict(zip(before, one, strict=True)), bound)) for one in drawn) / BATCHES


@pytest.mark.parametrize("rows", SIZES)
def test_shares_that_stay_raise_no_false_alarm_at_any_size(rows):
    assert share_told([0.4, 0.3, 0.2, 0.1], rows) == 0


@pytest.mark.parametrize("rows", SIZES)
def test_shares_exactly_at_the_bound_raise_one_in_a_hundred_at_most(rows):
    assert share_told([0.3, 0.4, 0.1, 0.2], rows) <= LEVEL


@pytest.mark.parametrize("rows", SIZES)
def test_many_labels_raise_no_more_false_alarms_than_few(rows):
    labels = {f"label {i}": 10 for i in range(100)}
    assert share_told([0.01] * 100, rows, bound=0, before=labels) <= 2 * LEVEL  # its own chance at 1,000 batches


@pytest.mark.parametrize(
    ("rows", "moved_by", "power"),
    [(20, 0.4, 0.2), (20, 0.6, 0.99), (200, 0.2, 0.3), (200, 0.3, 0.99), (20_000, 0.12, 0.99)],
)
def test_a_share_that_has_moved_is_found_the_sooner_the_more_rows_there_are(rows, moved_by, power):
    rest = (0.6 - moved_by) / 0.6
    assert share_told([0.4 + moved_by, 0.3 * rest, 0.2 * rest, 0.1 * rest], rows) >= power


def test_the_labels_that_moved_are_named_with_the_probability_that_it_is_chance():
    moved = moved_shares(BEFORE, {"a": 700, "b": 100, "c": 120, "d": 80}, 10)
    assert list(moved) == ["a", "b"]
    assert moved["a"] < moved["b"] < LEVEL


def test_the_probability_is_that_of_the_exact_binomial_test():
    from scipy.stats import binomtest

    few = moved_shares({"a": 500, "b": 500}, {"a": 90, "b": 10}, 10)
    assert few["a"] == pytest.approx(4 * binomtest(90, 100, 0.6, alternative="greater").pvalue)
    assert few["b"] == pytest.approx(4 * binomtest(10, 100, 0.4, alternative="less").pvalue)


@pytest.mark.parametrize(("before", "now"), [({}, {}), (BEFORE, dict.fromkeys(BEFORE, 0)), ({"a": 0}, {"a": 9})])
def test_where_there_is_nothing_to_compare_nothing_has_moved(before, now):
    assert moved_shares(before, now, 10) == {}


def test_a_label_that_is_missing_among_many_new_rows_has_moved():
    assert "a" in moved_shares(BEFORE, {"a": 0, "b": 60, "c": 40, "d": 20}, 10)


def test_nothing_moves_beyond_a_bound_of_everything():
    assert moved_shares({"a": 999, "b": 1}, {"a": 0, "b": 10**6}, 100) == {}
