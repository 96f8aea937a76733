"""Each rule stands with its value, interval, bound and rows, and a picture in which right is better."""

from __future__ import annotations

import re

import pytest

from tests.reports import answers, binary
from tests.training.test_verdict_page import in_order, page
from training.verdict_rules import rules


def test_a_rule_stands_with_its_value_interval_bound_and_rows():
    text = page(binary(834, 884), metric="accuracy", no_worse_by=0.03, minimum={"accuracy": 0.8}).text
    assert re.search(
        r"no_worse_by\.accuracy .* ✗ fail 0\.0500 worse \S+ to \S+ worse at most 0\.0300 worse 1,000", text
    )
    assert "✓ pass 0.8340 at least 0.8000" in text
    assert in_order(text, "no_worse_by.accuracy", "minimum.accuracy"), "what does not pass comes first"


def test_an_undecided_rule_says_how_many_rows_would_decide():
    evidence = binary(87, 88, rows=100)
    text = page(evidence, answers(evidence, seed=0), metric="accuracy", approval="undecided").text
    assert re.search(r"\? undecided about [\d,]+ rows would decide 0\.0100 worse", text)


@pytest.mark.parametrize(
    ("name", "value", "bound", "is_better"),
    [
        ("minimum.accuracy", 0.9, 0.8, True),
        ("minimum.accuracy", 0.7, 0.8, False),
        ("maximum.latency_p99_ms", 30.0, 50.0, True),
        ("maximum.latency_p99_ms", 80.0, 50.0, False),
        ("no_worse_by.f1_macro", -0.01, -0.02, True),
    ],
)
def test_right_of_the_bound_is_well_whatever_the_rule(name, value, bound, is_better):
    rule = {"name": name, "outcome": "pass", "value": value, "bound": bound, "reason": "because"}
    html = rules([{**rule, "low": None, "high": None, "rows": None, "rows_to_decide": None}])
    dot, line = (float(re.search(pattern, html)[1]) for pattern in (r'cx="([\d.]+)"', r'"bound" x="([\d.]+)"'))
    assert (dot > line) == is_better


def test_no_rule_is_nothing():
    assert rules([]) == ""
