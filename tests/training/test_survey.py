"""A survey says what waits: exactly how much, and never the same twice when it is the same."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime

import pytest

from training import survey as survey_module
from training.contract import BadInput, IngestRequest, Reading, SurveyRequest
from training.ingest import ingest
from training.survey import survey


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write(folder, name, rows, start=0):
    lines = [json.dumps({"text": f"text {i} of many", "label": "ab"[i % 2]}) for i in range(start, start + rows)]
    (folder / name).write_text("".join(f"{line}\n" for line in lines))


def reading(folder):
    return Reading(source=str(folder), text="text", label="label")


def look(folder, watermark=None, **values):
    store = str(folder.parent / "store")
    return survey(SurveyRequest(store=store, reading=reading(folder), watermark=watermark, **values))


def read_all(folder, watermark=None):
    """:return: the watermark after the data was taken in."""
    store = str(folder.parent / "store")
    return ingest(IngestRequest(pipeline="films", store=store, reading=reading(folder), watermark=watermark)).watermark


def test_everything_waits_for_a_pipeline_that_has_read_nothing(folder):
    write(folder, "a.jsonl", 200)
    write(folder, "b.jsonl", 50, start=200)
    found = look(folder)
    assert (found.objects, found.rows, found.emptied, found.broken) == (2, 250, 0, 0)
    assert found.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert [name.rpartition("/")[2] for name in found.examples] == ["a.jsonl", "b.jsonl"]


def test_nothing_waits_when_all_was_read(folder):
    write(folder, "a.jsonl", 300)
    found = look(folder, read_all(folder))
    assert (found.objects, found.rows, found.digest, found.newest, found.examples) == (0, 0, "", None, [])


def test_new_changed_and_removed_objects_wait(folder):
    for number in range(4):
        write(folder, f"{number}.jsonl", 100, start=number * 100)
    watermark = read_all(folder)
    (folder / "0.jsonl").unlink()
    write(folder, "1.jsonl", 120, start=100)
    write(folder, "2.jsonl", 0)
    write(folder, "4.jsonl", 7, start=400)
    found = look(folder, watermark)
    assert (found.objects, found.rows, found.emptied) == (4, 127, 2)
    kept = look(folder, watermark, removed="keep")
    assert (kept.objects, kept.rows, kept.emptied) == (3, 127, 1)
    assert kept.digest != found.digest


def test_the_digest_is_that_of_names_and_versions(folder):
    write(folder, "a.jsonl", 10)
    first = look(folder)
    assert look(folder).digest == first.digest
    os.utime(folder / "a.jsonl", (1, 1))
    rewritten = look(folder)
    assert rewritten.digest != first.digest
    write(folder, "b.jsonl", 1, start=10)
    assert look(folder).digest not in (first.digest, rewritten.digest)


def test_names_of_files_that_are_still_written_do_not_wait(folder):
    write(folder, "a.jsonl", 10)
    before = look(folder)
    for name in (".b.jsonl", "b.jsonl.tmp", "b.jsonl.part", "_b.jsonl"):
        write(folder, name, 10)
    assert look(folder) == before


def test_an_object_that_was_counted_is_not_read_again(folder, monkeypatch):
    write(folder, "a.jsonl", 10)
    first = look(folder)
    monkeypatch.setattr(survey_module, "_rows_in", lambda *_: pytest.fail("read again"))
    assert look(folder, counted=first.counted) == first


def test_an_object_that_cannot_be_read_waits_as_broken_and_does_not_hide_the_others(folder):
    write(folder, "a.jsonl", 10)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "t", "label": "a"}\n' * 10_000)[:-20])
    (folder / "c.csv").write_text("text,other\nx,y\n")
    found = look(folder)
    assert (found.objects, found.rows, found.broken) == (3, 10, 2)
    assert look(folder, counted=found.counted) == found


def test_rows_are_those_of_the_format(folder):
    (folder / "a.csv").write_text('text,label\n"two\nlines",a\nother,b\n')
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "t", "label": "a"}\nnot json\n'))
    assert look(folder).rows == 4


def test_the_youngest_date_is_told_in_utc(folder):
    write(folder, "a.jsonl", 1)
    write(folder, "b.jsonl", 1, start=1)
    os.utime(folder / "a.jsonl", (0, 1_790_000_000))
    os.utime(folder / "b.jsonl", (0, 1_780_000_000))
    assert look(folder).newest == datetime.fromtimestamp(1_790_000_000, UTC).isoformat()


def test_a_source_that_is_not_there_is_an_error(folder):
    with pytest.raises(BadInput, match="nope"):
        look(folder / "nope")


def test_a_watermark_that_is_gone_is_an_error(folder):
    write(folder, "a.jsonl", 1)
    with pytest.raises(BadInput, match="gone or damaged"):
        look(folder, (folder.parent / "store" / "watermarks" / ("0" * 64)).as_uri())
