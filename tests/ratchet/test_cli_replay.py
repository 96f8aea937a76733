from __future__ import annotations

import json
import re

import pytest
from mlflow.exceptions import MlflowException

from ratchet.cli import main, replay
from ratchet.cli.replay import changed
from ratchet.hooks import model_registry
from ratchet.ledger import ALIAS_DONE, INGESTED, Ledger
from tests.ratchet.fakes import FakeRegistry
from tests.ratchet.test_cli_plan import spec_in
from training.contract import BadInput
from training.rules import Rules
from training.store import Store

HELD = {
    "version": "2",
    "decision": "hold",
    "reason": "accuracy 0.88 is below the champion's 0.91",
    "value": 0.88,
    "against": "1",
    "difference": -0.03,
    "low": -0.04,
    "high": -0.02,
    "rows": 800,
    "test_rows": 1000,
}
FIRST = {
    **dict.fromkeys(HELD),
    "version": "1",
    "decision": "promote",
    "reason": "there is no champion yet",
    "value": 0.9,
}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What the stage was asked; it answers that version 2 would have been held."""

    class Asked(list):
        spec = spec_in(tmp_path, monkeypatch)
        registry = FakeRegistry("1", "2", name="mail")
        ledger = Ledger(Store((tmp_path / "store").as_uri()), "mail")

    made = Asked()
    made.registry.tags = {"2": {"ratchet.snapshot": "5" * 64, "ratchet.verdict": "promote"}}
    made.ledger.append(INGESTED, digest="5" * 64)
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_DEFAULT", "RATCHET_ENDPOINTS"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "http", "host": "127.0.0.1"}))
    monkeypatch.setattr(model_registry, "ModelRegistryHook", lambda: made.registry)

    def run_stage(stage, request, log):
        made.append(request)
        return {
            "versions": [one for one in (FIRST, HELD) if one["version"] in {v["version"] for v in request.versions}]
        }

    monkeypatch.setattr(replay, "run_stage", run_stage)
    return made


def test_what_the_gate_would_have_said_stands_beside_what_happened(asked, capsys):
    for version in ("1", "2"):
        asked.ledger.append(ALIAS_DONE, to=version)
    assert main(["replay", asked.spec, "--set", "metric=accuracy"]) == 0
    head, *rows, end = capsys.readouterr().out.splitlines()
    columns = ["VERSION", "MADE", "DATA", "HAPPENED", "THIS GATE", "ACCURACY", "AGAINST", "DIFFERENCE", "ROWS", "WHY"]
    assert re.split("  +", head) == columns
    second, first = (dict(zip(columns, re.split("  +", row), strict=True)) for row in rows)
    assert second == {
        "VERSION": "2",
        "MADE": "2026-11-01 08:30",
        "DATA": "555555555555",
        "HAPPENED": "promoted",
        "THIS GATE": "hold",
        "ACCURACY": "0.8800",
        "AGAINST": "1",
        "DIFFERENCE": "-0.0300 (-0.0400 to -0.0200)",
        "ROWS": "800 of 1,000",
        "WHY": "accuracy 0.88 is below the champion's 0.91",
    }
    assert (first["THIS GATE"], first["AGAINST"], first["ROWS"]) == ("promote", "-", "-")
    assert end == "1 promoted, 1 held; otherwise than what happened: version 2."
    [request] = asked
    assert request.rules["metric"] == "accuracy"
    assert request.rules["no_worse_by"] == Rules.no_worse_by


def test_json_has_what_the_table_has(asked, capsys):
    assert main(["replay", asked.spec, "--last", "1", "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert told == {
        **HELD,
        "made": "2026-11-01T08:30:00+00:00",
        "snapshot": "5" * 64,
        "verdict": "promote",
        "promoted": False,
    }


def test_rules_can_be_tried_without_the_spec():
    rules = {"no_worse_by": 0.02, "approval": "never", "minimum": {"accuracy": 0.8}, "better": False}
    tried = changed(rules, ["no_worse_by=0.01", "approval=always", "minimum.accuracy=0.9", "minimum.f1_macro=0.5"])
    assert tried == {
        "no_worse_by": 0.01,
        "approval": "always",
        "minimum": {"accuracy": 0.9, "f1_macro": 0.5},
        "better": False,
    }
    assert rules["minimum"] == {"accuracy": 0.8}
    assert changed(rules, ["no_worse_by=null"])["no_worse_by"] is None


@pytest.mark.parametrize(
    "given",
    ["no_worse_by", "slices=1", "better.much=1", "minimum.speed=1", "no_worse_by=2", "minimum=[", "approval=often"],
)
def test_what_is_no_rule_is_refused(given):
    rules = {"no_worse_by": 0.02, "minimum": {}, "better": False, "approval": "never"}
    with pytest.raises(BadInput):
        changed(rules, [given])


def test_wrong_usage_and_a_server_that_is_away_are_told_apart(asked, monkeypatch, capsys):
    assert main(["replay", asked.spec, "--last", "0"]) == 2
    assert main(["replay", asked.spec, "--set", "speed=1"]) == 2
    assert "--set speed=1: expected KEY=VALUE with a KEY of minimum" in capsys.readouterr().err

    def away(name):
        raise MlflowException("connection refused")

    monkeypatch.setattr(asked.registry, "list_versions", away)
    assert main(["replay", asked.spec]) == 1
    assert "MLflow does not answer: connection refused" in capsys.readouterr().err


def test_a_pipeline_without_a_version_says_so(asked, monkeypatch, capsys):
    asked.registry.versions.clear()
    assert main(["replay", asked.spec]) == 0
    assert capsys.readouterr().out == "mail has no version: nothing was trained yet.\n"
