"""The gate keeps its verdict, and lets nothing pass that it did not promote."""

from __future__ import annotations

import json

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from ratchet.operators.gate import GateOperator
from tests.ratchet.fakes import FakeRegistry, context
from tests.reports import binary, report


def judge(tmp_path, report, *, registry=None, ctx=None, **rules):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report) if isinstance(report, dict) else report)
    with DAG("intents"):
        gate = GateOperator(task_id="gate", report=path.as_uri(), **rules)
        gate >> EmptyOperator(task_id="deploy") >> EmptyOperator(task_id="promote")
    gate.__dict__["registry"] = registry or FakeRegistry("3", "4", champion="3", challenger="4", name="sentiment")
    return gate.execute(ctx or context())


def test_a_good_candidate_passes(tmp_path):
    registry = FakeRegistry("3", "4", champion="3", challenger="4", name="sentiment")
    ctx = context()
    verdict = judge(tmp_path, binary(900, 890), registry=registry, ctx=ctx, minimum={"accuracy": 0.8})
    assert verdict["decision"] == "promote"
    assert registry.aliases["challenger"] == "4"
    assert json.loads(registry.files["run4", "verdict.json"])["decision"] == "promote"
    assert ctx["ti"].xcoms["links"]["verdict"].endswith("verdict.html")


def test_what_scores_say_little_is_in_the_log_and_on_the_page(tmp_path, capsys):
    registry = FakeRegistry("3", "4", champion="3", challenger="4", name="sentiment")
    verdict = judge(tmp_path, report([[90, 0], [1, 2]]), registry=registry)
    told = "label 'label 1' has 3 test rows: its scores say little"
    assert verdict["notes"] == [told]
    assert f"Note: {told}" in capsys.readouterr().out
    assert "has 3 test rows" in registry.files["run4", "verdict.html"]


def test_a_worse_candidate_is_held_and_everything_after_the_gate_is_skipped(tmp_path, notes):
    registry = FakeRegistry("3", "4", champion="3", challenger="4", name="sentiment")
    ctx = context(note="nightly")
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        judge(tmp_path, binary(850, 900), registry=registry, ctx=ctx)
    assert sorted(skipped.value.tasks) == ["deploy", "promote"]
    assert ctx["ti"].xcoms["return_value"]["decision"] == "hold"
    assert registry.aliases == {"champion": "3"}
    assert registry.tags["4"]["ratchet.verdict"] == "hold"
    assert "<html" in registry.files["run4", "verdict.html"]
    [note] = notes
    assert note.startswith("held: ")
    assert note.endswith("(note: nightly)")


def test_a_report_that_is_damaged_promotes_nothing(tmp_path):
    damaged = binary(900, 890)
    damaged["candidate"]["metrics"]["accuracy"] = None
    with pytest.raises(DownstreamTasksSkipped):
        judge(tmp_path, damaged)
    with pytest.raises(AirflowFailException, match="cannot be read"):
        judge(tmp_path, "{half a rep")


def test_no_report_promotes_nothing():
    with DAG("intents"):
        gate = GateOperator(task_id="gate", report="file:///nowhere/report.json")
    with pytest.raises(AirflowFailException, match="nothing is promoted"):
        gate.execute(context())


def test_rules_that_contradict_themselves_are_refused(tmp_path):
    with pytest.raises(AirflowFailException, match="nothing is promoted"):
        judge(tmp_path, binary(900), minimum={"accuracy": 1.5})


def test_a_registry_that_is_away_fails_the_task_instead_of_deciding(tmp_path):
    registry = FakeRegistry("3", "4")
    registry.find_version = lambda reference: (_ for _ in ()).throw(ConnectionError("MLflow is away"))
    with pytest.raises(ConnectionError):
        judge(tmp_path, binary(900, 890), registry=registry)
