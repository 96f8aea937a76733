"""Whoever wants to know is told, in the words of their template; whoever cannot be told fails nothing."""

from __future__ import annotations

import logging

import pytest

from ratchet import notify
from ratchet.notify import TellFailure, check, notifier_class, spec_in, tell
from tests.ratchet.fakes import context
from tests.ratchet.notifiers import Remembering

HERE = "tests.ratchet.notifiers"
REASON = "f1_macro 0.85 < 0.9"


def hold(*wishes, ctx=None, **more):
    tell(list(wishes), ctx or context(), "hold", "intents", "version 4 is held", reasons=[REASON], **more)


def wish(notifier="Remembering", on=("hold",), **arguments):
    return {"notifier": f"{HERE}.{notifier}", "arguments": arguments, "on": list(on)}


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr(Remembering, "told", [])
    return Remembering.told


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, notify.__name__)
    return caplog


def test_who_wants_an_event_is_told_of_it_and_of_no_other(told):
    hold(wish(to="anna"), wish(to="ben", on=["promote", "ask"]), wish(to="cleo", on=["hold", "stale"]))
    assert told == [(name, "hold: intents: version 4 is held") for name in ("anna", "cleo")]


def test_a_template_finds_the_news_and_the_tasks_context(told):
    text = "{{ ratchet.reasons[0] }} / {{ run_id }} / {{ ratchet.report_url or 'no report' }}"
    hold(wish(to="anna", text=text))
    assert told == [("anna", "f1_macro 0.85 < 0.9 / manual__1 / no report")]


def test_the_tasks_context_is_left_as_it_was(told):
    ctx = context()
    before = set(ctx)
    hold(wish(to="anna"), ctx=ctx)
    assert set(ctx) == before


@pytest.mark.parametrize(
    "broken",
    [
        wish("Broken"),
        wish("Exiting"),
        wish("Missing"),
        wish("NoNotifier"),
        wish(unknown="argument"),
        {**wish(), "notifier": "no.such.module"},
        wish(to="anna", text="{{ ratchet.nothing.at.all }}"),
    ],
)
def test_a_notifier_that_fails_is_a_warning_and_the_others_are_told(told, warnings, broken):
    hold(broken, wish(to="ben"))
    assert [to for to, _text in told] == ["ben"]
    assert "did not tell of 'hold'" in warnings.text


def test_a_notifier_that_never_returns_is_given_up(told, warnings, monkeypatch):
    monkeypatch.setattr(notify, "DEADLINE_SECONDS", 0.05)
    hold(wish("Hanging"))
    monkeypatch.setattr(notify, "DEADLINE_SECONDS", 30)
    hold(wish(to="ben"))
    assert [to for to, _text in told] == ["ben"]
    assert "Hanging did not tell of 'hold': TimeoutError: no answer within 0.05 seconds" in warnings.text


def test_a_failed_step_is_told_without_the_secrets_that_its_error_quotes(told, monkeypatch):
    monkeypatch.setattr("airflow.sdk.log.redact", lambda text: text.replace("s3cr3t", "***"))
    ctx = {**context(), "exception": ConnectionError("postgresql://ratchet:s3cr3t@db is away")}
    TellFailure("intents", [wish(to="anna", on=["failure"], text="{{ ratchet.text }}")])(ctx)
    assert "postgresql://ratchet:***@db is away" in told[0][1]


def test_a_failed_step_is_told_with_its_error(told):
    ctx = {**context(), "exception": ConnectionError("the server is away")}
    TellFailure("intents", [wish(to="anna", on=["failure"], text="{{ ratchet.text }}")])(ctx)
    [(_, text)] = told
    assert text.startswith("intents: approve failed\n- the server is away")


def test_a_worker_that_was_killed_is_told_of_as_well(told):
    TellFailure("intents", [wish(to="anna", on=["failure"], text="{{ ratchet.reasons[0] }}")])({"ti": context()["ti"]})
    assert told == [("anna", "its worker is gone, or somebody marked it as failed")]


def test_the_text_has_reasons_and_addresses(told, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example")
    asked = "http://airflow.example/required_actions"
    hold(wish(to="anna", text="{{ ratchet.text }}"), report_url="http://mlflow.example/1", answer_url=asked)
    assert told[0][1].splitlines() == [
        "intents: version 4 is held",
        f"- {REASON}",
        f"Answer: {asked}",
        "Report: http://mlflow.example/1",
        "Run: http://airflow.example/dags/intents/runs/manual__1",
    ]


def test_a_folder_of_specs_says_who_is_told(told, tmp_path):
    data = "data: {source: /d.csv, text: t, label: l}\n"
    notify = f"notify: [{{notifier: {HERE}.Remembering, arguments: {{to: anna}}, on: [rollback]}}]\n"
    (tmp_path / "intents.yaml").write_text(data + notify)
    for event in ("rollback", "promote"):
        tell(str(tmp_path), context(), event, "intents", "version 3 is champion again")
    assert told == [("anna", "rollback: intents: version 3 is champion again")]


@pytest.mark.parametrize("text", [None, "data: {}\n"])
def test_a_spec_that_cannot_be_read_tells_nobody_and_says_so(tmp_path, warnings, text):
    if text:
        (tmp_path / "intents.yaml").write_text(text)
    assert spec_in(str(tmp_path), "intents") is None
    tell(str(tmp_path), context(), "rollback", "intents", "version 3 is champion again")
    assert "Nobody is told about intents, since its spec cannot be read" in warnings.text


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (wish("Missing"), "cannot be imported"),
        ({**wish(), "notifier": "no.such.Module"}, "cannot be imported .*; install its provider, or correct its name"),
        (wish("NoNotifier"), "is no subclass of airflow.sdk.BaseNotifier"),
        ({**wish(), "notifier": "airflow.sdk.BaseNotifier"}, "is no subclass of airflow.sdk.BaseNotifier"),
        (wish("Abstract"), "tells nobody, since it has no method notify"),
        (wish(), "does not take these arguments: missing a required argument: 'to'"),
        (wish(to="anna", cc="ben"), "does not take these arguments: got an unexpected keyword argument 'cc'"),
    ],
)
def test_a_notifier_is_checked_before_it_is_needed(wrong, why):
    with pytest.raises(ValueError, match=why):
        check(wrong)


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("spoilt", "class Ours(:", r"cannot be imported \(SyntaxError: "),
        ("raising", "1 / 0", r"cannot be imported \(ZeroDivisionError: "),
        ("exiting", "raise SystemExit(3)", r"cannot be imported \(SystemExit: 3\)"),
        (
            "hanging",
            "import threading; threading.Event().wait()",
            r"cannot be imported \(no answer within 0.5 seconds\)",
        ),
    ],
)
def test_a_module_that_does_anything_but_import_is_told_as_a_mistake(tmp_path, monkeypatch, name, text, why):
    monkeypatch.setattr(notify, "DEADLINE_SECONDS", 0.5)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}_notifier.py").write_text(text)
    with pytest.raises(ValueError, match=why):
        check({**wish(), "notifier": f"{name}_notifier.Ours"})


def test_a_notifier_that_takes_its_arguments_is_right():
    check(wish(to="anna"))
    assert notifier_class(f"{HERE}.Remembering") is Remembering
