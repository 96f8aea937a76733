"""
What the gate's comparison does over many test sets, drawn from what real models said to real texts.

``predictions.json`` has the answers of seeds of one training to the test split of TREC, as counts: two seeds each,
either way round. ``python -m benchmarks.decisions --sets trec --cells tests/training/predictions.json`` makes it.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.populations import drawn, of_cells, worsened
from training.paired import Pairs
from training.rules import Rules

ROWS = 1000
CONFIDENCE = 0.95
MARGIN = Rules.no_worse_by
REPLAYS = {"accuracy": 2000, "f1_macro": 200}  # the second takes ten times as long for each


@pytest.fixture(scope="module")
def populations():
    kept = json.loads(Path(__file__).with_name("predictions.json").read_text())
    return [of_cells(one) for one in kept["trec"]]


def replayed(populations, metric):
    random = np.random.default_rng(0)
    for replay in range(REPLAYS[metric]):
        yield drawn(populations[replay % len(populations)], ROWS, random).difference(metric, seed=replay)


def most(metric):
    """:return: how often something happens at most that happens in five per cent, but for one time in a thousand."""
    return stats.binom.ppf(0.999, REPLAYS[metric], 1 - CONFIDENCE)


@pytest.mark.parametrize("metric", REPLAYS)
def test_a_candidate_that_is_worse_by_the_margin_is_let_through_no_more_often_than_stated(populations, metric):
    worse = [worsened(one, metric, MARGIN) for one in populations]
    assert sum(found.at_least(CONFIDENCE) >= -MARGIN for found in replayed(worse, metric)) <= most(metric)


@pytest.mark.parametrize("metric", REPLAYS)
def test_a_candidate_of_equal_quality_is_called_worse_no_more_often_than_stated(populations, metric):
    assert sum(found.at_most(CONFIDENCE) < 0 for found in replayed(populations, metric)) <= most(metric)


def test_most_candidates_of_equal_quality_are_let_through(populations):
    passed = sum(found.at_least(CONFIDENCE) >= -MARGIN for found in replayed(populations, "f1_macro"))
    assert passed >= 0.8 * REPLAYS["f1_macro"]


def test_a_model_is_never_called_worse_than_itself(populations):
    for one in populations:
        itself = Pairs(one.truth, one.one, one.one, one.counts, one.labels)
        difference = itself.difference("f1_macro", seed=0)
        assert difference.at_least(CONFIDENCE) < 0 < difference.at_most(CONFIDENCE)
