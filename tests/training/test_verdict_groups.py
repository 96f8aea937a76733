"""Labels, slices, sureness and mistakes, candidate against champion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.reports import answers, binary, report
from tests.training.test_verdict_page import Page
from tests.training.verdicts import judged
from training import verdict_groups as groups

VETOED = {"label 'fell'", "slice 'bad'"}


def shown(html):
    return Page(html).text


def test_labels_say_what_moved_what_vetoes_and_what_is_too_small():
    before = [[90, 10, 0], [5, 95, 0], [1, 0, 9]]
    evidence = report([[99, 1, 0], [25, 75, 0], [2, 0, 8]], before, labels=["stayed", "fell", "small"])
    text = shown(groups.labels(judged(evidence)[1], VETOED))
    assert "F1 fell in 3 and rose in 0 of 3 labels" in text
    assert "one with fewer than 50 rows decides nothing" in text
    assert "fell ✗ holds 100" in text
    assert "small 10 too few" in text
    assert text.index("fell ✗") < text.index("small 10")


def test_labels_that_the_champion_does_not_know_are_named():
    evidence = report([[90, 10], [5, 95]], [[100, 0], [100, 0]], labels=["old", "new"])
    evidence["champion"]["unknown_labels"] = ["new"]
    assert "The champion does not know new" in shown(groups.labels(judged(evidence)[1], ()))


def test_many_labels_are_there_when_they_are_asked_for():
    size = 30
    even = [[40 if i == j else 0 for j in range(size)] for i in range(size)]
    html = groups.labels(judged(report(even, even))[1], ())
    assert html.index("label 0") < html.index("<details>") < html.index("label 9")
    assert "The other 18 labels" in html


def with_slices(evidence, **members):
    evidence["slices"] = [
        {"name": name, "rows": int(rows.sum()), "description": f"about {name}"} for name, rows in members.items()
    ]
    evidence["membership"] = "file:///store/membership.parquet"
    return judged(evidence, replace(answers(evidence), slices=members))[1]


def test_slices_are_plotted_and_told_the_worst_first_and_small_ones_last():
    rows = np.arange(1000)
    members = {"good": rows % 2 == 0, "bad": rows < 500, "tiny": rows < 12, "empty": rows < 0}
    html = groups.slices(with_slices(binary(900, 880), **members), VETOED)
    text = shown(html)
    assert "12 rows, too few" in text
    assert "bad ✗ holds about bad 500" in text
    assert "tiny about tiny 12 too few" in text
    assert "empty about empty 0 –" in text
    assert html.count('class="plot"') == 1


def test_of_very_many_slices_some_are_drawn_and_all_are_told(monkeypatch):
    monkeypatch.setattr(groups, "PLOTTED", 2)
    rows = np.arange(1000)
    members = {f"slice {number}": rows % 5 == number for number in range(5)}
    text = shown(groups.slices(with_slices(binary(900, 880), **members), ()))
    assert "Of 5 the first 2 are drawn." in text
    assert text.count("about slice") == 5


def test_without_a_champion_slices_are_told_without_a_plot():
    html = groups.slices(with_slices(binary(900), all=np.ones(1000, bool)), ())
    assert "all about all 1,000 0.9000" in shown(html)
    assert "plot" not in html
    assert groups.slices(judged(binary(900))[1], ()) == ""


def test_old_and_new_rows_stand_beside_each_other():
    evidence = binary(900, 800)
    kept = replace(answers(evidence, seed=1), new=np.arange(1000) % 4 == 0)
    text = shown(groups.old_and_new(judged(evidence, kept)[1]))
    assert "that the champion was judged on 750" in text
    assert "that joined since 250" in text
    evidence["test_set"]["new_rows"] = 120
    assert "120 of the test rows joined" in shown(groups.old_and_new(judged(evidence)[1]))
    evidence["test_set"]["new_rows"] = None
    assert groups.old_and_new(judged(evidence)[1]) == ""


def test_sureness_is_plotted_and_told():
    text = shown(groups.calibration(judged(binary(900, 800))[1]))
    assert "candidate 0.0500, champion 0.0500" in text
    assert groups.calibration({"calibration": {}}) == ""


def test_a_matrix_has_what_changed_and_a_list_the_mistakes_that_became_more_or_fewer():
    html = groups.confusion(judged(binary(900, 880))[1])
    assert ">450<small>+10</small>" in html
    assert "450" in groups.confusion(judged(binary(900))[1])
    size = 20
    even = [[40 if i == j else 0 for j in range(size)] for i in range(size)]
    worse = [list(row) for row in even]
    worse[3][3], worse[3][7] = 28, 12
    assert "label 3 label 7 12 0 12 more" in shown(groups.confusion(judged(report(worse, even))[1]))
    assert "label 3 label 7 0 12 12 fewer" in shown(groups.confusion(judged(report(even, worse))[1]))
    assert "commonest mistakes" in shown(groups.confusion(judged(report(worse))[1]))
