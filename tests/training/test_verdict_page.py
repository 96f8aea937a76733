"""The page of a verdict says first what was decided and why, and shows whatever is in the data as text."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.reports import answers, binary, report
from tests.training.verdicts import judged, page_of
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


def page(evidence, kept=None, **rules):
    return Page(page_of(evidence, kept, **rules))


def in_order(text, *parts):
    places = [text.index(part) for part in parts]
    return places == sorted(places)


def test_the_verdict_its_reasons_and_what_happens_next_come_first():
    text = page(binary(834, 884), metric="accuracy").text
    reason = "accuracy 0.834 is below the champion's 0.884, by 0.050"
    stays = "Production stays as it is: models:/sentiment/3 goes on serving, unless"
    assert in_order(text, "Hold", stays, reason, "0.0500 worse", "Rules", "Metrics", "Labels")


@pytest.mark.parametrize(
    ("right", "rules", "headline", "next_"),
    [
        (950, {}, "Promote", "The candidate is deployed, and becomes the champion once its endpoint answers"),
        (884, {"approval": "always"}, "Ask a person", "Until then models:/sentiment/3 goes on serving."),
    ],
)
def test_each_decision_says_what_follows(right, rules, headline, next_):
    assert in_order(page(binary(right, 884), metric="accuracy", **rules).text, headline, next_)


def test_all_failing_groups_are_on_the_page_and_the_first_reasons_at_its_top():
    size = 60
    even = [[50 if i == j else 0 for j in range(size)] for i in range(size)]
    worse = [[20 if i == j else 30 if j == (i + 1) % size else 0 for j in range(size)] for i in range(size)]
    verdict, details = judged(report(worse, even))
    shown = Page(verdict_page(verdict, details))
    assert len([one for one in verdict["rules"] if one["name"].startswith("group.")]) == size
    for label in range(size):
        assert f"group.label 'label {label}'" in shown.text
    assert "and 55 more, below" in shown.text
    assert "32 more" in shown.text


def test_candidate_and_champion_stand_side_by_side_with_their_digests():
    evidence = binary(910, 884)
    text = page(evidence, metric="accuracy").text
    assert re.search(r"accuracy 0\.9100 0\.8840 0\.0260 better 0\.\d+ to 0\.\d+ better", text)
    for part in ("candidate", "champion", "test_set"):
        assert evidence[part]["digest"] in text


def test_a_difference_that_may_be_luck_has_no_colour():
    evidence = binary(88, 87, rows=100)
    html = page_of(evidence, answers(evidence, seed=0), metric="accuracy")
    assert '<span class="">0.0100 better</span>' in html
    assert '<span class="good">0.1000 better</span>' in page_of(binary(900, 800), metric="accuracy")


def test_what_the_test_rows_are_too_few_for_is_noted():
    shown = page(report([[90, 0], [1, 2]], labels=["a", "<b>"]))
    assert "Notes label '<b>' has 3 test rows: its scores say little" in shown.text
    assert "Notes" not in page(binary(900)).text


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "&lt;b&gt;",
    "</svg></style></script><b>",
    "$\\alpha$ \x1b[31m #0000f0",
]


def hostile():
    """A report in which whatever comes from data or from a person is markup."""
    confusion = [[60 if i == j else 1 for j in range(len(HOSTILE))] for i in range(len(HOSTILE))]
    worse = [[59 if i == j else 1 + (j == (i + 1) % len(HOSTILE)) for j in range(len(HOSTILE))] for i in range(5)]
    evidence = report(worse, confusion, labels=HOSTILE)
    evidence["candidate"]["model"] = "models:/<script>x</script>/1"
    rows = evidence["test_set"]["rows"]
    members = {name: np.arange(rows) % 2 == 0 for name in HOSTILE}
    evidence["slices"] = [
        {"name": name, "rows": int(member.sum()), "description": name} for name, member in members.items()
    ]
    evidence["membership"] = "file:///store/membership.parquet"
    failure = {"text": HOSTILE[0], "text_sha256": "0" * 64, "changed_text": HOSTILE[3], "changed_text_sha256": "0" * 64}
    told = {"expected": HOSTILE[0], "answer": HOSTILE[1], "probability": 0.5}
    test = {"name": HOSTILE[3], "kind": "invariance", "description": HOSTILE[0], "cases": 2, "failures": 1}
    test |= {"rate": 0.5, "pass": 0.9, "passed": False, "examples": [{**failure, **told}]}
    evidence["behaviour"] = {"passed": False, "tests": [test]}
    return evidence, replace(answers(evidence, seed=1), slices=members)


def test_nothing_in_the_data_becomes_markup():
    evidence, kept = hostile()
    verdict, details = judged(evidence, kept, texts=lambda hashes: dict.fromkeys(hashes, HOSTILE[3]))
    details["lineage"] = {
        "known": {HOSTILE[0]: HOSTILE[3]},
        "base_model": HOSTILE[1],
        "key": HOSTILE[0],
        "object_count": 1,
        "objects": [{"name": HOSTILE[3], "version": HOSTILE[0], "rows": 1}],
    }
    shown = Page(verdict_page(verdict, details))
    assert {"script", "img", "b"} & set(shown.tags) == {"b"}
    assert shown.tags.count("b") == 1, "the name of the behavioural test is bold, and that is ours"
    assert shown.tags.count("style") == 1
    assert not [name for name, _value in shown.attributes if name.startswith("on") or name in ("src", "href")]
    assert not [value for name, value in shown.attributes if name == "xlink:href" and not value.startswith("#")]
    for label in HOSTILE[:4]:
        assert label in shown.text
    assert "$\\alpha$ [U+001B][31m #0000f0" in shown.text


def test_a_page_brings_all_that_it_shows():
    evidence, kept = hostile()
    html = page_of(evidence, kept)
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\((?!#)", html)
    assert set(re.findall(r"https?://[^\"<\s]+", html)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_every_plot_is_told_to_who_cannot_see_it_and_no_name_is_given_twice():
    evidence, kept = hostile()
    html = page_of(evidence, kept)
    plots = re.findall(r"<svg[^>]*>", html)
    assert len(plots) > 10
    for plot in plots:
        assert 'role="img"' in plot
        assert re.search(r'aria-label="[^"]+"', plot)
    names = re.findall(r'\bid="([^"]+)"', html)
    assert len(names) == len(set(names))


def test_the_colours_are_those_of_the_page_so_that_they_are_right_in_the_dark():
    evidence, kept = hostile()
    for plot in re.findall(r'<svg[^>]*class="plot".*?</svg>', page_of(evidence, kept), re.DOTALL):
        assert not re.search(r"#[0-9a-f]{6}\b", "".join(re.findall(r'style="[^"]*"', plot)))
        assert "var(--" in plot


def test_many_labels_and_slices_stay_readable_and_small():
    size = 77
    confusion = [[40 if i == j else 3 if j == (i + 1) % size else 0 for j in range(size)] for i in range(size)]
    before = [[39 if i == j else 4 if j == (i + 1) % size else 0 for j in range(size)] for i in range(size)]
    evidence = report(confusion, before)
    rows = evidence["test_set"]["rows"]
    members = {f"slice {i}": np.random.default_rng(i).random(rows) < 0.3 for i in range(50)}
    evidence["slices"] = [
        {"name": name, "rows": int(member.sum()), "description": name} for name, member in members.items()
    ]
    evidence["membership"] = "file:///store/membership.parquet"
    html = page_of(evidence, replace(answers(evidence, seed=1), slices=members))
    shown = Page(html)
    assert "The other 65 labels" in shown.text
    for name in ("label 76", "slice 49"):
        assert name in shown.text
    assert len(html) < 700_000


@pytest.mark.parametrize("broken", [None, {}, {"candidate": "<script>"}])
def test_a_report_that_cannot_be_used_still_gives_a_page(broken):
    shown = Page(verdict_page(*judged(broken, kept=answers(binary(900)))))
    assert "Hold" in shown.text
    assert "cannot be used" in shown.text
    assert "nothing can be promoted before the evaluation is run again" in shown.text
    assert "script" not in shown.tags


def test_the_first_run_says_that_there_is_no_champion():
    text = page(binary(900)).text
    assert "There is no champion to compare with yet." in text
    assert "Rows that the candidate gets wrong: 100" in text
    assert "worse" not in text.replace("← worse", "")


@pytest.mark.parametrize(("right", "said"), [(950, "0.0500 better than"), (500, "0.4000 worse than"), (900, "as")])
def test_a_baseline_that_is_better_cannot_be_overlooked(right, said):
    evidence = binary(900)
    evidence["baseline"] = {**binary(right)["candidate"], "model": "majority", "digest": "d" * 64, "serving": None}
    evidence["predictions"]["baseline"] = "file:///store/predictions/4/predictions.parquet"
    text = page(evidence, metric="accuracy").text
    assert in_order(text, f"{said} the candidate", "Rules")
