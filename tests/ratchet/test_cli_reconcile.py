from __future__ import annotations

import json

import httpx
import pytest

from ratchet.alias import ChampionAlias
from ratchet.cli import main
from ratchet.cli import reconcile as command
from ratchet.hooks import endpoint_host, model_registry
from ratchet.ledger import Ledger
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry, promotion
from training.store import Store


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Version 1 is champion and serves; no run is active."""
    monkeypatch.setenv("AIRFLOW__RATCHET__STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv("AIRFLOW__RATCHET__WORK", str(tmp_path / "work"))
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_DEFAULT", "RATCHET_ENDPOINTS"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "http", "host": "127.0.0.1"}))

    class World:
        registry, endpoints, active = FakeRegistry("1", "2"), FakeEndpoints("1"), []
        ledger = Ledger(Store((tmp_path / "store").as_uri()), "intents")

    facts = promotion(endpoint="desk", release="1", model_digest="m1")
    alias = ChampionAlias(World.registry, World.ledger, "intents", tmp_path / "work" / "locks")
    alias.move(World.registry.versions["1"], None, facts, lambda: None)
    monkeypatch.setattr(model_registry, "ModelRegistryHook", lambda: World.registry)
    monkeypatch.setattr(endpoint_host, "EndpointHostHook", lambda: World.endpoints)
    monkeypatch.setattr(command, "active_runs", lambda options, names: World.active)
    return World


def test_what_agrees_is_said_and_exits_0(world, capsys):
    assert main(["reconcile"]) == 0
    assert capsys.readouterr().out.splitlines() == ["intents:", "  alias, endpoint and history agree"]


def test_what_differs_is_told_with_the_remedy_and_left(world, capsys):
    world.registry.aliases["champion"] = "2"
    assert main(["reconcile", "intents"]) == 3
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("  - The alias names version 2, which somebody set by hand")
    assert told[2] == "  To put it right: ratchet reconcile intents --fix"
    assert world.registry.aliases["champion"] == "2"


def test_fix_puts_it_right_and_says_so(world, capsys):
    world.registry.aliases["champion"] = "2"
    assert main(["reconcile", "--fix"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "intents:",
        "  - The alias names version 2, which somebody set by hand; version 1 was champion and serves on 'desk'. "
        "The alias names version 1 again.",
        "  alias, endpoint and history agree now",
    ]
    assert world.registry.aliases["champion"] == "1"


def test_nothing_is_fixed_under_a_run(world, capsys):
    world.registry.aliases["champion"] = "2"
    world.active.append("http://airflow/dags/intents/runs/1")
    assert main(["reconcile", "--fix"]) == 1
    assert "A run is active: http://airflow/dags/intents/runs/1. Nothing was changed." in capsys.readouterr().err
    assert world.registry.aliases["champion"] == "2"
    world.active.clear()


def test_a_release_that_does_not_start_is_told(world, capsys):
    world.endpoints.digest, world.endpoints.broken = "2", ["1"]
    assert main(["reconcile", "--fix"]) == 1
    assert "intents: Endpoint 'desk' did not take 1" in capsys.readouterr().err
    assert world.endpoints.digest == "2"


def test_a_server_that_is_away_is_no_agreement(world, monkeypatch, capsys):
    def away(name):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(world.endpoints, "describe", away)
    assert main(["reconcile"]) == 1
    assert "nobody can tell: connection refused" in capsys.readouterr().err


def test_a_pipeline_that_never_ran_is_refused(world, capsys):
    assert main(["reconcile", "intent"]) == 2
    assert "Did you mean 'intents'?" in capsys.readouterr().err
