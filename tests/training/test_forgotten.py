"""What is on the list of the forgotten does not come in, from wherever and however it is written."""

import json

import pytest
from pyarrow import parquet

from tests.training.source import ROWS, Source, rows_of, texts_of
from training.contract import BadInput, SurveyRequest, Unreachable
from training.forgotten import LIST, Forgotten
from training.store import Store
from training.survey import survey
from training.text import identity_of


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


def forget(source, *texts, objects=(), unfinished=False):
    names = frozenset(str(source.folder / f"{name}.jsonl") for name in objects)
    Forgotten(frozenset(map(identity_of, texts)), names, unfinished).write(Store(str(source.store)))


def test_a_forgotten_text_is_refused_in_any_spelling_and_not_kept(source):
    forget(source, "My Secret")
    source.put("first", [*ROWS, ("my  secret", "pos"), ("ＭＹ secret", "neg"), ("my secrets", "pos")])
    result = source.ingest()
    assert texts_of(result) == {text for text, _label in ROWS} | {"my secrets"}
    assert result.dropped == {"forgotten": 2}
    [refused] = source.store.rglob("refused.parquet")
    assert parquet.read_table(refused).select(["row", "reason", "text", "label"]).to_pylist() == [
        {"row": row, "reason": "forgotten", "text": None, "label": None} for row in (301, 302)
    ]


def test_a_row_that_is_refused_anyway_is_kept_without_a_forgotten_text(source):
    forget(source, "secret")
    source.put("first", [*ROWS, ("secret", None), ("known", None)])
    assert source.ingest().dropped == {"missing label": 2}
    [refused] = source.store.rglob("refused.parquet")
    assert parquet.read_table(refused)["text"].to_pylist() == [None, "known"]


def test_many_forgotten_rows_are_no_reason_to_refuse_a_batch(source):
    source.put("first", ROWS)
    source.ingest(bad_rows_percent=1.0, policies={"broken_row": "fail"})
    forget(source, *(f"secret {i}" for i in range(50)))
    source.put("second", [("fine", "pos"), *((f"secret {i}", "pos") for i in range(50))])
    result = source.ingest(bad_rows_percent=1.0, policies={"broken_row": "fail"})
    assert result.quarantined is None
    assert "fine" in texts_of(result)


def test_a_forgotten_object_is_not_there(source):
    source.put("first", ROWS)
    source.put("second", [("one more", "pos")])
    forget(source, objects=["second"])
    result = source.ingest()
    assert result.objects == {"new": 1, "changed": 0, "removed": 0, "unchanged": 0}
    assert "one more" not in texts_of(result)
    asked = SurveyRequest(store=str(source.store), reading=source.reading, watermark=source.watermark)
    assert survey(asked).objects == 0


def test_reading_piece_by_piece_gives_what_reading_everything_anew_gives(source):
    forget(source, ROWS[3][0], "one more")
    source.put("first", ROWS)
    source.ingest()
    source.put("second", [("one more", "pos"), ("two more", "pos"), ROWS[5]])
    result, cold = source.ingest(), source.ingest(cold=False, force=True)
    assert (result.digest, result.dropped) == (cold.digest, cold.dropped)
    assert rows_of(result) == rows_of(cold)


def test_nothing_is_taken_in_while_something_is_taken_out(source):
    source.put("first", ROWS)
    forget(source, unfinished=True)
    with pytest.raises(Unreachable, match="--resume"):
        source.ingest()
    assert not (source.store / "snapshots").exists()


def test_what_is_forgotten_while_it_is_read_is_not_written(source, monkeypatch):
    from training import ingest as stage

    source.put("first", ROWS)
    reading = stage.read
    monkeypatch.setattr(stage, "read", lambda *args: (reading(*args), forget(source, ROWS[0][0]))[0])
    with pytest.raises(Unreachable, match="A retry leaves them out"):
        source.ingest()
    assert not (source.store / "snapshots").exists()


def test_the_list_holds_no_text(source):
    forget(source, "my secret")
    listed = (source.store / LIST).read_text()
    assert json.loads(listed)["texts"] == [identity_of("My secret")]
    assert "secret" not in listed


@pytest.mark.parametrize("content", ["", '{"texts": []', '{"texts": []}', "[]"])
def test_a_damaged_list_stops_what_would_let_the_forgotten_in_again(source, content):
    source.put("first", ROWS)
    forget(source, ROWS[0][0])
    (source.store / LIST).write_text(content)
    with pytest.raises(BadInput, match=r"forgotten\.json: .* damaged .* Put the file back"):
        source.ingest()
    assert not (source.store / "snapshots").exists()
