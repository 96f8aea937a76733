"""Differences are said in words, so that nobody has to know which way a sign points."""

from __future__ import annotations

import re

import pytest

from training.strip import better_by, gain, number, reach, strip, tone


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.05, "0.0500 better"), (-0.05, "0.0500 worse"), (0.00001, "equal"), (-0.0, "equal"), (12.5, "12.5000 better")],
)
def test_a_difference_is_better_or_worse(value, said):
    assert better_by(value) == said


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.07, -0.03, "0.0700 to 0.0300 worse"),
        (0.03, 0.07, "0.0300 to 0.0700 better"),
        (-0.03, 0.07, "0.0300 worse to 0.0700 better"),
        (-0.03, 0.0, "0.0300 worse to equal"),
        (0.0, 0.0, "equal"),
        (0.03, 0.03, "0.0300 better"),
    ],
)
def test_an_interval_is_said_from_its_worse_end(low, high, said):
    assert reach({"value": low, "low": low, "high": high}) == said


def test_only_what_is_no_luck_has_a_colour():
    assert tone({"value": -0.1, "low": -0.2, "high": -0.05}) == "bad"
    assert tone({"value": 0.1, "low": 0.05, "high": 0.2}) == "good"
    assert tone({"value": -0.1, "low": -0.2, "high": 0.05}) == ""
    assert tone({"value": -0.1}) == ""


def test_what_is_not_known_is_a_dash():
    assert number(None) == gain(None) == "–"
    assert "<small" not in gain({"value": 0.1})


def test_right_is_better_and_what_lies_beyond_the_scale_is_at_its_end():
    drawn = strip(-0.05, -0.07, -0.03, scale=(-0.1, 0.1), bound=-0.02, zero=0.0, label="worse <by> far")
    dot = float(re.search(r'circle cx="([\d.]+)"', drawn)[1])
    bound = float(re.search(r'class="bound" x="([\d.]+)"', drawn)[1])
    zero = float(re.search(r'class="zero" x="([\d.]+)"', drawn)[1])
    assert dot < bound < zero
    assert 'aria-label="worse &lt;by&gt; far"' in drawn
    beyond = strip(5.0, None, None, scale=(-0.1, 0.1), label="")
    assert float(re.search(r'circle cx="([\d.]+)"', beyond)[1]) <= 160
    assert "reach" not in beyond
