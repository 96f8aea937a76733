"""Notes are written and earlier answers found with the login of the connection."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import httpx
import pytest

from ratchet.hooks.airflow_api import AirflowApiHook
from tests.ratchet.fake_airflow import served

RUN = "manual__2026-11-22T08:00:00+00:00"
QUESTION = {"body": "Verdict `k`", "response_received": True, "chosen_options": ["Approve"]}
OPEN = {"body": "Verdict `l`", "response_received": False, "chosen_options": None}


class FakeApi:
    """Airflow's REST API, as far as the hook asks it; the second attempt asked a person,
    and so does the third one, which nobody answered yet."""

    def __init__(self):
        self.notes, self.status = {}, 200

    def answer(self, method, path, body, token):
        if path == "/auth/token":
            return (201, {"access_token": "t"}) if body == {"username": "ratchet", "password": "pw"} else (401, {})
        assert token == "t"
        if method == "PATCH":
            self.notes[unquote(path)] = body["note"]
            return 200, {}
        asked = f"/api/v2/dags/intents/dagRuns/{RUN}/taskInstances/approve/-1/hitlDetails"
        if unquote(path) == asked:
            return 200, OPEN
        return (self.status, QUESTION) if unquote(path) == f"{asked}/tries/2" else (404, {})


@pytest.fixture
def api():
    return FakeApi()


@pytest.fixture
def hook(api, monkeypatch):
    with served(api) as url:
        connection = {"conn_type": "http", "host": "127.0.0.1", "port": urlsplit(url).port}
        connection |= {"login": "ratchet", "password": "pw"}
        monkeypatch.setenv("AIRFLOW_CONN_RATCHET_AIRFLOW_API", json.dumps(connection))
        yield AirflowApiHook()


def test_a_note_is_cut_to_what_the_api_takes(hook, api):
    hook.set_run_note("intents", RUN, "x" * 2000)
    assert api.notes == {f"/api/v2/dags/intents/dagRuns/{RUN}": "x" * 1000}


def test_what_an_earlier_attempt_asked_is_found_with_its_answer(hook):
    assert hook.question("intents", RUN, "approve", -1, 2) == QUESTION
    assert hook.question("intents", RUN, "approve", None, 2) == QUESTION


def test_what_is_asked_now_is_found_without_an_attempt(hook):
    assert hook.question("intents", RUN, "approve", -1, None) == OPEN


def test_an_attempt_that_asked_nothing_is_no_error(hook):
    assert hook.question("intents", RUN, "approve", -1, 1) is None


def test_an_api_that_does_not_answer_is_never_one_that_was_not_asked(hook, api):
    api.status = 503
    with pytest.raises(httpx.HTTPStatusError):
        hook.question("intents", RUN, "approve", -1, 2)
