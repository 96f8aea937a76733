"""Against a Hub on loopback; each stage is a process, since ``HF_ENDPOINT`` is read when the client is imported."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.hub import serve_hub
from training.snapshot import open_snapshot, read_split, read_table

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["neg", "pos"]
FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": NAMES, "_type": "ClassLabel"},
    "tone": {"names": ["calm", "loud"], "_type": "ClassLabel"},
}


def films(what, count):
    return [(f"{what} number {i}", i % 2) for i in range(count)]


def as_parquet(rows):
    texts, labels = zip(*rows, strict=True)
    tones = [len(text) % 3 - 1 for text in texts]
    table = pyarrow.table({"text": texts, "label": labels, "tone": tones})
    told = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    buffer = io.BytesIO()
    parquet.write_table(table.replace_schema_metadata(told), buffer)
    return buffer.getvalue()


def as_jsonl(rows):
    return "".join(json.dumps({"text": text, "label": NAMES[label]}) + "\n" for text, label in rows).encode()


@pytest.fixture(scope="module")
def hub():
    with serve_hub() as hub:
        hub.films = hub.commit(
            "acme/films",
            {
                "README.md": b"---\nlicense: mit\n---\n",
                "data/train-00000-of-00001.parquet": as_parquet(films("train", 400)),
                "data/test-00000-of-00001.parquet": as_parquet([*films("test", 40), ("unlabelled", -1)]),
            },
        )
        hub.gone = hub.commit("acme/films", {"train.jsonl": b"{}\n"}, ref="old")
        hub.forget("acme/films", hub.gone)
        hub.plain = hub.commit(
            "acme/plain", {"README.md": b"---\nlicense: mit\n---\n", "train.jsonl": as_jsonl(films("plain", 300))}
        )
        yield hub


@pytest.fixture
def ingest(hub, tmp_path):
    def run(source, watermark=None, **values):
        reading = {"source": source, "text": "text", "label": "label", **values}
        request = {"pipeline": "films", "store": str(tmp_path / "store"), "reading": reading, "watermark": watermark}
        (tmp_path / "request.json").write_text(json.dumps(request))
        places = ["--in", str(tmp_path / "request.json"), "--out", str(tmp_path / "result.json")]
        ended = subprocess.run(
            [sys.executable, "-m", "training", "ingest", *places],
            cwd=ROOT,
            env={
                **os.environ,
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(tmp_path / "hf"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        run.log = ended.stdout
        return ended.returncode, json.loads((tmp_path / "result.json").read_text())

    return run


def rows_of(result, split):
    rows = read_split(*open_snapshot(result["snapshot"]), split)
    return {"text": [text for text, _ in rows], "label": [label for _, label in rows]}


def test_the_data_sets_own_splits_are_used_and_label_numbers_become_names(hub, ingest):
    status, result = ingest(f"hf://acme/films@{hub.films}")
    assert status == 0, ingest.log
    assert result["labels"] == NAMES
    assert result["source"] == {"uri": f"hf://acme/films@{hub.films}", "files": 2, "revision": hub.films}
    assert sorted(rows_of(result, "test")["text"]) == sorted(text for text, _ in films("test", 40))
    assert result["rows"]["train"] + result["rows"]["validation"] == 400
    assert result["rows"]["validation"] > 0
    assert result["dropped"] == {"missing label": 1}
    assert "HTTP Request" not in ingest.log


def test_numbers_become_names_in_columns_that_stay_with_the_rows_as_well(hub, ingest):
    status, result = ingest(f"hf://acme/films@{hub.films}", keep=["tone"])
    assert status == 0, ingest.log
    rows = read_table(*open_snapshot(result["snapshot"]), "test", keep=["tone"]).to_pydict()
    assert rows["kept:tone"] == [[None, "calm", "loud"][len(text) % 3] for text in rows["text"]]


def test_a_branch_is_recorded_as_the_commit_it_was(hub, ingest):
    status, result = ingest("hf://acme/plain@main")
    assert status == 0, ingest.log
    assert result["source"]["revision"] == hub.plain
    assert sum(result["rows"].values()) == 300
    assert min(result["rows"].values()) > 0
    _status, again = ingest(f"hf://acme/plain@{hub.plain}")
    assert again["hit"]
    assert again["digest"] == result["digest"]


def test_one_split_can_be_taken_as_plain_rows_or_as_a_given_split(hub, ingest):
    status, result = ingest(f"hf://acme/films@{hub.films}?split=train", test=f"hf://acme/films@{hub.films}?split=test")
    assert status == 0, ingest.log
    assert result["rows"]["test"] == 40
    status, cut = ingest(f"hf://acme/films@{hub.films}?split=train")
    assert status == 0, ingest.log
    assert sum(cut["rows"].values()) == 400


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("hf://acme/films@GONE", "no revision"),
        ("hf://acme/films@v9", "'v9'"),
        ("hf://acme/nothing", "no data set acme/nothing"),
        ("hf://acme/plain/german", "'german' not found. Available: ['default']"),
        ("hf://acme/plain?split=dev", "no split 'dev'. There are: train."),
        ("hf://acme/", "not an address of a data set"),
    ],
)
def test_what_is_not_there_is_refused_by_name(hub, ingest, source, named):
    status, result = ingest(source.replace("GONE", hub.gone))
    assert status == 2, ingest.log
    assert named in result["error"]


def test_a_missing_column_is_refused_with_those_that_are_there(hub, ingest):
    status, result = ingest(f"hf://acme/films@{hub.films}", text="sentence")
    assert status == 2
    assert "no column 'sentence'" in result["error"]
    assert "'text', 'label'" in result["error"]


def test_a_hub_that_does_not_answer_is_worth_a_retry(hub, ingest, monkeypatch):
    monkeypatch.setattr(hub, "url", "http://127.0.0.1:9")
    status, _result = ingest("hf://acme/films")
    assert status == 1


@pytest.mark.parametrize("path", ["/api/datasets/acme/growing", "/datasets/acme/growing/resolve"])
def test_a_hub_that_is_away_or_a_revision_that_is_gone_leaves_the_last_snapshot_and_the_next_run_recovers(
    hub, ingest, monkeypatch, tmp_path, path
):
    hub.commit("acme/growing", {"train.jsonl": as_jsonl(films("old", 300))})
    _status, first = ingest("hf://acme/growing")
    hub.commit("acme/growing", {"train.jsonl": as_jsonl(films("old", 300) + films("new", 200))})
    before = {file: file.read_bytes() for file in (tmp_path / "store").rglob("*") if file.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(hub, "refuses", (path, 503))
        status, failed = ingest("hf://acme/growing", first["watermark"])
    assert status == 1, ingest.log
    assert "503" in failed["error"]
    status, refused = ingest(f"hf://acme/growing@{'0' * 40}", first["watermark"])
    assert status == 2, ingest.log
    assert "no revision" in refused["error"]
    assert {file: file.read_bytes() for file in (tmp_path / "store").rglob("*") if file.is_file()} == before
    status, recovered = ingest("hf://acme/growing", first["watermark"])
    assert status == 0, ingest.log
    assert sum(recovered["rows"].values()) == 500


@pytest.mark.parametrize("status_", [401, 403])
@pytest.mark.parametrize("path", ["/api/datasets/acme/films", "/datasets/acme/films/resolve"])
def test_a_token_that_the_hub_refuses_is_not_tried_again_and_named_but_not_shown(
    hub, ingest, monkeypatch, path, status_
):
    monkeypatch.setenv("HF_TOKEN", "hf_hunter2hunter2")
    monkeypatch.setattr(hub, "refuses", (path, status_))
    status, result = ingest("hf://acme/films")
    assert status == 2, ingest.log
    assert "Check HF_TOKEN" in result["error"]
    assert str(status_) in result["error"]
    assert "hunter2" not in ingest.log + result["error"]
