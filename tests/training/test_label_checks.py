"""Labels held against those of the last snapshot: what is told, what is left out, what is refused and taken later."""

import json
from pathlib import Path

import pytest

from tests.training.source import ROWS, Source, rows_of, texts_of
from training.contract import BadInput, Checks, SurveyRequest
from training.label_checks import check_labels
from training.layout import Layout
from training.snapshot import Cell, Snapshot
from training.survey import survey


class Lookalikes(Source):
    """Has texts of one template, which is not what these tests are about."""

    def ingest(self, *, policies=None, **others):
        alike = {"near_test": "ignore", "near_duplicate": "ignore"}
        return super().ingest(policies={**alike, **(policies or {})}, **others)


@pytest.fixture
def source(tmp_path):
    source = Lookalikes(tmp_path)
    source.put("first", ROWS)
    return source


def some(label, count=40, about="matter"):
    return [(f"{about} {i} of {label}", label) for i in range(count)]


def trained(result, label):
    return sum(split == "train" and its == label for split, _text, its in rows_of(result))


def manifest_of(result):
    return json.loads(Path(result.snapshot.removeprefix("file://"), "manifest.json").read_text())


def waits(source):
    """:return: the names of what would start a run."""
    request = SurveyRequest(store=str(source.store), reading=source.reading, watermark=source.watermark)
    return [Path(name).stem for name in survey(request).examples]


# new labels


def test_a_new_label_is_told_once_and_taken_in(source):
    assert source.ingest().warnings == []
    source.put("second", some("refund"))
    result = source.ingest()
    rows = trained(result, "refund")
    assert result.labels == ["neg", "pos", "refund"]
    assert result.warnings == [
        f"Labels that are new, with their training rows: 'refund' {rows}. The champion does not know them."
    ]
    source.put("third", some("refund", 2, about="more"))
    assert source.ingest().warnings == []


def test_a_new_label_that_is_dropped_stays_out_until_the_spec_says_otherwise(source):
    drop = {"policies": {"new_label": "drop"}}
    first = source.ingest(**drop)
    source.put("second", some("refund"))
    second = source.ingest(**drop)
    assert (second.snapshot, second.dropped) == (first.snapshot, {"new label": 40})
    assert "left out" in second.warnings[0]
    source.put("third", [*some("refund", about="more"), ("one more", "pos")])
    for force in (False, True):
        third = source.ingest(**drop, force=force)
        assert (third.labels, third.dropped) == (["neg", "pos"], {"new label": 80})
    assert [one["reason"] for one in manifest_of(third)["examples"]] == ["new label"] * 20
    taken = source.ingest()
    assert (taken.labels, taken.dropped) == (["neg", "pos", "refund"], {})
    assert taken.digest == source.ingest(cold=True).digest


def test_a_label_that_the_spec_lists_is_not_new(source):
    listed = {"labels": ["pos", "neg", "refund"], "policies": {"new_label": "fail"}}
    source.ingest(**listed)
    source.put("second", some("refund"))
    assert source.ingest(**listed).labels == ["neg", "pos", "refund"]


def test_a_new_label_can_set_the_batch_aside_until_it_is_mended(source):
    careful = {"policies": {"new_label": "quarantine"}}
    good = source.ingest(**careful)
    source.put("second", some("refnud"))
    refused = source.ingest(**careful)
    assert (refused.snapshot, refused.labels) == (good.snapshot, ["neg", "pos"])
    assert "set aside: Labels that are new, with their training rows: 'refnud'" in refused.quarantined
    assert waits(source) == []
    source.put("second", some("neg"))
    assert waits(source) == ["second"]
    mended = source.ingest(**careful)
    assert mended.quarantined is None
    assert mended.digest == source.ingest(cold=True).digest


def test_a_new_label_can_end_the_run(source):
    source.ingest()
    source.put("second", some("refund"))
    with pytest.raises(BadInput, match=r"'refund' \d+.*checks\.new_label is fail, so no snapshot was made"):
        source.ingest(policies={"new_label": "fail"})


# vanished labels


def test_a_label_that_vanishes_is_told(source):
    source.put("second", some("refund"))
    before = source.ingest()
    source.remove("second")
    assert source.ingest().warnings == [
        "Labels that no training row has any more, with those of the last snapshot: "
        f"'refund' {trained(before, 'refund')}. The next model will not know them."
    ]


def test_objects_that_are_gone_can_be_missed_until_they_are_back(source):
    careful = {"policies": {"vanished_label": "quarantine"}}
    source.put("second", some("refund"))
    good = source.ingest(**careful)
    source.remove("second")
    refused = source.ingest(**careful)
    assert refused.snapshot == good.snapshot
    assert refused.quarantined.startswith("no new snapshot was made: Labels that no training row has any more")
    assert waits(source) == []  # or a run would start over and over
    assert source.ingest(**careful).quarantined
    source.put("third", some("refund", about="other"))
    taken = source.ingest(**careful)
    assert (taken.quarantined, taken.labels) == (None, good.labels)
    assert not {text for text, _ in some("refund")} & texts_of(taken)
    assert taken.digest == source.ingest(cold=True).digest


def test_what_is_missed_goes_once_the_policy_is_another(source):
    source.put("second", some("refund"))
    source.ingest()
    source.remove("second")
    source.ingest(policies={"vanished_label": "quarantine"})
    assert source.ingest().digest == source.ingest(cold=True).digest


# rare labels


def test_a_rare_label_is_told(source):
    source.put("second", some("refund", 5))
    result = source.ingest()
    assert result.warnings == [
        f"Labels with fewer than 10 training rows: 'refund' {trained(result, 'refund')}. A model learns little of them."
    ]
    assert source.ingest(min_rows_per_label=1).warnings == []


def test_a_rare_label_that_is_dropped_comes_in_with_enough_rows(source):
    drop = {"policies": {"rare_label": "drop"}, "min_rows_per_label": 20}
    source.put("second", some("refund", 20))
    few = source.ingest(**drop)
    assert (few.labels, few.dropped) == (["neg", "pos"], {"label with too few training rows": 20})
    source.put("third", some("refund", 20, about="more"))
    enough = source.ingest(**drop)
    assert (enough.labels, enough.dropped) == (["neg", "pos", "refund"], {})
    raised = source.ingest(**drop | {"min_rows_per_label": 35})
    assert (raised.labels, raised.dropped) == (["neg", "pos"], {"label with too few training rows": 40})


def test_a_cap_makes_no_label_rare(source):
    assert source.ingest(max_rows_per_label=5, policies={"rare_label": "fail"}).rows["train"] == 10


def test_only_a_label_that_became_rare_sets_what_is_new_aside(source):
    careful = {"policies": {"rare_label": "quarantine"}}
    source.put("second", some("refund", 5))
    source.ingest()
    source.put("third", [("one more", "pos")])
    assert source.ingest(**careful).quarantined is None
    source.put("fourth", some("lost card", 5))
    assert "'lost card'" in source.ingest(**careful).quarantined


# shares that moved


def test_a_share_that_moved_among_the_new_rows_is_told_with_both(source):
    source.ingest()
    source.put("second", [*some("pos", 180), *some("neg", 20)])
    [told] = source.ingest().warnings
    assert told == (
        "Labels whose share among 200 new rows is more than 10 percentage points from the last snapshot's, beyond "
        "chance: 'neg' 10.0%, 50.0% before; 'pos' 90.0%, 50.0% before. Has the source changed, or the way of labelling?"
    )


def test_a_batch_whose_shares_moved_can_be_set_aside_until_it_is_mended(source):
    careful = {"policies": {"moved_share": "quarantine"}}
    good = source.ingest(**careful)
    source.put("second", some("pos", 200))
    assert source.ingest(**careful).snapshot == good.snapshot
    source.put("second", [*some("pos", 100), *some("neg", 100)])
    assert source.ingest(**careful).digest == source.ingest(cold=True).digest


def test_few_rows_of_one_label_are_no_alarm(source):
    source.ingest()
    source.put("second", some("pos", 8))
    assert source.ingest(policies={"moved_share": "fail"}).warnings == []


def test_the_bound_is_the_specs(source):
    source.ingest()
    source.put("second", [*some("pos", 180), *some("neg", 20)])
    assert source.ingest(moved_share_percent=45.0).warnings == []


# from counts alone


def snapshot(cut_off=(), own=(), **rows):
    """:param rows: of each label, in each of the splits. :param own: splits with a source of their own."""
    cells = {split: {label: Cell(n, 1) for label, n in rows.items()} for split in ("train", "validation", "test")}
    settings = {f"{split}_percent": None if split in own else 10 for split in ("validation", "test")}
    cutoffs = [{"split": split, "label": label, "h0": 1} for split in cut_off for label in rows]
    return Snapshot(cells, settings, Layout([], cutoffs=cutoffs))


def arrived(**rows):
    return {split: {label: Cell(n, 1) for label, n in rows.items()} for split in ("train", "validation", "test")}


def found(drawn, last, new, **checks):
    return {one.check: one for one in check_labels(Checks(**checks), drawn, last, new).findings}


def test_shares_are_compared_where_rows_are_as_they_come():
    before, now = snapshot(a=500, b=500), snapshot(a=590, b=510)
    assert found(now, before, arrived(a=90, b=10))["moved_share"].examples[0]["rows"] == 270
    assert found(snapshot(a=590, b=510, own=["test"]), before, arrived(a=90, b=10))["moved_share"].examples[0] == {
        "label": "a",
        "before": 0.5,
        "now": 0.9,
        "rows": 180,
        "p": pytest.approx(0, abs=1e-9),
    }
    capped = snapshot(a=500, b=500, cut_off=["train"], own=["validation", "test"])
    assert "moved_share" not in found(now, capped, arrived(a=90, b=10))


def test_a_new_label_does_not_move_the_shares_of_the_others():
    told = found(snapshot(a=550, b=550, c=200), snapshot(a=500, b=500), arrived(a=50, b=50, c=200))
    assert told.keys() == {"new_label"}


def test_a_sentence_names_five_labels_and_counts_the_others():
    names = {f"label {i}": 100 + i for i in range(30)} | {"x" * 500: 300}
    told = found(snapshot(a=1000, **names), snapshot(a=1000), arrived(a=0))["new_label"]
    assert told.count == 31
    assert told.sentence.count("'label ") == 4
    assert f"'{'x' * 60}...' 300" in told.sentence
    assert "; and 26 more. " in told.sentence
    assert len(told.examples) == 20
    assert told.examples[1] == {"label": "label 29", "rows": 129}
