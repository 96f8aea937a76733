"""The DAGs for all pipelines: what they ask for, and in which order they act."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from airflow.sdk.exceptions import ParamValidationError

from ratchet.upkeep import reconcile, rollback

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


def test_the_daily_look_runs_by_itself_and_looks_again_before_it_fails():
    dag = reconcile(str(ROOT / "dags" / "ratchet_reconcile.py"))
    [task] = dag.tasks
    assert (dag.dag_id, dag.is_paused_upon_creation, dag.catchup) == ("ratchet_reconcile", False, False)
    assert dag.timetable.expression == "0 0 * * *"
    assert task.retries == 2
    assert runpy.run_path(str(ROOT / "dags" / "ratchet_reconcile.py"))["dag"].dag_id == "ratchet_reconcile"
