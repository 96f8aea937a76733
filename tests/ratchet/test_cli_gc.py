from __future__ import annotations

import json
import os
import time

import httpx
import pytest

from ratchet.cli import main
from ratchet.hooks import endpoint_host, model_registry
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry
from training.keys import locked

OLD, NEEDED = "a" * 64, "b" * 64


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Two old models, one of which is the champion's."""
    monkeypatch.setenv("AIRFLOW__RATCHET__STORE", (tmp_path / "store").as_uri())
    monkeypatch.setenv("AIRFLOW__RATCHET__WORK", str(tmp_path / "work"))
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_DEFAULT", "RATCHET_ENDPOINTS"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"conn_type": "http", "host": "127.0.0.1"}))

    class World:
        root, registry, endpoints = tmp_path, FakeRegistry("1", champion="1"), FakeEndpoints()
        models = tmp_path / "store" / "models"

    World.registry.versions["1"].tags["ratchet.model_digest"] = NEEDED
    for name in (OLD, NEEDED):
        make_old(World.models / name / "manifest.json", "x" * 1200)
    monkeypatch.setattr(model_registry, "ModelRegistryHook", lambda: World.registry)
    monkeypatch.setattr(endpoint_host, "EndpointHostHook", lambda: World.endpoints)
    return World


def make_old(path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    os.utime(path, (time.time() - 9 * 86400,) * 2)


def test_without_yes_it_says_what_would_go_and_removes_nothing(world, capsys):
    assert main(["gc"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "Would remove 1 objects, 1 kB:"
    assert told[1].split()[:3] == ["models/aaaaaaaaaaaa", "1", "kB"]
    assert told[-1] == "To remove it: ratchet gc --yes"
    assert (world.models / OLD).exists()


def test_with_yes_it_goes_and_what_is_needed_stays(world, capsys):
    requests = world.root / "work" / "requests" / "train-1"
    make_old(requests / "request.json", "{}")
    os.utime(requests, (time.time() - 9 * 86400,) * 2)
    assert main(["gc", "--yes"]) == 0
    assert [place.name for place in world.models.iterdir()] == [NEEDED]
    assert not requests.exists()
    assert main(["gc", "--yes"]) == 0
    assert "Nothing to remove." in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--older-than-days", "6"], ["--verdicts", "0"]])
def test_a_policy_that_could_take_what_a_run_needs_is_refused(world, options, capsys):
    assert main(["gc", "--yes", *options]) == 2
    assert "Nothing was removed" in capsys.readouterr().err
    assert (world.models / OLD).exists()


def test_an_endpoint_host_that_is_away_removes_nothing(world, monkeypatch, capsys):
    def away():
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(world.endpoints, "list_endpoints", away)
    assert main(["gc", "--yes"]) == 1
    assert "nobody can tell what is needed: connection refused" in capsys.readouterr().err
    assert (world.models / OLD).exists()


def test_it_does_not_go_beside_a_forgetting(world, capsys):
    with locked(world.root / "work" / "forget"):
        assert main(["gc", "--yes"]) == 1
    assert "ratchet forget, or another gc, is at work" in capsys.readouterr().err
    assert (world.models / OLD).exists()


def test_what_a_run_has_begun_to_use_meanwhile_stays(world, monkeypatch):
    real, looks = world.registry.list_versions, []

    def list_versions(name):
        looks.append(name)
        if len(looks) == 2:
            world.registry.versions["1"].tags["ratchet.also"] = OLD
        return real(name)

    monkeypatch.setattr(world.registry, "list_versions", list_versions)
    assert main(["gc", "--yes"]) == 0
    assert (world.models / OLD).exists()
