"""A fake of Airflow's REST API that answers on loopback, for whoever starts and follows runs."""

from __future__ import annotations

import pytest

from ratchet.cli import retrain
from ratchet.cli.retrain import Airflow
from tests.ratchet.fake_airflow import PASSWORD, FakeAirflow, served


@pytest.fixture
def fake():
    return FakeAirflow()


@pytest.fixture
def url(fake):
    with served(fake) as address:
        yield address


@pytest.fixture
def airflow(url, monkeypatch):
    monkeypatch.setattr(retrain.time, "sleep", lambda seconds: None)
    return Airflow(url, "operator", PASSWORD)
