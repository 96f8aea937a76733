"""A run's note shows what data and people say as they say it, whatever a reader of Markdown would make of it."""

from __future__ import annotations

import logging

import pytest

from ratchet import note
from ratchet.note import LONGEST, write_note
from tests.ratchet.fakes import context

LOG = logging.getLogger(__name__)


@pytest.fixture
def notes(monkeypatch):
    written = []

    class Airflow:
        def set_run_note(self, dag_id, run_id, text):
            written.append(text)

    monkeypatch.setattr(note, "AirflowApiHook", Airflow)
    return written


def test_a_label_is_no_picture_and_no_link(notes):
    write_note(context(note="see <http://e/>"), "held: label '![x](http://e/p.png)' and _b_ fell", LOG)
    assert notes == [r"held: label `'![x](http://e/p.png)'` and \_b\_ fell (note: see `<http://e/>)`"]


def test_an_address_of_ours_can_be_followed(notes):
    write_note(context(), "waits: anna", LOG, address="http://airflow.example/answer")
    assert notes == ["waits: anna: http://airflow.example/answer"]


def test_a_long_note_is_cut_where_no_markup_is_halved(notes):
    write_note(context(), "*" * LONGEST + "http://e/p.png", LOG, address="http://airflow.example")
    [written] = notes
    assert len(written) <= LONGEST
    assert written.endswith(r"\*: http://airflow.example")
