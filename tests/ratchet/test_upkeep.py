"""The DAGs for all pipelines: what they ask for, and in which order they act."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from airflow.sdk.exceptions import ParamValidationError

from ratchet.operators.reconcile import PipelinesDiffer
from ratchet.upkeep import reconcile, rollback
from tests.ratchet.fakes import context
from tests.ratchet.notifiers import Remembering

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dag(tmp_path):
    for name in ("intents.yaml", "intents.behaviour.yaml", "films.yaml", "films.py"):
        (tmp_path / name).touch()
    return rollback(str(tmp_path / "ratchet_rollback.py"))


def test_the_endpoint_goes_back_before_the_alias(dag):
    assert [task.task_id for task in dag.topological_sort()] == ["choose", "deploy", "rollback"]


def test_the_form_proposes_the_pipelines_and_asks_for_a_reason(dag):
    assert dag.params.get_param("pipeline").schema["examples"] == ["films", "intents"]
    assert dag.params["version"] is None
    for name, value in (("reason", ""), ("reason", "\u200b\u3164"), ("pipeline", ""), ("version", "latest")):
        with pytest.raises(ParamValidationError):
            dag.params.get_param(name).resolve(value)


def test_two_rollbacks_never_go_at_once(dag):
    assert dag.max_active_runs == 1


def test_airflow_finds_it_in_the_folder_of_the_specs():
    assert runpy.run_path(str(ROOT / "dags" / "ratchet_rollback.py"))["dag"].dag_id == "ratchet_rollback"


def test_the_specs_beside_them_say_who_is_told(dag, tmp_path):
    assert dag.get_task("rollback").notify == str(tmp_path)
    assert reconcile(str(tmp_path / "ratchet_reconcile.py")).get_task("reconcile").specs == str(tmp_path)


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(Remembering, "told", [])
    return Remembering.told


def wish(folder, pipeline, to):
    notify = f"notify: [{{notifier: tests.ratchet.notifiers.Remembering, arguments: {{to: {to}}}, on: [failure]}}]\n"
    (folder / f"{pipeline}.yaml").write_text("data: {source: /d.csv, text: t, label: l}\n" + notify)


def test_whom_the_pipelines_spec_names_is_told_of_a_rollback_that_failed(tmp_path, told):
    wish(tmp_path, "intents", "anna")
    wish(tmp_path, "films", "ben")
    for task in rollback(str(tmp_path / "ratchet_rollback.py")).tasks:
        [tell] = task.on_failure_callback
        tell({**context(), "params": {"pipeline": "intents"}, "exception": ConnectionError("away")})
    assert told == [("anna", "failure: intents: approve failed")] * 3


def test_a_rollback_of_nobody_knows_which_pipeline_tells_nobody(tmp_path, told):
    [tell] = rollback(str(tmp_path / "ratchet_rollback.py")).get_task("choose").on_failure_callback
    tell({"ti": context()["ti"]})
    assert told == []


@pytest.mark.parametrize(
    ("error", "who"),
    [(PipelinesDiffer({"intents": "The endpoint serves another."}), ["anna"]), (ConnectionError(), ["ben", "anna"])],
)
def test_a_look_that_failed_is_told_to_whom_it_concerns(tmp_path, told, error, who):
    wish(tmp_path, "intents", "anna")
    wish(tmp_path, "films", "ben")
    [tell] = reconcile(str(tmp_path / "ratchet_reconcile.py")).get_task("reconcile").on_failure_callback
    tell({**context(), "exception": error})
    assert [to for to, _ in told] == who


def test_the_daily_look_runs_by_itself_and_looks_again_before_it_fails():
    dag = reconcile(str(ROOT / "dags" / "ratchet_reconcile.py"))
    [task] = dag.tasks
    assert (dag.dag_id, dag.is_paused_upon_creation, dag.catchup) == ("ratchet_reconcile", False, False)
    assert dag.timetable.expression == "0 0 * * *"
    assert task.retries == 2
    assert runpy.run_path(str(ROOT / "dags" / "ratchet_reconcile.py"))["dag"].dag_id == "ratchet_reconcile"
