from __future__ import annotations

import pytest

from ratchet import note, settings
from tests.ratchet.notifiers import Remembering


class Notes(list):
    """The run notes that were written."""

    def set_run_note(self, dag_id, run_id, text):
        self.append(text)


@pytest.fixture(autouse=True)
def notes(monkeypatch):
    written = Notes()
    monkeypatch.setattr(note, "AirflowApiHook", lambda: written)
    return written


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "store_uri", lambda: (tmp_path / "store").as_uri())
    monkeypatch.setattr(settings, "work_directory", lambda: tmp_path / "work")
    return tmp_path


@pytest.fixture
def told(monkeypatch):
    """Who was told what."""
    monkeypatch.setattr(Remembering, "told", [])
    return Remembering.told


@pytest.fixture
def anna():
    """She wants to know everything, by a template of the event and the text."""
    arguments = {"to": "anna", "text": "{{ ratchet.event }}: {{ ratchet.text }}"}
    events = ["ask", "hold", "promote", "rollback", "failure", "stale"]
    return {"notifier": "tests.ratchet.notifiers.Remembering", "arguments": arguments, "on": events}
