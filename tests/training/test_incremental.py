"""Reading against a watermark: what is read again, what is not, and that it never matters for the result."""

import json
import os
import random
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.training.source import ROWS, Source, rows_of, text, texts_of, watch_reading
from training.contract import BadInput, Reading, SurveyRequest
from training.intake import read
from training.store import Store
from training.survey import survey
from training.watermark import Watermark

# what is read


def test_only_new_and_changed_objects_are_read(source, monkeypatch):
    read = watch_reading(monkeypatch)
    source.put("second", [("one more", "pos")])
    source.ingest()
    source.put("third", [("and more", "neg")])
    source.put("second", [("one less", "pos")])
    result = source.ingest()
    assert read == ["first", "second", "second", "third"]
    assert result.objects == {"new": 1, "changed": 1, "removed": 0, "unchanged": 1}
    assert texts_of(result) == {text for text, _ in ROWS} | {"one less", "and more"}


def test_a_run_without_anything_new_reads_nothing_and_changes_nothing(source, monkeypatch):
    first = source.ingest()
    read = watch_reading(monkeypatch)
    again = source.ingest()
    assert read == []
    assert (again.hit, again.snapshot, again.watermark) == (True, first.snapshot, first.watermark)


def test_the_rows_of_an_object_that_is_gone_leave_or_stay_as_the_spec_says(source):
    source.put("second", [("one more", "pos")])
    source.ingest()
    source.remove("second")
    assert "one more" in texts_of(source.ingest(removed="keep"))
    assert "one more" in texts_of(source.ingest(removed="keep"))
    gone = source.ingest()
    assert gone.objects["removed"] == 1
    assert "one more" not in texts_of(gone)


def test_the_same_file_read_in_another_format_leaves_the_snapshot_of_the_first_as_it_was(source):
    source.remove("first")
    lines = ["text,label,\ttext\tlabel"]
    lines += [f"{text},{label},\tnot {text}\t{'neg' if label == 'pos' else 'pos'}" for text, label in ROWS]
    (source.folder / "rows.txt").write_text("\n".join(lines))
    source.reading = replace(source.reading, format="csv")
    commas = source.ingest()
    before = rows_of(commas)
    source.reading = replace(source.reading, format="tsv")
    tabs = source.ingest()
    assert texts_of(tabs) == {f"not {text}" for text, _ in ROWS}
    assert rows_of(commas) == before


def waiting_in(source, **checks):
    request = SurveyRequest(store=str(source.store), reading=source.reading, watermark=source.watermark, **checks)
    return survey(request).objects


@pytest.mark.parametrize("how", ["files", "folder"])
def test_a_source_without_any_object_changes_nothing_and_the_run_says_so(source, how):
    before = source.ingest()
    source.remove("first")
    if how == "folder":
        source.folder.rmdir()
    assert waiting_in(source) == 1
    for _run in range(2):
        empty = source.ingest()
        assert (empty.snapshot, empty.test_split) == (before.snapshot, before.test_split)
        assert "holds no object any more, and all its rows would go" in empty.quarantined
        assert waiting_in(source) == 0  # or a run would start over and over

    source.folder.mkdir(exist_ok=True)
    source.put("first", ROWS)
    back = source.ingest()
    assert (back.digest, back.test_split, back.quarantined) == (before.digest, before.test_split, None)
    assert source.ingest(cold=True).digest == back.digest


def test_objects_may_all_leave_where_their_rows_are_kept(source, monkeypatch):
    before = source.ingest(removed="keep")
    source.remove("first")
    assert waiting_in(source, removed="keep") == 0
    empty = source.ingest(removed="keep")
    assert (empty.hit, empty.digest, empty.quarantined) == (True, before.digest, None)
    source.put("second", [("one more", "pos")])
    assert texts_of(source.ingest(removed="keep")) == {text for text, _ in ROWS} | {"one more"}


def test_a_test_source_without_any_object_leaves_the_last_snapshot_in_force(source):
    exam = source.place / "exam"
    exam.mkdir()
    (exam / "exam.jsonl").write_text('{"text": "a question", "label": "pos"}\n')
    source.reading = replace(source.reading, test=str(exam))
    before = source.ingest()
    (exam / "exam.jsonl").unlink()
    source.put("second", [("one more", "pos")])
    empty = source.ingest()
    assert empty.snapshot == before.snapshot
    assert f"{exam} holds no object any more" in empty.quarantined


def test_a_source_that_never_had_an_object_is_refused(source):
    source.remove("first")
    with pytest.raises(BadInput, match="matches no file"):
        source.ingest()


def test_other_columns_or_splits_mean_that_everything_is_read_again(source, monkeypatch):
    source.ingest()
    read = watch_reading(monkeypatch)
    source.reading = Reading(source=str(source.folder), text="text", label="label", test_percent=20)
    source.ingest()
    assert read == ["first"]


# that it never matters

NEAR_DROPPED = {"near_duplicate": "drop", "near_test": "drop"}


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_reading_piece_by_piece_gives_what_reading_everything_at_once_gives(tmp_path_factory, data):
    draw = random.Random(data.draw(st.integers(0, 10**9)))
    place = tmp_path_factory.mktemp("source")
    own = {}
    if data.draw(st.booleans()):
        (place / "test.jsonl").write_text(
            "".join(
                json.dumps({"text": text(draw.randint(0, 400)), "label": draw.choice("ab")}) + "\n" for _ in range(40)
            )
        )
        own = {"test": str(place / "test.jsonl")}
    source = Source(place, **own)
    base = [(f"row {i}", "ab"[i % 2]) for i in range(120)]
    source.put("base", base)
    rare = data.draw(st.sampled_from(["report", "drop"]))
    personal = data.draw(st.sampled_from(["ignore", "report", "redact", "drop"]))
    near = data.draw(st.sampled_from([{}, {"near_duplicate": "drop"}, NEAR_DROPPED]))
    policies = {"rare_label": rare, "personal_data": personal, **near}
    checks = {"bad_rows_percent": 100.0, "policies": policies, "min_rows_per_label": 20}
    names = []
    for step in range(data.draw(st.integers(1, 4))):
        action = data.draw(st.sampled_from(["add", "add", "change", "remove"] if names else ["add"]))
        rows = [(draw.choice([text(draw.randint(0, 400)), "", None, 7]), draw.choice("aaabbbc")) for _ in range(60)]
        if action == "add":
            names.append(f"more{step}")
        if action == "remove":
            source.remove(names.pop(draw.randrange(len(names))))
        else:
            source.put(draw.choice(names) if action == "change" else names[-1], rows)
        with suppress(BadInput):  # the first batch may be refused, and then there is nothing to stay with
            source.ingest(**checks | {"bad_rows_percent": data.draw(st.sampled_from([100.0, 10.0]))})
    result = source.ingest(**checks)
    cold = source.ingest(cold=True, **checks)
    if near == NEAR_DROPPED:  # what was once examined counts: only a run that knows of it can say the same
        anew = source.ingest(force=True, **checks)
        assert rows_of(result) == rows_of(anew)
        assert (result.digest, result.dropped) == (anew.digest, anew.dropped)
    elif not own:
        assert rows_of(result) == rows_of(cold)
        assert (result.digest, result.dropped) == (cold.digest, cold.dropped)
        assert result.test_split["digest"] == cold.test_split["digest"]
    else:  # what was once examined may have gone since: less is trained on, never more
        assert rows_of(result) <= rows_of(cold)


# the exam


def test_a_text_that_was_ever_in_the_test_split_is_never_trained_on(tmp_path):
    (tmp_path / "test.jsonl").write_text('{"text": "Exam", "label": "pos"}\n{"text": "other", "label": "neg"}\n')
    source = Source(tmp_path, test=str(tmp_path / "test.jsonl"))
    source.put("first", ROWS)
    source.ingest()
    (tmp_path / "test.jsonl").write_text('{"text": "other", "label": "neg"}\n')
    source.put("second", [("exam", "pos")])
    result = source.ingest()
    assert "exam" not in texts_of(result)
    assert result.dropped == {"text is in the test split": 1}
    source.reading = Reading(source=str(source.folder), text="text", label="label")
    assert "exam" not in {t for split, t, _ in rows_of(source.ingest()) if split != "test"}


# selections


def test_a_window_keeps_the_rows_of_the_last_days_and_all_test_rows(tmp_path):
    source = Source(tmp_path, time="at")
    now = datetime.now(UTC)
    rows = [{"text": t, "label": name, "at": (now - timedelta(days=i)).isoformat()} for i, (t, name) in enumerate(ROWS)]
    (source.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = source.ingest(window_days=200)
    old = {t for i, (t, _) in enumerate(ROWS) if i > 200}
    assert {t for split, t, _ in rows_of(result) if split != "test"} == {
        t for split, t, _ in rows_of(source.ingest(cold=True)) if split != "test"
    } - old
    assert {t for split, t, _ in rows_of(result) if split == "test"} & old
    assert source.ingest(window_days=200).hit
    assert source.ingest(window_days=100).rows["train"] < result.rows["train"]


def test_a_window_without_a_time_column_goes_by_the_age_of_the_objects(source):
    source.put("second", [(f"young {i}", ["pos", "neg"][i % 2]) for i in range(40)])
    os.utime(source.folder / "second.jsonl")
    result = source.ingest(window_days=7)
    assert {t.split()[0] for split, t, _ in rows_of(result) if split != "test"} == {"young"}


def test_a_cap_keeps_the_same_rows_of_each_label_whatever_else_comes(source):
    first = source.ingest(max_rows_per_label=50)
    assert first.rows["train"] == 100
    source.put("second", [(f"more {i}", "third") for i in range(30)])
    second = source.ingest(max_rows_per_label=50)
    kept = {row for row in rows_of(first) if row[0] == "train"}
    assert kept == {row for row in rows_of(second) if row[0] == "train" and row[2] != "third"}


# batches that are refused


def bad(count):
    return [("", "pos") if i % 2 else (f"x {i}\0", "pos") for i in range(count)]


def test_a_batch_with_too_many_bad_rows_is_set_aside_and_the_last_good_snapshot_stays(source):
    good = source.ingest()
    source.put("second", [*bad(20), ("fine", "pos")])
    refused = source.ingest()
    assert (refused.snapshot, refused.hit) == (good.snapshot, True)
    assert "more than 10 per cent" in refused.quarantined
    assert "second.jsonl, row 1" in refused.quarantined
    assert refused.objects["quarantined"] == 1
    [kept] = [
        t
        for p in (source.store / "batches").rglob("refused.parquet")
        for t in parquet.read_table(p).to_pylist()
        if t["row"] == 1
    ]
    assert (kept["reason"], kept["text"]) == ("NUL character", "x 0\0")


@pytest.mark.parametrize(("percent", "rows", "set_aside"), [(10, 2, False), (10, 3, True), (0, 1, True)])
def test_one_or_two_bad_rows_say_nothing_about_a_small_batch_unless_none_may_be_bad(source, percent, rows, set_aside):
    source.ingest()
    source.put("second", [*bad(2 * rows)[::2], ("fine", "pos")])
    result = source.ingest(bad_rows_percent=float(percent))
    assert bool(result.quarantined) == set_aside
    assert ("fine" in texts_of(result)) != set_aside


@pytest.mark.parametrize("first", ["", None])
def test_a_check_that_ends_the_run_does_so_whichever_bad_row_comes_first(source, first):
    source.ingest()
    rows = [("", "pos"), ("fine", None)]
    source.put("second", [*(rows if first == "" else rows[::-1]), *((f"more {i}", "neg") for i in range(40))])
    with pytest.raises(BadInput, match=r"missing label.*checks.missing_label is fail"):
        source.ingest(policies={"empty_text": "quarantine", "missing_label": "fail"})


def test_a_mended_object_is_picked_up_by_itself(source, monkeypatch):
    source.ingest()
    source.put("second", bad(20))
    source.ingest()
    read = watch_reading(monkeypatch)
    assert source.ingest().quarantined
    assert read == []
    source.put("second", [("mended", "pos")])
    result = source.ingest()
    assert result.quarantined is None
    assert "mended" in texts_of(result)


def test_a_mended_object_leaves_no_trace_of_what_it_had_before_it_was_refused(source):
    twice = ("in both", "pos")
    source.put("second", [twice, ("second", "pos")])
    source.put("third", [twice, ("third", "pos")])
    source.ingest()
    for name in ("second", "third"):
        source.put(name, bad(20))
        assert source.ingest().quarantined
        source.put(name, [("mended", "pos")])
        warm, cold = source.ingest(), source.ingest(cold=True)
        assert (warm.digest, warm.dropped) == (cold.digest, cold.dropped)
        source.put(name, [twice])
        source.ingest()


def test_a_first_batch_that_is_refused_makes_no_snapshot(tmp_path):
    source = Source(tmp_path)
    source.put("first", bad(20))
    with pytest.raises(BadInput, match="no earlier snapshot"):
        source.ingest()
    assert not (source.store / "snapshots").exists()


@pytest.mark.parametrize(
    ("check", "row"),
    [
        ("missing_label", ("x", None)),
        ("duplicate", ROWS[0]),
        ("conflicting_label", (ROWS[0][0], "neg")),
        ("unknown_label", ("x", "other")),
    ],
)
def test_one_row_is_enough_where_a_check_says_quarantine_or_fail(source, check, row):
    known = {"labels": ["pos", "neg"]} if check == "unknown_label" else {}
    good = source.ingest(**known)
    source.put("second", [("fine", "pos"), row])
    assert source.ingest(policies={check: "quarantine"}, **known).snapshot == good.snapshot
    with pytest.raises(BadInput, match=f"second.jsonl, row 2.*checks.{check} is fail"):
        source.ingest(policies={check: "fail"}, **known)
    assert "fine" in texts_of(source.ingest(**known))


# what goes wrong


def test_two_runs_at_once_on_the_same_new_objects_both_leave_a_whole_snapshot(source, monkeypatch):
    source.ingest()
    source.put("second", [("one more", "pos")])
    before, others = source.watermark, []

    def slower(*args):
        found = read(*args)
        if not others:  # the other run begins and ends before this one writes
            others.append(None)
            others[0] = source.ingest()
            source.watermark = before
        return found

    monkeypatch.setattr("training.ingest.read", slower)
    results = [source.ingest(), *others]
    results.append(source.ingest())
    assert len({result.digest for result in results}) == 1
    assert all("one more" in texts_of(result) for result in results)
    watermarks = [Watermark.load(Store(str(source.store)), result.watermark) for result in results]
    written = {path.name for path in (source.store / "batches").rglob("rows-*")}
    assert all({file for one in known.batches for file in one["files"]} <= written for known in watermarks)


def test_nothing_is_left_of_an_attempt_that_breaks_off(source):
    (source.folder / "second.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00 not gzip")
    with pytest.raises(BadInput, match=r"second\.jsonl\.gz"):
        source.ingest()
    assert [p for p in source.store.rglob("*") if p.is_file()] == []
    (source.folder / "second.jsonl.gz").unlink()
    assert source.ingest().rows["train"]


def test_a_batch_holds_where_each_row_came_from(source):
    source.put("second", [("one more", "pos"), ("two more", "pos")])
    source.ingest()
    [file] = (source.store / "batches").rglob("rows-*.parquet")
    manifest = json.loads((file.parent / "manifest.json").read_text())
    row = parquet.read_table(file).filter(pyarrow.compute.field("text") == "two more").to_pylist()[0]
    assert manifest["objects"][row["object"]]["name"] == str(source.folder / "second.jsonl")
    assert (row["row"], row["label"]) == (2, "pos")


def test_the_watermark_knows_how_long_each_objects_texts_are(source):
    texts = ["ok", "Straßenbahn", "é" * 12, "x" * 200_000, ""]
    source.put("second", [(text, "pos") for text in texts])
    objects = Watermark.load(Store(str(source.store)), source.ingest().watermark).objects
    assert {Path(one.name).stem: one.lengths for one in objects} == {
        "first": {"20": 300},
        "second": {"1": 1, "10": 2, "102400": 1},
    }
