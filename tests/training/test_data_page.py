"""What a person sees of a data report."""

from __future__ import annotations

import pytest

from tests.training.test_verdict_page import HOSTILE, Page
from training.contract import SPLITS
from training.data_page import data_page


def split(rows):
    return dict(zip(SPLITS, (rows, rows // 5, rows // 10), strict=True))


def report(now=None, last=None, **values):
    now = {"neg": 400, "pos": 600} if now is None else now
    labels = [
        {"label": label, "now": split(rows), "last": None if last is None else split(last.get(label, 0))}
        for label, rows in now.items()
    ]
    return {
        "pipeline": "films",
        "made": "2026-11-21T15:00:00+00:00",
        "quarantined": None,
        "source": {"uri": "/data", "files": 2},
        "snapshot": {"uri": "file:///store/snapshots/1", "digest": "1" * 64},
        "last": None if last is None else {"digest": "0" * 64},
        "watermark": "file:///store/watermarks/1",
        "rows": {"now": split(sum(now.values())), "last": None if last is None else split(sum(last.values()))},
        "labels": labels,
        "labels_left_out": 0,
        "objects": {"counts": {"new": 1, "changed": 0, "removed": 0, "unchanged": 1}, "named": {"new": ["/data/b"]}},
        "dropped": [],
        "examples": [],
        "findings": [],
        "lengths": {"characters": [[20, 900], [30, 0], [40, 100]]},
        **values,
    }


def near(text, other, **values):
    example = {"file": "/data/b", "row": 7, "text": text, "near_file": "/data/a", "near_row": 3, "near_text": other}
    return {
        "check": "near_test",
        "policy": "report",
        "count": 1,
        "sentence": "1 new row is nearly one of the test split.",
        "examples": [{**example, "similarity": 0.93, **values}],
    }


def text_of(**values):
    return Page(data_page(report(**values))).text


def test_what_the_checks_found_comes_first():
    text = text_of(findings=[near("a good film", "a bad film")])
    assert text.index("1,300 rows, 2 labels") < text.index("1 new row is nearly") < text.index("Rows split")
    assert "near_test: reported" in text


def test_label_shares_stand_beside_those_of_the_last_snapshot():
    text = text_of(last={"neg": 500, "pos": 500})
    assert "pos 600 60.00% 50.00% +10.00" in text
    assert "neg 400 40.00% 50.00% −10.00" in text


def test_a_label_that_is_new_or_gone_says_so():
    text = text_of(now={"neg": 500, "gone": 0, "here": 500}, last={"neg": 500, "gone": 500})
    assert "here 500 50.00% 0.00% new" in text
    assert "gone 0 0.00% 50.00% gone" in text


def test_the_first_snapshot_is_compared_with_nothing():
    text = text_of()
    assert "There is no earlier snapshot to compare with." in text
    assert "last snapshot" not in text.replace("earlier snapshot", "")


def test_of_many_labels_those_that_moved_most_come_first_and_all_can_be_opened():
    last = {f"label {i}": 100 for i in range(150)}
    page = Page(data_page(report(now={**last, "label 149": 150}, last=last)))
    assert "the 30 whose share moved most" in page.text
    assert page.text.index("label 149") < page.text.index("label 0")
    assert "All 150 labels" in page.text
    assert page.text.count("label 149") == 2


def test_the_words_that_differ_are_marked():
    html = data_page(report(findings=[near("where is my new card", "where is the card")]))
    assert "where is <mark>my new</mark> card" in html
    assert "where is <mark>the</mark> card" in html
    assert "93% alike" in html


def test_the_nearest_are_shown_and_the_others_can_be_opened():
    pairs = [near(f"text {i}", f"text {i} too", similarity=i / 10)["examples"][0] for i in range(7)]
    html = data_page(report(findings=[{**near("", ""), "count": 84, "examples": pairs}]))
    first, others = html.split("3 more<")
    assert all(f">{share}% alike" in first for share in (60, 50, 40, 30))
    assert all(f">{share}% alike" in others for share in (20, 10, 0))


def test_what_was_left_out_is_shown_with_reason_file_and_row():
    dropped = [{"reason": "duplicate", "check": "duplicate", "policy": "drop", "new": 2, "all": 1234, "last": 1230}]
    examples = [
        {"file": "/data/b", "row": 17, "reason": "duplicate", "new": True, "text": "seen it", "label": "pos"},
        {"file": "/data/b", "row": 18, "reason": "duplicate", "new": True},
    ]
    text = text_of(dropped=dropped, examples=examples, last={"neg": 400, "pos": 590})
    assert "duplicate left out 1,234 1,230 +4" in text
    assert "seen it pos · /data/b, row 17" in text
    assert "no text /data/b, row 18" in text


def test_texts_that_training_would_cut_are_told_and_shown():
    tokens = {
        "base_model": "acme/bert",
        "new_rows": 1200,
        "sample_rows": 1000,
        "limit": 128,
        "rows_cut": 4,
        "percent_cut": 0.4,
        "median": 12,
        "percentile_90": 40,
        "percentile_99": 90,
        "longest": 300,
        "histogram": [[8, 900], [64, 96], [128, 3], [192, 0], [256, 1]],
    }
    html = data_page(report(lengths={"characters": [], "tokens": tokens}))
    text = Page(html).text
    assert "As acme/bert counts them, in a sample of 1,000 of 1,200 new texts: median 12" in text
    assert "Longer than 128, the most that may be read of one: 0.4 per cent." in text
    assert html.count('class="cut"') == 3


def test_refused_rows_say_why_and_what_stays_in_force():
    text = text_of(
        quarantined="1 new object was set aside: 9 of 9 new rows: empty text",
        dropped=[{"reason": "empty text", "check": "empty_text", "policy": "drop", "new": 9, "all": 0}],
    )
    assert text.index("New rows refused") < text.index("9 of 9 new rows") < text.index("stays in force: 1,300 rows")
    assert "empty text 9" in text


def test_the_examples_of_any_check_are_shown_without_their_digests():
    finding = {"check": "label_share", "policy": "report", "count": 1, "sentence": "pos moved."}
    example = {"label": "pos", "share": 0.25, "text": "words", "text_sha256": "f" * 64}
    text = text_of(findings=[{**finding, "examples": [example]}])
    assert "label share text pos 0.25 words" in text
    assert "ffff" not in text


@pytest.mark.parametrize("hostile", [*HOSTILE, "\u202emarkup\u202c", "\0", "x" * 2000, "\ud800"])
def test_hostile_values_stay_text(hostile):
    finding = near(hostile, f"{hostile} more", file=hostile, near_file=hostile)
    other = {**finding, "check": hostile, "sentence": hostile, "examples": [{hostile: hostile}]}
    html = data_page(
        report(
            now={hostile: 5, "pos": 5},
            last={hostile: 5, "pos": 5},
            pipeline=hostile,
            source={hostile: hostile},
            findings=[finding, other],
            dropped=[{"reason": hostile, "check": None, "policy": hostile, "new": 1, "all": 1, "last": 0}],
            examples=[{"file": hostile, "row": 1, "reason": hostile, "new": True, "text": hostile, "label": hostile}],
            objects={"counts": {"new": 1}, "named": {"new": [hostile]}},
        )
    )
    shown = Page(html)
    html.encode()
    assert {"script", "img", "b"}.isdisjoint(shown.tags)
    assert not [name for name, _value in shown.attributes if name.startswith("on") or name in ("src", "href")]
    assert not {"\u202e", "\0", "\ud800"} & set(html)


def test_a_label_without_end_is_cut():
    html = data_page(report(findings=[near("x" * 100_000 + " a", "x" * 100_000 + " b")], now={"l" * 10**6: 9, "b": 9}))
    assert len(html) < 1_000_000


def test_a_new_version_of_the_test_split_shows_what_it_lost_and_what_was_corrected():
    gone = {"change": "deleted", "was": "pos", "label": None, "file": "/data/a", "row": 1_200, "text": "a <b>film</b>"}
    mended = {**gone, "change": "corrected", "label": "neg", "row": 7, "text": "a bad film"}
    version = {"version": 3, "rows": 40, "digest": "2" * 64, "added": 5, "deleted": 1, "corrected": 1, "respelled": 0}
    text = text_of(test_split={**version, "examples": [gone, mended]})
    assert "Version 3 of the test split; since version 2: 5 added, 1 deleted, 1 corrected, 0 respelled." in text
    assert "test rows deleted a <b>film</b> pos · /data/a, row 1,200" in text
    assert "test rows corrected a bad film pos → neg · /data/a, row 7" in text


def test_a_first_version_of_the_test_split_has_nothing_to_compare_with():
    version = {"version": 1, "rows": 40, "digest": "2" * 64, "added": 40, "deleted": 0, "corrected": 0, "respelled": 0}
    assert "Version 1 of the test split." in text_of(test_split={**version, "examples": []})
