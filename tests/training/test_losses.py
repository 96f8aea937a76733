"""Differences of scores: of losses, and of how far scores can be believed."""

from __future__ import annotations

import numpy as np
import pytest

from training.losses import calibration_difference, loss_difference, mean_loss
from training.metrics import calibration_error


def test_losses_are_compared_by_their_mean_and_its_spread():
    random = np.random.default_rng(0)
    one, other = random.exponential(0.3, 5000), random.exponential(0.35, 5000)
    difference = loss_difference(one, other, seed=0)
    assert difference.value == pytest.approx(np.mean(other - one))
    assert difference.spread == pytest.approx(np.std(other - one) / np.sqrt(5000), rel=0.03)


def test_a_mean_loss_has_the_spread_of_its_rows():
    losses = np.random.default_rng(0).exponential(0.3, 5000)
    found = mean_loss(losses, seed=0)
    assert found.value == pytest.approx(losses.mean())
    assert found.samples.std() == pytest.approx(losses.std() / np.sqrt(5000), rel=0.03)


def test_equal_losses_differ_by_nothing():
    losses = np.full(10, 0.4)
    difference = loss_difference(losses, losses, seed=0)
    assert (difference.value, difference.at_least(0.95), difference.at_most(0.95)) == (0, 0, 0)


def test_the_spread_of_even_losses_is_known_as_well_as_by_all_rows():
    random = np.random.default_rng(0)
    one, other = random.normal(0.3, 0.1, 5000), random.normal(0.3, 0.1, 5000)
    assert loss_difference(one, other, seed=0).freedom == pytest.approx(5000, rel=0.1)


def sure(seed, rows=400, too_sure=0.0):
    random = np.random.default_rng(seed)
    sureness = random.uniform(0.4, 1, rows)
    return sureness, random.random(rows) < sureness - too_sure


def test_the_difference_of_calibration_errors_is_theirs():
    one, other = sure(0), sure(1, too_sure=0.2)
    difference = calibration_difference(one, other, seed=0)
    assert difference.value == pytest.approx(calibration_error(*other) - calibration_error(*one))
    assert difference.at_least(0.95) > 0


def test_it_has_the_spread_that_drawing_rows_gives():
    one, other = sure(2), sure(3)
    random = np.random.default_rng(4)
    by_rows = []
    for _ in range(500):
        rows = random.integers(0, 400, 400)
        by_rows.append(calibration_error(*(each[rows] for each in other)))
        by_rows[-1] -= calibration_error(*(each[rows] for each in one))
    assert calibration_difference(one, other, seed=0).spread == pytest.approx(np.std(by_rows), rel=0.15)


def test_a_model_is_as_well_calibrated_as_itself():
    one = sure(5)
    found = calibration_difference(one, one, seed=0)
    assert (found.value, found.at_least(0.95), found.at_most(0.95)) == (0, 0, 0)
