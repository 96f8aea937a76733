import dataclasses
import gzip
import json
import logging
import random
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from training import assemble, batch
from training.contract import SPLITS, BadInput, Checks, IngestRequest, Reading
from training.ingest import ingest
from training.snapshot import read_split
from training.sources import part
from training.store import Store, local_path
from training.text import split_of

ROWS = [(f"{['a good', 'a bad'][i % 2]} film, number {i}", ["pos", "neg"][i % 2]) for i in range(300)]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def jsonl(rows, text="text", label="label"):
    return "".join(json.dumps({text: row[0], label: row[1]}) + "\n" for row in rows)


def request(data, source=None, **values):
    names = {field.name for field in dataclasses.fields(Reading)}
    reading = {"text": "text", "label": "label", **{name: values.pop(name) for name in names & values.keys()}}
    names = {field.name for field in dataclasses.fields(Checks)}
    checks = {name: values.pop(name) for name in names & values.keys()}
    return IngestRequest(
        pipeline="films",
        store=str(data.parent / "store"),
        reading=Reading(source=str(source or data), **reading),
        checks=Checks(**checks),
        **values,
    )


def put(data, *extra, name="rows.jsonl", rows=ROWS):
    (data / name).write_text(jsonl([*rows, *extra]))
    return data


def rows_in(result):
    root, _, digest = result.snapshot.rpartition("/snapshots/")
    return {split: read_split(Store(root), f"snapshots/{digest}", split) for split in SPLITS}


def manifest_of(result):
    return json.loads(Path(result.snapshot.removeprefix("file://"), "manifest.json").read_text())


def kept(result):
    return {row for rows in rows_in(result).values() for row in rows}


# the snapshot


def test_a_snapshot_holds_the_rows_in_the_splits_that_their_texts_hash_to(data):
    result = ingest(request(put(data)))
    found = rows_in(result)
    assert kept(result) == set(ROWS)
    for split in SPLITS:
        assert all(split_of(text, 15, 10) == split for text, _label in found[split])
    assert result.rows == {split: len(found[split]) for split in SPLITS}
    assert result.labels == ["neg", "pos"]
    assert result.dropped == {}


def test_the_manifest_tells_what_the_snapshot_is_made_of(data):
    result = ingest(request(put(data, ("", "pos"))))
    manifest = manifest_of(result)
    assert manifest["digest"] == result.digest == result.snapshot.rpartition("/")[2]
    assert manifest["labels"] == result.labels
    assert manifest["rows"] == result.rows
    assert manifest["settings"] == {"test_percent": 15, "validation_percent": 10}
    assert manifest["source"] == result.source
    assert result.source["files"] == 1
    assert manifest["dropped"] == {"empty text": 1}
    assert manifest["examples"] == [{"file": f"{data}/rows.jsonl", "row": 301, "reason": "empty text"}]
    assert sum(manifest["label_rows"]["train"].values()) == result.rows["train"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), files=st.integers(1, 4), compressed=st.booleans())
def test_order_number_and_compression_of_files_never_change_the_digest(tmp_path_factory, seed, files, compressed):
    data = tmp_path_factory.mktemp("data")
    noise = [(text.upper(), label) for text, label in ROWS[:7]]  # the same texts, written otherwise
    conflict = [(ROWS[9][0], "pos"), (ROWS[10][0], "neg"), (ROWS[10][0], "neg")]
    rows = [*ROWS, *noise, *conflict]
    random.Random(seed).shuffle(rows)
    for i in range(files):
        part = jsonl(rows[i::files]).encode()
        (data / f"{i}.jsonl{'.gz' if compressed else ''}").write_bytes(gzip.compress(part) if compressed else part)
    found = ingest(request(data))
    assert found.digest == DIGEST_OF_SHUFFLED
    assert found.dropped == {"duplicate": 8, "same text with another label": 3}


# pinned: a change of it renames every snapshot that users have
DIGEST_OF_SHUFFLED = "5b7ae0f9e899f967526b31f39d289822a9ddbb797a9d08b7f5860ffdee52b651"


def test_every_format_of_the_same_rows_is_the_same_snapshot(data):
    digests = set()
    for name, content in (
        ("rows.jsonl", jsonl(ROWS)),
        ("rows.csv", "label,text\n" + "".join(f'{label},"{text}"\n' for text, label in ROWS)),
        ("rows.tsv", "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS)),
    ):
        (data / name).write_text(content)
        digests.add(ingest(request(data, data / name)).digest)
    texts, labels = zip(*ROWS, strict=True)
    parquet.write_table(pyarrow.table({"text": texts, "label": labels}), data / "rows.parquet")
    digests.add(ingest(request(data, data / "rows.parquet")).digest)
    assert len(digests) == 1


@pytest.mark.parametrize("change", ["row", "label", "percent"])
def test_another_row_label_or_split_is_another_snapshot(data, change):
    before = ingest(request(put(data)))
    if change == "row":
        after = ingest(request(put(data, ("one more film", "pos"))))
    elif change == "label":
        after = ingest(request(put(data, rows=[(ROWS[0][0], "neg"), *ROWS[1:]])))
    else:
        after = ingest(request(data, test_percent=20))
    assert after.digest != before.digest


@settings(max_examples=25, deadline=None)
@given(extra=st.lists(st.text(min_size=1), max_size=20))
def test_new_rows_never_move_old_ones_to_another_split(tmp_path_factory, extra):
    data = tmp_path_factory.mktemp("data")
    before = rows_in(ingest(request(put(data))))
    after = rows_in(ingest(request(put(data, *((text, "pos") for text in extra)))))
    for split in SPLITS:
        assert set(before[split]) <= set(after[split])


# hits and misses


def test_the_same_data_is_a_hit_that_writes_no_file_anew(data):
    first = ingest(request(put(data)))
    files = {p: p.stat().st_mtime_ns for p in (data.parent / "store" / "snapshots").rglob("*")}
    (data / "rows.jsonl").rename(data / "renamed.jsonl")
    again = ingest(request(data))
    assert (first.hit, first.why) == (False, "miss: first run")
    assert again.hit
    assert again.why.startswith("hit: source unchanged since 20")
    assert again.why.endswith(f": 300 rows, digest {first.digest[:8]}")
    assert again.digest == first.digest
    assert {p: p.stat().st_mtime_ns for p in (data.parent / "store" / "snapshots").rglob("*")} == files


def test_a_miss_says_what_changed_since_the_last_snapshot(data):
    first = ingest(request(put(data)))
    changed = [(ROWS[0][0], "neg"), *ROWS[2:], ("one more", "pos"), ("and more", "neg")]
    second = ingest(request(put(data, rows=changed)))
    since = f"since snapshot {first.digest[:8]}"
    assert second.why == f"miss: 1 new object; 2 rows added; 1 row removed; 1 row with another label {since}"
    third = ingest(request(data, test_percent=20))
    assert third.why.startswith("miss: test_percent 15 -> 20; 1 new object; ")
    assert third.why.endswith(f" rows in another split since snapshot {second.digest[:8]}")


def test_a_miss_on_large_data_gives_the_difference_in_rows(data, monkeypatch):
    monkeypatch.setattr(assemble, "COMPARED_ROWS", 100)
    first = ingest(request(put(data)))
    second = ingest(request(put(data, rows=ROWS[:-20])))
    assert second.why == f"miss: 1 new object; 20 rows fewer since snapshot {first.digest[:8]}"


def test_data_that_goes_back_to_what_it_was_is_a_hit_and_becomes_the_last(data):
    first = ingest(request(put(data)))
    ingest(request(put(data, ("more", "pos"))))
    back = ingest(request(put(data)))
    assert back.hit
    assert back.why.startswith("hit: the same rows were taken in on 20")
    assert ingest(request(put(data, ("other", "neg")))).why.endswith(f"since snapshot {first.digest[:8]}")


def test_force_writes_the_snapshot_again_and_mends_a_damaged_one(data):
    first = ingest(request(put(data)))
    [damaged] = (data.parent / "store" / "batches").rglob("rows-*.parquet")
    damaged.write_bytes(b"not parquet")
    with pytest.raises(BadInput, match=r"rows-.*\.parquet.* a run that recomputes"):
        ingest(request(data))
    forced = ingest(request(data, force=True))
    assert (forced.hit, forced.why, forced.digest) == (False, "forced", first.digest)
    assert kept(forced) == set(ROWS)


@pytest.mark.parametrize(
    "damaged", ["batches/*/rows-*.parquet", "watermarks/*/manifest.json", "snapshots/*/manifest.json"]
)
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_run_that_recomputes_mends_whatever_is_damaged(data, damaged, how):
    first = ingest(request(put(data)))
    second = ingest(request(put(data, name="more.jsonl", rows=[("more of it", "pos")]), watermark=first.watermark))
    for path in (data.parent / "store").glob(damaged):
        path.unlink() if how == "gone" else path.write_bytes(b"")
    mended = ingest(request(data, watermark=second.watermark, force=True))
    assert mended.digest == second.digest
    assert kept(mended) == {*ROWS, ("more of it", "pos")}
    assert ingest(request(data, watermark=mended.watermark)).hit


def test_the_manifest_of_a_damaged_snapshot_is_made_again_by_itself(data):
    first = ingest(request(put(data)))
    Path(local_path(first.snapshot), "manifest.json").write_text("{}")
    second = ingest(request(data, watermark=first.watermark))
    assert second.digest == first.digest
    assert kept(second) == set(ROWS)


def test_rows_of_a_batch_that_are_gone_are_missed_although_nothing_is_new(data):
    first = ingest(request(put(data)))
    for path in (data.parent / "store" / "batches").rglob("rows-*.parquet"):
        path.unlink()
    with pytest.raises(BadInput, match="a run that recomputes"):
        ingest(request(data, watermark=first.watermark))


def test_objects_that_add_no_row_are_told_in_the_manifest_of_the_same_snapshot(data):
    first = ingest(request(put(data)))
    put(data, ("", "pos"), name="more.jsonl", rows=ROWS[:50])
    second = ingest(request(data, watermark=first.watermark))
    third = ingest(request(data, watermark=second.watermark))
    assert first.digest == second.digest == third.digest
    assert second.dropped == third.dropped == manifest_of(third)["dropped"] == {"duplicate": 50, "empty text": 1}
    assert manifest_of(third)["watermark"] == second.watermark
    assert second.report == third.report != first.report


@pytest.mark.parametrize("days", [0, 1_000_000])
def test_a_window_that_no_date_has_is_refused(data, days):
    with pytest.raises(BadInput, match=r"window_days is .* from 1 to 36,500"):
        ingest(request(put(data), window_days=days))


def test_an_unfinished_snapshot_is_made_again(data):
    first = ingest(request(put(data)))
    (data.parent / "store" / "snapshots" / first.digest / "manifest.json").unlink()
    again = ingest(request(data))
    assert not again.hit
    assert "gone or unfinished" in again.why
    assert manifest_of(again)["digest"] == first.digest


# rows that are dropped


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "", "label": "pos"}, "empty text"),
        ({"text": " \n\t", "label": "pos"}, "empty text"),
        ({"text": "\u200b\u00a0\x01", "label": "pos"}, "empty text"),
        ({"text": None, "label": "pos"}, "empty text"),
        ({"label": "pos"}, "empty text"),
        ({"text": "x", "label": ""}, "missing label"),
        ({"text": "x", "label": None}, "missing label"),
        ({"text": "x"}, "missing label"),
        ({"text": "x", "label": float("nan")}, "missing label"),
        ({"text": "x", "label": float("inf")}, "missing label"),
        ({"text": "x", "label": float("-inf")}, "missing label"),
        ({"text": "a\0b", "label": "pos"}, "NUL character"),
        ({"text": "half \ud83d character", "label": "pos"}, "not valid UTF-8"),
        ({"text": "x", "label": "\ud83d"}, "not valid UTF-8"),
        ({"text": "x", "label": "p\x07os"}, "control character in the label"),
        ({"text": "x", "label": "\u200b"}, "missing label"),
        ({"text": ["x"], "label": "pos"}, "text is not a string"),
        ({"text": 7, "label": "pos"}, "text is not a string"),
        ({"text": "x", "label": ["pos"]}, "label is not a string, number or boolean"),
    ],
)
def test_one_bad_row_is_dropped_and_counted_with_file_and_row(data, row, reason):
    (data / "rows.jsonl").write_text(jsonl(ROWS[:150]) + json.dumps(row) + "\n" + jsonl(ROWS[150:]))
    result = ingest(request(data))
    assert kept(result) == set(ROWS)
    assert result.dropped == {reason: 1}
    assert manifest_of(result)["examples"] == [{"file": f"{data}/rows.jsonl", "row": 151, "reason": reason}]


def test_undecodable_bytes_drop_their_row_in_every_text_format(data):
    (data / "rows.csv").write_bytes(b"text,label\ncaf\xe9,pos\ngood,p\xe9s\n")
    (data / "rows.jsonl").write_bytes(jsonl(ROWS).encode() + b'{"text": "caf\xe9", "label": "pos"}\n')
    result = ingest(request(data))
    assert result.dropped == {"not valid UTF-8": 3}
    assert kept(result) == set(ROWS)


def test_control_characters_inside_a_text_stay(data):
    assert ("bell \x07 and tab\t", "pos") in kept(ingest(request(put(data, ("bell \x07 and tab\t", "pos")))))


def test_at_most_twenty_examples_of_each_reason_are_kept(data):
    result = ingest(request(put(data, *[("", "pos")] * 30, *[("x", "")] * 30)))
    assert result.dropped == {"empty text": 30, "missing label": 30}
    reasons = [example["reason"] for example in manifest_of(result)["examples"]]
    assert (reasons.count("empty text"), reasons.count("missing label")) == (20, 20)


def test_an_empty_file_among_others_is_counted(data):
    (data / "empty.csv").touch()
    result = ingest(request(put(data)))
    assert result.dropped == {"empty file": 1}
    assert kept(result) == set(ROWS)


def test_the_same_text_with_the_same_label_is_kept_once(data):
    result = ingest(request(put(data, ROWS[0], (ROWS[0][0].upper(), "pos"), (f"  {ROWS[0][0]} ", "pos"))))
    assert result.dropped == {"duplicate": 3}
    assert sum(result.rows.values()) == len(ROWS)


def test_the_same_text_with_other_labels_goes_to_the_majority(data):
    result = ingest(request(put(data, ("so so", "neg"), ("So so", "pos"), ("so  so", "neg"))))
    assert [label for text, label in kept(result) if text.casefold().startswith("so")] == ["neg"]
    assert result.dropped == {"duplicate": 1, "same text with another label": 1}


def test_the_same_text_with_as_many_of_each_label_is_dropped(data):
    result = ingest(request(put(data, ("so so", "neg"), ("so so", "pos"), ("so so", "pos"), ("So so", "neg"))))
    assert kept(result) == set(ROWS)
    assert result.dropped == {"same text with another label": 4}


# labels


def test_numbers_and_booleans_become_the_strings_a_person_would_write(data):
    values = [0, 1, 2.0, 0.5, True, False, " spaced ", "1"]
    rows = [(f"text {i} of {value!r}", value) for value in values for i in range(40)]
    result = ingest(request(put(data, rows=rows)))
    assert result.labels == ["0", "0.5", "1", "2", "false", "spaced", "true"]


def test_labels_of_a_nullable_integer_column_are_integers(data):
    texts, labels = zip(*[(f"text {i}", [0.0, 1.0, None][i % 3]) for i in range(300)], strict=True)
    parquet.write_table(pyarrow.table({"text": texts, "label": labels}), data / "rows.parquet")
    result = ingest(request(data))
    assert result.labels == ["0", "1"]
    assert result.dropped == {"missing label": 100}


@pytest.mark.parametrize(
    "as_type", [pyarrow.binary(), pyarrow.large_string(), pyarrow.dictionary(pyarrow.int8(), pyarrow.string())]
)
def test_parquet_columns_of_every_kind_of_text_are_read(data, as_type):
    texts, labels = zip(*ROWS, strict=True)
    table = pyarrow.table({"text": pyarrow.array(texts), "label": pyarrow.array(labels).cast(as_type)})
    parquet.write_table(table, data / "rows.parquet")
    assert kept(ingest(request(data))) == set(ROWS)


# sources of their own


def test_given_splits_are_used_as_they_are_and_nothing_else_is_cut(data, tmp_path):
    put(tmp_path, name="validation.jsonl", rows=[(f"v {i}", "pos") for i in range(5)])
    put(tmp_path, name="test.jsonl", rows=[(f"t {i}", "neg") for i in range(5)])
    result = ingest(request(put(data), validation=f"{tmp_path}/validation.jsonl", test=f"{tmp_path}/test.jsonl"))
    assert result.rows == {"train": 300, "validation": 5, "test": 5}
    assert manifest_of(result)["settings"] == {"test_percent": None, "validation_percent": None}
    assert result.source["test"]["uri"] == f"{tmp_path}/test.jsonl"


def test_a_split_without_a_source_is_still_cut_by_hash(data, tmp_path):
    put(tmp_path, name="test.jsonl", rows=[(f"t {i}", "neg") for i in range(5)])
    result = ingest(request(put(data), test=f"{tmp_path}/test.jsonl"))
    assert result.rows["test"] == 5
    assert sorted(text for text, _ in rows_in(result)["validation"]) == sorted(
        text for text, _ in ROWS if split_of(text, 0, 10) == "validation"
    )


def test_rows_that_equal_a_test_row_are_never_trained_on(data, tmp_path):
    put(tmp_path, name="validation.jsonl", rows=[(ROWS[1][0], "neg"), (ROWS[2][0], "pos"), ("v", "pos")])
    put(tmp_path, name="test.jsonl", rows=[(f" {ROWS[0][0].upper()}", "pos"), (ROWS[1][0], "neg")])
    result = ingest(request(put(data), validation=f"{tmp_path}/validation.jsonl", test=f"{tmp_path}/test.jsonl"))
    found = rows_in(result)
    assert result.dropped == {"text is in the test split": 3, "text is in the validation split": 1}
    assert {text for text, _ in found["validation"]} == {ROWS[2][0], "v"}
    assert {text for text, _ in found["train"]} == {text for text, _ in ROWS[3:]}


def test_a_label_that_no_training_row_has_is_dropped_from_the_test_set(data, tmp_path):
    put(tmp_path, name="test.jsonl", rows=[("t", "neg"), ("u", "unheard of"), ("w", "unheard of")])
    result = ingest(request(put(data), test=f"{tmp_path}/test.jsonl"))
    assert result.labels == ["neg", "pos"]
    assert rows_in(result)["test"] == [("t", "neg")]
    assert result.dropped == {"label without a training row": 2}
    assert {"file": f"{tmp_path}/test.jsonl", "row": 2, "reason": "label without a training row"} in manifest_of(
        result
    )["examples"]


# samples


def test_max_rows_takes_the_same_rows_of_every_label_whatever_the_order(data):
    rare = [(f"rare {i}", "rare") for i in range(12)]
    put(data, rows=[*ROWS, *rare])
    one = ingest(request(data, max_rows=60))
    put(data, rows=[*rare, *reversed(ROWS)])
    assert ingest(request(data, max_rows=60)).digest == one.digest
    counts = [label for rows in rows_in(one).values() for _, label in rows]
    assert len(counts) == 60
    assert counts.count("rare") == 12
    assert counts.count("pos") == counts.count("neg") == 24


def test_max_rows_counts_for_each_source(data, tmp_path):
    put(tmp_path, name="test.jsonl", rows=[(f"t {i}", ["neg", "pos"][i % 2]) for i in range(100)])
    result = ingest(request(put(data), test=f"{tmp_path}/test.jsonl", max_rows=50))
    assert result.rows["test"] == 50
    assert result.rows["train"] + result.rows["validation"] == 50


# data that cannot be used


def refusal(values):
    with pytest.raises(BadInput) as refused:
        ingest(values)
    assert not list(Path(values.store, "snapshots").glob("*"))
    return str(refused.value)


def test_a_single_label_is_refused(data):
    message = refusal(request(put(data, rows=[(text, "pos") for text, _ in ROWS])))
    assert "'pos'" in message
    assert "needs two" in message


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_an_empty_file_alone_is_refused(data, name):
    (data / name).touch()
    assert "empty file" in refusal(request(data))


def test_a_header_without_rows_is_refused(data):
    (data / "rows.csv").write_text("text,label\n")
    assert "no usable row" in refusal(request(data))


def test_rows_none_of_which_is_usable_are_refused_with_reasons_and_the_first(data):
    message = refusal(request(put(data, rows=[("", "pos")] * 3 + [("x", "")])))
    assert "empty text 3, missing label 1" in message
    assert f"{data}/rows.jsonl, row 1" in message


def test_a_file_most_rows_of_which_are_malformed_is_refused(data):
    (data / "rows.csv").write_bytes(b"text,label\n" + b"caf\xe9 %d,pos\n" * 60 + b"good,neg\n" * 40)
    message = refusal(request(data))
    assert "60 of 100 new rows cannot be used, more than 10 per cent" in message
    assert "not valid UTF-8 60" in message


def test_rows_without_a_label_are_ordinary_however_many(data):
    result = ingest(request(put(data, *((f"unlabelled {i}", None) for i in range(2000)))))
    assert kept(result) == set(ROWS)
    assert result.dropped == {"missing label": 2000}


@pytest.mark.parametrize("rows", [ROWS[:2], ROWS[:4]])
def test_data_too_small_for_its_splits_is_refused_with_what_to_do(data, rows):
    message = refusal(request(put(data, rows=rows)))
    assert f"among {len(rows)} usable rows" in message
    assert "name a source for the split" in message


def test_a_test_source_that_holds_the_same_texts_is_refused_with_what_was_left_out_and_why(data):
    message = refusal(request(put(data), test=str(data)))
    assert "no row for train and validation and test among 0 usable rows." in message
    assert "Left out: label without a training row 300, text is in the test split 300." in message
    assert "raise the percentage" not in message
    assert "name a source for the split with other texts" in message


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"label": "text"}, "same column"),
        ({"test_percent": -1}, "test_percent is -1"),
        ({"test_percent": 60, "validation_percent": 40}, "leave nothing to train on"),
        ({"max_rows": 0}, "max_rows is 0"),
        ({"validation_percent": 0}, "no row for validation"),
    ],
)
def test_settings_that_cannot_work_are_refused(data, values, named):
    assert named in refusal(request(put(data), **values))


# the log


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"policies": {"personal": "redact"}}, "checks.personal: 'redact'"),
        ({"policies": {"duplicate": "redact"}}, "checks.duplicate: 'redact'"),
        ({"max_rows_per_label": 0}, "max_rows_per_label is 0"),
    ],
)
def test_what_no_spec_may_say_is_refused_before_anything_is_read(data, values, named):
    with pytest.raises(BadInput, match=named):
        ingest(request(put(data), **values))
    assert not (data.parent / "store" / "batches").exists()


def test_the_log_tells_the_story(data, caplog):
    with caplog.at_level(logging.INFO):
        ingest(request(put(data, ("", "pos"), ROWS[0])))
    lines = [record.getMessage() for record in caplog.records]
    assert f"read {data}/rows.jsonl: 302 rows; 1 refused: empty text 1" in lines
    assert any(line.startswith("splits: train ") for line in lines)
    assert any(line.startswith("2 labels, training rows each: ") for line in lines)
    assert "dropped altogether: duplicate 1, empty text 1" in lines
    assert "miss: first run" in lines


def test_of_many_objects_the_log_shows_a_few_and_counts_the_others(data, caplog):
    for number in range(60):
        put(data, rows=[ROWS[number], *([("", "pos")] if number % 2 else [])], name=f"{number}.jsonl")
    with caplog.at_level(logging.INFO):
        ingest(request(data))
    told = [line for line in caplog.messages if line.startswith("read ")]
    assert len(told) == 40
    assert "read 11 more objects: 11 rows" in told
    assert "read 11 more objects: 22 rows; 11 refused: empty text 11" in told


def test_a_long_read_says_how_far_it_is(data, caplog, monkeypatch):
    monkeypatch.setattr(batch, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(part, "BLOCK_BYTES", 1 << 14)
    put(data, rows=[(f"text {i}", ["a", "b"][i % 2]) for i in range(3000)])
    with caplog.at_level(logging.INFO):
        ingest(request(data))
    assert sum("rows so far" in record.getMessage() for record in caplog.records) > 3
