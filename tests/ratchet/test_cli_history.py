from __future__ import annotations

import json

import pytest
from mlflow.exceptions import MlflowException

from ratchet.cli import main
from ratchet.hooks import model_registry
from ratchet.ledger import INGESTED, Ledger
from tests.ratchet.fakes import FakeRegistry
from training.store import Store


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    for name in ("STORE", "WORK"):
        monkeypatch.setenv(f"AIRFLOW__RATCHET__{name}", (tmp_path / name.lower()).as_uri())
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_DEFAULT", "RATCHET_ENDPOINTS"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "http", "host": "127.0.0.1"}))
    return Ledger(Store((tmp_path / "store").as_uri()), "intents")


@pytest.fixture
def registry(ledger, monkeypatch):
    made = FakeRegistry("1", "2", champion="1")
    made.tags = {"1": {"ratchet.snapshot": "5" * 64, "ratchet.verdict": "promote"}, "2": {"ratchet.verdict": "hold"}}
    made.metrics = {"ratchet/intents": {"run1": {"test_f1_macro": 0.8, "test_accuracy": 0.9}}}
    monkeypatch.setattr(model_registry, "ModelRegistryHook", lambda: made)
    ledger.append(INGESTED, digest="5" * 64, rows={"train": 1000, "test": 200})
    return made


def test_versions_are_listed_with_what_became_of_them(registry, ledger, capsys):
    number = ledger.append("alias-by-hand", **{"from": None, "to": "1"}, who=None)
    time = ledger.records()[number - 1]["time"][:16].replace("T", " ")
    assert main(["history", "intents"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "VERSION  ALIASES   MADE              VERDICT  ACCURACY  F1_MACRO  SNAPSHOT      ROWS",
        "2        -         2026-11-01 08:30  hold     -         -         -             -",
        "1        champion  2026-11-01 08:30  promote  0.9000    0.8000    555555555555  1,200",
        f"    {time}  made champion by hand",
    ]


def test_a_version_that_was_not_trained_here_says_where_it_is_from(registry, capsys):
    registry.tags["2"]["ratchet.imported"] = "acme/films@1a2b"
    assert main(["history", "intents", "-n", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "    imported from acme/films@1a2b"


def test_json_has_all_there_is_and_n_cuts_it(registry, capsys):
    assert main(["history", "intents", "--json", "-n", "1"]) == 0
    [newest] = json.loads(capsys.readouterr().out)
    assert (newest["version"], newest["verdict"], newest["aliases"]) == ("2", "hold", [])
    assert main(["history", "intents", "-n", "0"]) == 2


def test_a_pipeline_that_never_ran_is_refused_with_the_nearest_name(registry, capsys):
    assert main(["history", "intent"]) == 2
    told = capsys.readouterr().err
    assert "No pipeline 'intent' ever ran" in told
    assert "Did you mean 'intents'?" in told


def test_a_server_that_is_away_is_no_empty_history(registry, monkeypatch, capsys):
    def away(name):
        raise MlflowException("connection refused")

    monkeypatch.setattr(registry, "list_versions", away)
    assert main(["history", "intents"]) == 1
    assert "MLflow does not answer: connection refused" in capsys.readouterr().err
