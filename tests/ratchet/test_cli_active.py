from __future__ import annotations

import argparse

import pytest

from ratchet.cli import active
from ratchet.cli.active import active_runs
from ratchet.cli.retrain import RunError
from tests.ratchet.fake_airflow import PASSWORD
from training.contract import BadInput


def elsewhere(monkeypatch, url, password=PASSWORD):
    monkeypatch.setenv("AIRFLOW_SECRET", password)
    return argparse.Namespace(url=url, user="operator", password_env="AIRFLOW_SECRET")


def test_an_active_run_is_seen_behind_any_number_of_other_pipelines(fake, url, monkeypatch):
    fake.active_elsewhere = [*(f"other{i}" for i in range(150)), "films"]
    [found] = active_runs(elsewhere(monkeypatch, url), {"films", "mail"})
    assert found.startswith(f"{url}/dags/films/")


def test_of_a_run_that_waits_for_a_person_it_is_said_who_may_end_the_wait(fake, url, monkeypatch):
    fake.active_elsewhere = ["films"]
    fake.ask(by=["anna"], until="2026-11-25T08:00:00+00:00", url="http://airflow/answer")
    [found] = active_runs(elsewhere(monkeypatch, url), {"films"})
    asked = "anna is asked until 2026-11-25 08:00 UTC, else it is rejected; answer at http://airflow/answer"
    assert found.endswith(f" (waits for a person: {asked})")


def test_a_pipeline_that_airflow_does_not_know_has_no_run(url, monkeypatch):
    assert active_runs(elsewhere(monkeypatch, url), {"never"}) == []


def test_an_airflow_that_refuses_does_not_say_that_nothing_runs(url, monkeypatch):
    with pytest.raises(RunError, match="did not accept the user or the password"):
        active_runs(elsewhere(monkeypatch, url, "wrong"), {"films"})


def test_without_an_embedded_stack_an_airflow_has_to_be_named(monkeypatch):
    monkeypatch.setattr(active, "has_stack", lambda: False)
    with pytest.raises(BadInput, match="--url"):
        active_runs(argparse.Namespace(url=None), {"films"})


def test_nothing_runs_in_an_embedded_stack_that_was_never_started(monkeypatch, tmp_path):
    monkeypatch.setattr(active, "has_stack", lambda: True)
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    assert active_runs(argparse.Namespace(url=None), {"films"}) == []
