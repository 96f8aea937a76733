"""The versions of a test split: when there is a new one, and what it says changed."""

import logging

import duckdb
import pytest

from tests.training.source import ROWS
from training import exam
from training.store import Store
from training.text import split_of
from training.watermark import Watermark

EXAM = [(text, label) for text, label in ROWS if split_of(text, 15, 10) == "test"]
OTHER = {"pos": "neg", "neg": "pos"}


def counts(result):
    return {change: result.test_split[change] for change in ("added", "deleted", "corrected", "respelled")}


def nothing_but(**changes):
    return {"added": 0, "deleted": 0, "corrected": 0, "respelled": 0, **changes}


def test_the_first_version_is_the_first_snapshots(source):
    result = source.ingest()
    assert result.test_split["version"] == 1
    assert result.test_split["rows"] == result.rows["test"] == len(EXAM)
    assert counts(result) == nothing_but(added=len(EXAM))
    assert Watermark.load(Store(str(source.store)), result.watermark).test_split == result.test_split


def test_the_same_test_rows_are_the_same_version_whatever_else_comes(source):
    first = source.ingest()
    source.put("second", [(text, "pos") for i in range(40) if split_of(text := f"more {i}", 15, 10) != "test"])
    second = source.ingest()
    assert second.digest != first.digest
    assert second.test_split == source.ingest().test_split == source.ingest(force=True).test_split == first.test_split


def test_new_rows_that_hash_into_it_make_the_next_version(source, caplog):
    first = source.ingest()
    source.put("second", [(f"more {i}", "pos") for i in range(40)])
    with caplog.at_level(logging.INFO):
        second = source.ingest()
    added = second.rows["test"] - first.rows["test"]
    assert added > 0
    assert second.test_split["version"] == 2
    assert counts(second) == nothing_but(added=added)
    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("test split: ")]
    assert line == (
        f"test split: version 2, {second.rows['test']} rows; {added} added, 0 deleted, 0 corrected, 0 respelled"
    )


def test_rows_that_are_added_are_counted_without_a_look_at_those_before(source, monkeypatch):
    source.ingest()
    monkeypatch.setattr(exam, "show_rows", lambda *args: pytest.fail("looked"))
    source.put("second", [(f"more {i}", "pos") for i in range(40)])
    assert source.ingest().test_split["added"] > 0


def test_a_row_that_is_there_again_changes_nothing(source):
    first = source.ingest()
    source.put("second", EXAM)
    assert source.ingest().test_split == first.test_split


def test_deleted_corrected_and_respelled_rows_are_counted_apart(source):
    source.ingest()
    gone, wrong, again = (text for text, _label in EXAM[:3])
    mended = [
        (text.upper() if text == again else text, OTHER[label] if text == wrong else label)
        for text, label in ROWS
        if text != gone
    ]
    source.put("first", mended)
    result = source.ingest()
    assert result.test_split["version"] == 2
    assert counts(result) == nothing_but(deleted=1, corrected=1, respelled=1)
    assert result.test_split["digest"] == source.ingest(cold=True).test_split["digest"]


def test_versions_go_on_through_a_forced_run_and_through_other_settings(source):
    source.ingest()
    source.put("second", [(f"more {i}", "pos") for i in range(40)])
    assert source.ingest(force=True).test_split["version"] == 2
    source.reading = type(source.reading)(source=str(source.folder), text="text", label="label", test_percent=20)
    third = source.ingest()
    assert third.test_split["version"] == 3
    assert counts(third) == nothing_but(added=third.test_split["added"])


def test_a_batch_that_is_set_aside_leaves_the_version_as_it_was(source):
    first = source.ingest()
    source.put("second", [(f"more {i}", "new") for i in range(40)])
    refused = source.ingest(policies={"new_label": "quarantine"})
    assert refused.quarantined
    assert refused.test_split == first.test_split
    assert source.ingest().test_split["version"] == 2


def test_what_changed_is_unknown_when_an_object_store_has_not_the_rows_of_before(source, monkeypatch):
    def gone(*_args):
        raise duckdb.Error("Traceback ...: FileNotFoundError: acme/batches/1a2b/rows-0.parquet")

    source.ingest()
    monkeypatch.setattr(exam, "show_rows", gone)
    source.put("first", ROWS[20:])
    second = source.ingest()
    assert second.test_split["version"] == 2
    assert counts(second) == {"added": None, "deleted": None, "corrected": None, "respelled": None}


def test_what_changed_is_unknown_when_the_snapshot_before_is_gone(source):
    first = source.ingest()
    (source.store / "snapshots" / first.digest / "manifest.json").unlink()
    source.put("second", [(f"more {i}", "pos") for i in range(40)])
    second = source.ingest()
    assert second.test_split["version"] == 2
    assert counts(second) == {"added": None, "deleted": None, "corrected": None, "respelled": None}
