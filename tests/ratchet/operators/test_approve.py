"""A candidate that the gate leaves to a person waits for one, is asked about once, and passes only when approved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from airflow.providers.standard.operators import hitl
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    DownstreamTasksSkipped,
    TaskAwaitingInput,
)

from ratchet import settings
from ratchet.alias import barred
from ratchet.judged import require_promote
from ratchet.ledger import Ledger
from ratchet.operators.approve import ApproveOperator
from tests.ratchet.fakes import FakeRegistry, context
from training.store import Store

ASK = {
    "decision": "ask",
    "key": "k" * 64,
    "reasons": ["300 test rows do not tell"],
    "rules": [],
    "candidate": {"model": "models:/intents/4", "digest": "m4"},
    "champion": {"model": "models:/intents/3", "digest": "m3"},
    "raises_mark": False,
    "notes": [],
    "report_url": "http://mlflow.example/verdict.html",
}


class FakeAirflow:
    """What Airflow's REST API remembers of the questions of earlier attempts, and of the last one."""

    def __init__(self, *questions, last=None, error=None):
        self.questions, self.error, self.asked = {None: last, **dict(enumerate(questions, 1))}, error, []

    def question(self, dag_id, run_id, task_id, map_index, attempt):
        self.asked.append(attempt)
        if self.error:
            raise self.error
        return self.questions.get(attempt)


@pytest.fixture
def registry():
    return FakeRegistry("3", "4", champion="3", challenger="4")


@pytest.fixture
def questions(monkeypatch):
    """What Airflow was asked to ask a person."""
    asked = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **question: asked.append(question))
    return asked


@pytest.fixture
def step(places, registry):
    def make(verdict=ASK, airflow=None, **options):
        with DAG("intents"):
            operator = ApproveOperator(task_id="approve", verdict=verdict, **options)
            operator >> EmptyOperator(task_id="deploy") >> EmptyOperator(task_id="promote")
        operator.__dict__.update(registry=registry, airflow=airflow or FakeAirflow())
        return operator

    return make


def answered(option="Approve", user="anna", reason=None):
    """:return: the event that resumes the task."""
    return {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": datetime(2026, 11, 22, 8, tzinfo=UTC),
        "responded_by_user": user and {"id": user, "name": user},
        "timedout": user is None,
    }


def ledger():
    return Ledger(Store(settings.store_uri()), "intents")


def test_a_verdict_that_promotes_asks_nobody(step, questions):
    verdict = {**ASK, "decision": "promote"}
    assert step(verdict).execute(context()) == verdict
    assert questions == []
    assert ledger().records() == []


@pytest.mark.parametrize("verdict", [None, {**ASK, "decision": "hold"}, {**ASK, "decision": "maybe"}])
def test_what_the_gate_did_not_leave_to_a_person_is_refused(step, questions, verdict):
    with pytest.raises(AirflowFailException, match="Endpoint and champion stay as they are: the gate said"):
        step(verdict).execute(context())
    assert questions == []


def test_of_a_model_that_was_imported_the_person_is_told_from_where(step, questions, registry):
    registry.versions["4"].tags["ratchet.imported"] = "hub:acme/films@v1"
    with pytest.raises(TaskAwaitingInput):
        step().execute(context())
    assert "not trained here, but imported from `hub:acme/films@v1`." in questions[0]["body"]


def test_a_person_is_asked_with_a_deadline_and_the_run_waits_without_a_worker(step, questions, notes, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example/here/")
    ctx = context()
    operator = step(approvers=["anna", "ben"], metrics={"accuracy": 0.91}, champion_metrics={"accuracy": 0.9})
    with pytest.raises(TaskAwaitingInput) as waits:
        operator.execute(ctx)
    assert (waits.value.method_name, waits.value.timeout) == ("execute_complete", timedelta(hours=72))
    [asked] = questions
    assert (asked["subject"], asked["options"]) == ("intents: make version 4 the champion?", ["Approve", "Reject"])
    assert "| `accuracy` | 0.9100 | 0.9000 |" in asked["body"]
    assert asked["defaults"] == ["Reject"]
    assert asked["assigned_users"] == [{"id": "anna", "name": "anna"}, {"id": "ben", "name": "ben"}]
    assert list(asked["params"]) == ["reason"]
    told = ctx["ti"].xcoms["awaits"]
    assert told["by"] == ["anna", "ben"]
    url = "http://airflow.example/here/dags/intents/runs/manual__1/tasks/approve/required_actions"
    assert told["url"] == url
    assert ctx["ti"].xcoms["links"]["verdict"] == ASK["report_url"]
    assert notes[0].startswith("waits: anna or ben may approve it until 20")
    assert notes[0].endswith(f" UTC: {url}")


def test_without_an_address_of_its_own_airflow_is_not_linked(step, questions, notes):
    ctx = context()
    with pytest.raises(TaskAwaitingInput):
        step().execute(ctx)
    assert ctx["ti"].xcoms["awaits"]["url"] is None
    assert notes[0].startswith("waits: somebody may approve it until 20")
    assert notes[0].endswith(" UTC")


def test_a_question_to_somebody_who_is_no_user_says_so(step, questions, notes, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "anna:user, ben:op")
    with pytest.raises(TaskAwaitingInput):
        step(approvers=["anna", "bne"]).execute(context())
    assert notes[0].endswith(" UTC; Airflow has no user bne")
    with pytest.raises(TaskAwaitingInput):
        step(approvers=["anna", "ben"]).execute(context())
    assert notes[1].endswith(" UTC")


def test_an_approved_candidate_goes_on_with_who_and_when(step, registry):
    verdict = step().execute_complete(context(), answered(reason="the labels are right"))
    assert (verdict["decision"], verdict["candidate"]) == ("promote", ASK["candidate"])
    assert verdict["approved"] == {"who": "anna", "when": "2026-11-22T08:00:00+00:00", "why": "the labels are right"}
    assert verdict["reasons"] == ["approved by anna: the labels are right", "300 test rows do not tell"]
    require_promote(verdict, "models:/intents/4", "nothing")
    assert registry.tags["4"]["ratchet.verdict"] == "approved"
    assert registry.aliases["challenger"] == "4"


@pytest.mark.parametrize(
    ("event", "note", "why"),
    [
        (answered("Reject", reason="too slow"), "rejected: by anna: too slow", "rejected: too slow"),
        (
            answered("Reject", user=None),
            "rejected: nobody answered within 72 hours",
            "nobody answered within 72 hours",
        ),
    ],
)
def test_a_rejected_candidate_is_barred_and_everything_after_is_skipped(step, registry, notes, event, note, why):
    ctx = context(note="nightly")
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        step().execute_complete(ctx, event)
    assert sorted(skipped.value.tasks) == ["deploy", "promote"]
    verdict = ctx["ti"].xcoms["return_value"]
    assert (verdict["decision"], verdict["reasons"][0]) == ("hold", note)
    assert notes == [f"{note} (note: nightly)"]
    assert barred(ledger())["m4"]["why"] == why
    assert registry.tags["4"]["ratchet.verdict"] == "rejected"
    assert registry.aliases == {"champion": "3"}


def test_another_run_of_the_same_verdict_asks_nobody_again(step, questions):
    step().execute_complete(context(), answered())
    verdict = step().execute(context(run_id="manual__2"))
    assert verdict["approved"]["who"] == "anna"
    with pytest.raises(TaskAwaitingInput):
        step({**ASK, "key": "other"}).execute(context())
    assert len(questions) == 1


def test_a_rejection_is_repeated_by_another_run_of_the_same_verdict(step, questions, notes):
    with pytest.raises(DownstreamTasksSkipped):
        step().execute_complete(context(), answered("Reject"))
    with pytest.raises(DownstreamTasksSkipped):
        step().execute(context(run_id="manual__2"))
    assert questions == []
    assert notes == ["rejected: by anna"] * 2
    assert len(ledger().records("barred")) == 1


@pytest.mark.parametrize("option", ["Approve", "Reject"])
def test_an_attempt_that_died_between_ledger_and_registry_is_completed(step, registry, option):
    find, registry.find_version = registry.find_version, lambda reference: (_ for _ in ()).throw(ConnectionError())
    with pytest.raises(ConnectionError):
        step().execute_complete(context(), answered(option))
    registry.find_version = find
    if option == "Approve":
        assert step().execute(context())["decision"] == "promote"
    else:
        with pytest.raises(DownstreamTasksSkipped):
            step().execute(context())
    assert registry.tags["4"]["ratchet.verdict"] == {"Approve": "approved", "Reject": "rejected"}[option]
    assert ledger().last_number() == 1


GIVEN = {
    **answered(),
    "responded_at": "2026-11-22T08:00:00Z",
    "response_received": True,
    "body": f"Verdict `{ASK['key']}`",
}


def retried(attempt):
    ctx = context()
    ctx["ti"].try_number = attempt
    return ctx


def test_an_answer_to_an_attempt_that_died_before_the_ledger_is_found_in_airflow(step, questions):
    airflow = FakeAirflow(GIVEN, None)
    assert step(airflow=airflow).execute(retried(3))["approved"]["who"] == "anna"
    assert airflow.asked == [None, 2, 1]
    assert questions == []


def test_an_answer_in_the_moment_in_which_the_worker_left_is_not_wiped_out_by_asking_again(step, questions):
    assert step(airflow=FakeAirflow(last=GIVEN)).execute(retried(2))["approved"]["who"] == "anna"
    assert questions == []


def test_a_first_attempt_asks_without_looking_for_answers(step, questions):
    airflow = FakeAirflow(last=GIVEN)
    with pytest.raises(TaskAwaitingInput):
        step(airflow=airflow).execute(context())
    assert (len(questions), airflow.asked) == (1, [])


@pytest.mark.parametrize("changed", [{"response_received": False}, {"body": "Verdict `another`"}, {"body": None}])
def test_an_answer_to_another_verdict_is_none_to_this_one(step, questions, changed):
    given = {**GIVEN, **changed}
    with pytest.raises(TaskAwaitingInput):
        step(airflow=FakeAirflow(given)).execute(retried(2))
    assert len(questions) == 1


@pytest.mark.parametrize("error", [AirflowNotFoundException("no connection"), httpx.ConnectError("away")])
def test_where_airflow_cannot_be_asked_the_person_is_asked_again(step, questions, error):
    with pytest.raises(TaskAwaitingInput):
        step(airflow=FakeAirflow(error=error)).execute(retried(2))
    assert len(questions) == 1


@pytest.mark.parametrize(("first", "later"), [("Approve", "Reject"), ("Reject", "Approve")])
def test_of_two_answers_to_one_verdict_the_first_counts(step, registry, first, later):
    for option in (first, later):
        if first == "Approve":
            assert step().execute_complete(context(), answered(option))["decision"] == "promote"
        else:
            with pytest.raises(DownstreamTasksSkipped):
                step().execute_complete(context(), answered(option))
    assert registry.tags["4"]["ratchet.verdict"] == {"Approve": "approved", "Reject": "rejected"}[first]
    assert ledger().last_number() == 1


def test_a_candidate_in_no_registry_can_be_approved(step, registry):
    verdict = {**ASK, "candidate": {"model": "file:///models/4", "digest": "m4"}, "report_url": None}
    ctx = context()
    assert step(verdict).execute_complete(ctx, answered())["decision"] == "promote"
    assert registry.tags == {}
    assert "links" not in ctx["ti"].xcoms


def test_who_wants_to_know_is_told_where_to_answer(step, questions, told, anna, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example")
    with pytest.raises(TaskAwaitingInput):
        step(approvers=["anna"], notify=[anna]).execute(context())
    [(_, text)] = told
    lines = text.splitlines()
    assert lines[0] == "ask: intents: make version 4 the champion?"
    assert lines[1].startswith("- anna may approve it until ")
    run = "http://airflow.example/dags/intents/runs/manual__1"
    assert lines[2:] == [
        "- 300 test rows do not tell",
        f"Answer: {run}/tasks/approve/required_actions",
        f"Report: {ASK['report_url']}",
        f"Run: {run}",
    ]


def test_nobody_is_told_of_a_question_that_could_not_be_asked(step, told, anna, monkeypatch):
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **_: (_ for _ in ()).throw(ConnectionError()))
    with pytest.raises(ConnectionError):
        step(notify=[anna]).execute(context())
    assert told == []


def test_a_rejection_may_make_a_pipeline_stale(step, told, anna):
    with pytest.raises(DownstreamTasksSkipped):
        step(notify=[anna], stale_after_holds=1).execute_complete(context(), answered("Reject", user="ben"))
    assert [text.splitlines()[:2] for _, text in told][1] == [
        "stale: intents: nothing new is shipped",
        "- the last candidate was not promoted",
    ]


def test_who_wants_to_know_is_told_of_a_rejection(step, told, anna):
    with pytest.raises(DownstreamTasksSkipped):
        step(notify=[anna]).execute_complete(context(), answered("Reject", user="ben"))
    [(_, text)] = told
    assert text.splitlines()[:2] == ["hold: intents: version 4 is rejected", "- rejected: by ben"]
