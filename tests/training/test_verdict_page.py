from __future__ import annotations

from html.parser import HTMLParser

import pytest

from tests.reports import answers, binary, report
from training.gate import decide
from training.rules import Rules
from training.verdict_page import verdict_page


class Page(HTMLParser):
    """What a browser makes of a page: its tags, their attributes and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data.strip())


def page(evidence, **rules):
    return Page(verdict_page(evidence, decide(evidence, answers(evidence), Rules(**rules))))


def test_the_verdict_and_its_reasons_come_first():
    text = page(binary(834, 884), metric="accuracy").text
    reason = "accuracy 0.834 is below the champion's 0.884, by 0.050"
    assert text.index("Hold") < text.index(reason) < text.index("Metrics") < text.index("Labels")


def test_candidate_and_champion_stand_side_by_side_with_their_digests():
    evidence = binary(910, 884)
    text = page(evidence, metric="accuracy").text
    assert "accuracy 0.9100 0.8840 +0.0260" in text
    for part in ("candidate", "champion", "test_set"):
        assert evidence[part]["digest"] in text


def test_what_the_test_rows_are_too_few_for_is_noted():
    shown = page(report([[90, 0], [1, 2]], labels=["a", "<b>"]))
    assert "Notes label '<b>' has 3 test rows: its scores say little" in shown.text
    assert "b" not in shown.tags
    assert "Notes" not in page(binary(900)).text


HOSTILE = ["<script>alert(1)</script>", "\"><img src=x onerror='alert(2)'>", "&lt;b&gt;"]


def test_hostile_label_names_stay_text():
    evidence = report([[9, 1, 0], [2, 7, 1], [0, 0, 5]], [[9, 1, 0], [2, 7, 1], [0, 0, 5]], labels=HOSTILE)
    evidence["candidate"]["model"] = "models:/<script>x</script>/1"
    shown = page(evidence, no_worse_by=0.0)
    assert {"script", "img", "b"}.isdisjoint(shown.tags)
    assert not [name for name, _value in shown.attributes if name.startswith("on") or name in ("src", "href")]
    for label in HOSTILE:
        assert label in shown.text


def test_many_labels_give_a_list_of_mistakes_instead_of_a_matrix():
    size = 150
    confusion = [[40 if i == j else 3 if j == (i + 1) % size else 0 for j in range(size)] for i in range(size)]
    html = verdict_page(evidence := report(confusion), decide(evidence, answers(evidence), Rules()))
    assert "label 149" in html
    assert "and 120 more" in html
    assert len(html) < 200_000


@pytest.mark.parametrize("broken", [None, {}, {"candidate": "<script>"}])
def test_a_report_that_cannot_be_used_still_gives_a_page(broken):
    shown = Page(verdict_page(broken, decide(broken, None, Rules())))
    assert "Hold" in shown.text
    assert "cannot be used" in shown.text
    assert "script" not in shown.tags


def test_the_first_run_says_that_there_is_no_champion():
    assert "There is no champion to compare with yet." in page(binary(900)).text


def test_what_serving_costs_and_what_else_was_compared_is_shown():
    evidence = binary(910, 884)
    evidence["best"] = {**evidence["champion"], "model": "models:/sentiment/2", "digest": "b" * 64}
    evidence["baseline"] = {**binary(500)["candidate"], "model": "majority", "digest": "d" * 64, "serving": None}
    for role in ("best", "baseline"):
        evidence["predictions"][role] = f"file:///store/predictions/{role}/predictions.parquet"
    evidence["test_set"]["new_rows"] = 120
    text = page(evidence, no_worse_by=1.0).text
    assert "120 of the rows joined after the champion was judged" in text
    assert (
        "metric candidate champion difference best ever baseline accuracy 0.9100 0.8840 +0.0260 0.8840 0.5000" in text
    )
    assert "calibration_error 0.0500 0.0500 0.0000 0.0500 0.0500" in text
    assert "candidate champion best ever latency p50, ms 1.5 1.5 1.5" in text
    assert "on disk, MB 180.0" in text
    assert "same label as the checkpoint 100.00%" in text
    assert "best ever models:/sentiment/2" in text
    assert "baseline majority" in text
