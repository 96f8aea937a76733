from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tiny import tiny_checkpoint
from training import model
from training.contract import BadInput, IngestRequest, Reading, TryRequest
from training.rehearse import PREDICTIONS, rehearse


@pytest.fixture
def request_(tmp_path, monkeypatch):
    """Two labels that one word decides, a tiny base model, and temporary files where a test can look for them."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    rows = [
        {"text": f"the {noun} is {word} {number}", "label": label}
        for number in range(40)
        for noun in ("film", "book")
        for word, label in (("good", "pos"), ("bad", "neg"))
    ]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest = IngestRequest(
        pipeline="films",
        store=str(tmp_path / "store"),
        reading=Reading(source=str(source), text="text", label="label"),
        max_rows=120,
    )
    train = {
        "pipeline": "films",
        "store": str(tmp_path / "store"),
        "work": str(tmp_path / "work"),
        "base_model": str(tiny_checkpoint(tmp_path / "base")),
        "arguments": {"num_train_epochs": 1},
        "tracking": {"uri": "http://127.0.0.1:9", "experiment": "films", "model_name": "films"},
    }
    return TryRequest(ingest=ingest, train=train)


def test_the_whole_way_works_without_mlflow_and_leaves_nothing(request_, tmp_path):
    unknown = {"name": "a", "kind": "minimum", "pass_share": 1.0, "label": "none of a few rows", "texts": ["b"]}
    evaluated = {"slices": {"praise": {"where": "text LIKE '%good%'"}}, "behaviour": [unknown]}
    result = rehearse(replace(request_, evaluate=evaluated))
    assert result.decision == "promote"
    assert list(result.seconds) == ["ingest", "train", "evaluate", "judge", "package", "predict"]
    assert len(result.predictions) == PREDICTIONS
    assert {prediction["label"] for prediction in result.predictions} <= {"neg", "pos"}
    assert 0 <= result.metrics["accuracy"] <= 1
    assert json.loads(result.to_json())["decision"] == "promote"
    assert not list((tmp_path / "scratch").rglob("try-*"))
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "work").exists()


def test_a_slice_that_no_run_could_cut_is_refused(request_):
    with pytest.raises(BadInput, match=r"gate\.slices\.a: .*no column 'txt'"):
        rehearse(replace(request_, evaluate={"slices": {"a": {"where": "txt = ''"}}}))


def test_a_base_model_from_the_hub_is_kept_where_the_next_time_finds_it(request_, tmp_path, monkeypatch):
    caches = []
    base = Path(request_.train["base_model"])
    monkeypatch.setattr(model, "_from_hub", lambda _reference, cache: caches.append(cache) or base)
    assert rehearse(replace(request_, train={**request_.train, "base_model": "films/tiny"})).decision == "promote"
    assert caches == [tmp_path / "work" / "models"]


def test_a_held_candidate_says_why(request_):
    result = rehearse(replace(request_, rules={"minimum": {"f1_macro": 1.0}}))
    assert result.decision == "hold"
    assert "is below the minimum 1.000" in result.reasons[0]


def test_rules_that_make_no_sense_end_it_before_any_work(request_):
    with pytest.raises(BadInput, match=r"gate\.minimum"):
        rehearse(replace(request_, rules={"minimum": {"log_loss": 0.3}}, train={}))


def test_bad_data_ends_it_and_leaves_nothing(request_, tmp_path):
    with pytest.raises(BadInput, match="utterance"):
        rehearse(
            replace(
                request_, ingest=replace(request_.ingest, reading=replace(request_.ingest.reading, text="utterance"))
            )
        )
    assert not list((tmp_path / "scratch").rglob("try-*"))
