"""Columns that stay with their rows: read alike from every source, part of what a snapshot is, and of nothing else."""

import csv
import json
import random
import sqlite3
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.training.source import ROWS, Source, rows_of, watch_reading
from training.contract import BadInput, Checks, ForgetRequest, IngestRequest, Reading
from training.forget import forget
from training.ingest import ingest
from training.rows import kept_of, label_of
from training.snapshot import open_snapshot, read_manifest, read_table
from training.sources.columnar import kept_strings
from training.store import Store
from training.text import identity_of
from training.watermark import Watermark

REGIONS = ["EU", " US ", "", None]  # in turn


def value_of(place):
    return {"region": REGIONS[place % 4], "stars": place % 5, "paid": place % 3 == 0, "nested": [place]}


def kept_of_row(place):
    return (["EU", "US", None, None][place % 4], str(place % 5), "true" if place % 3 == 0 else "false")


RECORDS = [{"text": text, "label": label, **value_of(place)} for place, (text, label) in enumerate(ROWS)]
KEEP = ["region", "stars", "paid"]


def write_records(path, records=RECORDS):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, records[0], delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows({**record, "paid": str(record["paid"]).lower()} for record in records)
    elif path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    else:
        with pyarrow.ipc.new_file(path, (table := pyarrow.Table.from_pylist(records)).schema) as file:
            file.write_table(table)


def reading_of(path, **changes):
    return Reading(**{"source": str(path), "text": "text", "label": "label", "keep": KEEP, **changes})


def taken_in(tmp_path, reading, store="store", **changes):
    checks = Checks(bad_rows_percent=100.0)
    return ingest(
        IngestRequest(pipeline="films", store=str(tmp_path / store), reading=reading, checks=checks, **changes)
    )


def kept(result, *names):
    """:return: text to the values that stayed with it."""
    splits = ("train", "validation", "test")
    rows = read_table(*open_snapshot(result.snapshot), *splits, keep=names or KEEP).to_pydict()
    return dict(zip(rows["text"], zip(*(rows[f"kept:{name}"] for name in names or KEEP), strict=True), strict=True))


EXPECTED = {text: kept_of_row(place) for place, (text, _label) in enumerate(ROWS)}


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "arrow"])
def test_of_every_format_the_same_values_stay_with_the_rows(tmp_path, kind):
    write_records(path := tmp_path / f"rows.{kind}")
    assert kept(taken_in(tmp_path, reading_of(path))) == EXPECTED


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_snapshot_is_the_same_whatever_the_format_and_the_order_of_the_columns(tmp_path, kind):
    write_records(tmp_path / "rows.arrow")
    write_records(tmp_path / f"rows.{kind}", RECORDS[::-1])
    first = taken_in(tmp_path, reading_of(tmp_path / "rows.arrow"))
    other = taken_in(tmp_path, reading_of(tmp_path / f"rows.{kind}", keep=KEEP[::-1]), store="other")
    assert other.digest == first.digest


def test_of_an_answer_to_a_query_values_stay_as_well(tmp_path, monkeypatch):
    with sqlite3.connect(tmp_path / "films.db") as db:
        db.execute("CREATE TABLE films (text TEXT, label TEXT, region TEXT, stars INTEGER)")
        db.executemany(
            "INSERT INTO films VALUES (?, ?, ?, ?)",
            [(one["text"], one["label"], one["region"], one["stars"]) for one in RECORDS],
        )
    db.close()
    monkeypatch.setenv("RATCHET_SQL_URI", f"sqlite:///{tmp_path / 'films.db'}")
    reading = reading_of("sql://films", query="SELECT * FROM films", keep=["region", "stars"])
    assert kept(taken_in(tmp_path, reading), "region", "stars") == {text: row[:2] for text, row in EXPECTED.items()}


def test_rows_that_are_looked_at_one_by_one_keep_theirs(tmp_path):
    rows = [{**record, "label": Decimal(place % 2)} for place, record in enumerate(RECORDS)]
    write_records(path := tmp_path / "rows.parquet", rows)
    assert kept(taken_in(tmp_path, reading_of(path))) == EXPECTED


def test_the_columns_in_which_text_or_label_lie_may_have_odd_neighbours(tmp_path):
    odd = ['a "b"', "kept:x", "split", "Größe, cm"]
    rows = [{"text": text, "label": label, **dict.fromkeys(odd, text[:3])} for text, label in ROWS]
    write_records(path := tmp_path / "rows.jsonl", rows)
    found = kept(taken_in(tmp_path, reading_of(path, keep=odd)), *odd)
    assert found == {text: (text[:3],) * 4 for text, _label in ROWS}


def test_a_snapshot_that_keeps_nothing_is_what_it_was_before_anything_could_be_kept(source):
    result = source.ingest()
    assert result.digest == "9c2d2819e78972e1ccaa09850fe9d59e7b566dbde673d3cae9edbd78d2a38400"
    assert "keep" not in Watermark.load(Store(str(source.store)), result.watermark).reads


def test_another_value_makes_another_snapshot_with_the_same_rows_in_the_same_splits(tmp_path):
    write_records(path := tmp_path / "rows.jsonl")
    first = taken_in(tmp_path, reading_of(path))
    write_records(path, [{**RECORDS[0], "region": "elsewhere"}, *RECORDS[1:]])
    second = taken_in(tmp_path, reading_of(path), watermark=first.watermark)
    assert second.digest != first.digest
    assert rows_of(second) == rows_of(first)
    assert kept(second) == {**EXPECTED, ROWS[0][0]: ("elsewhere", *EXPECTED[ROWS[0][0]][1:])}


def test_other_columns_make_another_snapshot_also_when_they_are_empty(tmp_path):
    write_records(path := tmp_path / "rows.jsonl", [{**record, "empty": None, "void": None} for record in RECORDS])
    digests = {taken_in(tmp_path, reading_of(path, keep=keep)).digest for keep in ([], ["empty"], ["void"], KEEP)}
    assert len(digests) == 4


def test_whoever_begins_to_keep_a_column_reads_everything_again_once(tmp_path, monkeypatch):
    source = Source(tmp_path)
    write_records(source.folder / "first.jsonl")
    before = source.ingest()
    read = watch_reading(monkeypatch)
    source.reading = replace(source.reading, keep=["region"])
    result = source.ingest()
    assert source.ingest().hit
    assert read == ["first"]
    assert rows_of(result) == rows_of(before)
    assert kept(result, "region") == {text: row[:1] for text, row in EXPECTED.items()}
    source.reading = replace(source.reading, keep=[])
    assert source.ingest().digest == before.digest


def test_rows_of_an_object_that_was_gone_before_have_no_value(tmp_path):
    source = Source(tmp_path)
    write_records(source.folder / "first.jsonl", RECORDS[:150])
    write_records(source.folder / "second.jsonl", RECORDS[150:])
    source.ingest(removed="keep")
    source.remove("first")
    source.reading = replace(source.reading, keep=["region"])
    found = kept(source.ingest(removed="keep"), "region")
    assert len(found) == 300
    assert found[ROWS[0][0]] == (None,)
    assert found[ROWS[152][0]] == ("EU",)


def test_a_missing_column_is_refused_with_those_there_are(tmp_path):
    for kind in ("csv", "jsonl", "parquet"):
        write_records(path := tmp_path / f"rows.{kind}")
        with pytest.raises(BadInput, match=r"no column 'regoin' \(keep\).*Did you mean 'region'"):
            taken_in(tmp_path, reading_of(path, keep=["regoin"]))


@pytest.mark.parametrize("keep", [["text"], ["Label"], ["region", "REGION"], [""]])
def test_a_column_that_is_read_already_is_refused(tmp_path, keep):
    write_records(path := tmp_path / "rows.jsonl")
    with pytest.raises(BadInput, match="is the text, the label or the time, or is named twice"):
        taken_in(tmp_path, reading_of(path, keep=keep))


def test_of_two_rows_with_one_text_the_same_one_stays_whatever_came_first(tmp_path):
    twins = [{**record, "region": "twin"} for record in RECORDS]
    for name, records in (("ab", RECORDS + twins), ("ba", twins + RECORDS)):
        write_records(tmp_path / f"{name}.jsonl", records)
    found = [taken_in(tmp_path, reading_of(tmp_path / f"{name}.jsonl"), store=name) for name in ("ab", "ba")]
    assert found[0].digest == found[1].digest
    assert kept(found[0]) == kept(found[1])


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_reading_piece_by_piece_gives_what_reading_everything_at_once_gives(tmp_path_factory, data):
    draw = random.Random(data.draw(st.integers(0, 10**9)))
    source = Source(tmp_path_factory.mktemp("source"), keep=["region"])
    write_records(source.folder / "base.jsonl")
    source.ingest()
    for step in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(["base", "more", f"other {step}"]))
        some = draw.sample(RECORDS, 60)
        write_records(source.folder / f"{name}.jsonl", [{**one, "region": draw.choice(REGIONS)} for one in some])
        pieces = source.ingest(bad_rows_percent=100.0)
    whole = source.ingest(cold=True, bad_rows_percent=100.0)
    assert whole.digest == pieces.digest
    assert kept(whole, "region") == kept(pieces, "region")


def test_what_is_forgotten_takes_its_values_along(tmp_path):
    secret, text = "a value that nobody may keep", ROWS[7][0]
    write_records(path := tmp_path / "rows.jsonl", [*RECORDS[:7], {**RECORDS[7], "region": secret}, *RECORDS[8:]])
    first = taken_in(tmp_path, reading_of(path))
    assert kept(first)[text][0] == secret
    request = ForgetRequest(store=str(tmp_path / "store"), work=str(tmp_path / "work"), texts=[identity_of(text)])
    forget(request)
    assert kept(first) == {other: values for other, values in EXPECTED.items() if other != text}
    for file in (tmp_path / "store").rglob("*.parquet"):
        assert secret not in str(parquet.read_table(file).to_pylist())


def test_values_stay_as_they_are_where_personal_data_is_taken_out_of_texts(tmp_path):
    address = "anna@example.org"
    rows = [{**record, "text": f"{record['text']} {address}", "region": address} for record in RECORDS]
    write_records(path := tmp_path / "rows.jsonl", rows)
    checks = Checks(policies={"personal_data": "redact"})
    result = ingest(
        IngestRequest(pipeline="films", store=str(tmp_path / "store"), reading=reading_of(path), checks=checks)
    )
    assert {text.endswith("<EMAIL>") for text in kept(result)} == {True}
    assert {values[0] for values in kept(result).values()} == {address}


def test_a_snapshot_says_which_columns_it_keeps(tmp_path):
    write_records(path := tmp_path / "rows.jsonl")
    result = taken_in(tmp_path, reading_of(path))
    assert read_manifest(*open_snapshot(result.snapshot))["settings"]["keep"] == sorted(KEEP)


VALUES = st.one_of(
    st.lists(st.text() | st.none()),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.none()),
    st.lists(st.floats() | st.none()),
    st.lists(st.booleans() | st.none()),
    st.lists(st.dates() | st.none()),
    st.lists(st.datetimes() | st.none()),
    st.lists(st.binary() | st.none()),
    st.lists(st.lists(st.integers(0, 3), max_size=2) | st.none()),
)


@given(VALUES)
def test_columns_are_written_down_as_their_values_are(values):
    assert kept_strings(pyarrow.array(values)).to_pylist() == [kept_of(value) for value in values]


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.binary())
def test_a_value_is_written_as_a_label_and_writing_it_twice_changes_nothing(value):
    written = kept_of(value)
    assert kept_of(written) == written
    assert written is None or (written and "\0" not in written and label_of(written) == written)


def test_dates_are_written_as_iso_8601_has_them():
    assert kept_of(date(2026, 3, 1)) == "2026-03-01"
    assert kept_of(datetime(2026, 3, 1, 12, 30)) == "2026-03-01T12:30:00"
    assert kept_of("two\n\tlines ") == "two lines"
