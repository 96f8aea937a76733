"""What a person answered is on record, by the verdict that it was given to."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ratchet.alias import barred
from ratchet.approval import Answer, answer_of, known_answer, remember, unknown_users
from ratchet.ledger import Ledger
from training.store import Store

VERDICT = {"key": "k1", "candidate": {"model": "models:/intents/4", "digest": "m4"}}
WHEN = "2026-11-22T08:00:00+00:00"
YES = Answer(approved=True, who="anna", when=WHEN, why="the new labels are right")
NO = Answer(approved=False, who="anna", when=WHEN, why=None)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(Store(str(tmp_path)), "intents")


def request(option="Approve", user="anna", reason=None, at=WHEN):
    return {
        "chosen_options": [option],
        "responded_by_user": user and {"id": "7", "name": user},
        "responded_at": at,
        "params_input": {"reason": reason},
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (request(reason=" it is better \n"), "approved by anna: it is better"),
        (request(reason="  "), "approved by anna"),
        (request(reason="two\nlines" + "!" * 999), "approved by anna: two lines" + "!" * 491),
        (request(reason=["no", "text"]), "approved by anna"),
        (request("Reject", reason="too many neutrals"), "rejected: by anna: too many neutrals"),
        (request("Reject"), "rejected: by anna"),
        (request("Reject", user=None), "rejected: nobody answered within 72 hours"),
    ],
)
def test_an_answer_is_told_with_who_and_why(given, told):
    assert answer_of(given, "Approve", "72 hours").told == told


def test_anything_but_the_one_option_rejects():
    for options in ([], ["Reject", "Approve"], ["approve"]):
        assert not answer_of({**request(), "chosen_options": options}, "Approve", "72 hours").approved


def test_the_time_of_an_answer_is_the_same_from_the_event_and_from_the_api():
    moment = datetime(2026, 11, 22, 8, tzinfo=UTC)
    for at in (moment, "2026-11-22T08:00:00Z", WHEN):
        assert answer_of(request(at=at), "Approve", "72 hours").when == WHEN


@pytest.mark.parametrize("answer", [YES, NO])
def test_an_answer_is_found_again_by_its_verdict_alone(ledger, answer):
    assert known_answer(ledger, VERDICT) is None
    for _attempt in range(2):
        remember(ledger, VERDICT, answer, "run_1")
    assert known_answer(ledger, VERDICT) == answer
    assert known_answer(ledger, {**VERDICT, "key": "k2"}) is None
    assert ledger.last_number() == 1


def test_an_approval_says_who_let_which_weights_through(ledger):
    remember(ledger, VERDICT, YES, "run_1")
    [record] = ledger.records("approved")
    assert (record["model"], record["version"], record["model_digest"]) == ("intents", "4", "m4")
    assert (record["verdict"], record["run_id"]) == ("k1", "run_1")
    assert (record["who"], record["why"]) == ("anna", "the new labels are right")
    assert barred(ledger) == {}


@pytest.mark.parametrize(
    ("answer", "who", "why"),
    [
        (NO, "anna", "rejected"),
        (Answer(approved=False, who="anna", when=WHEN, why="too slow"), "anna", "rejected: too slow"),
        (answer_of(request("Reject", user=None), "Approve", "1 hour"), "the deadline", "nobody answered within 1 hour"),
    ],
)
def test_weights_that_were_rejected_are_barred(ledger, answer, who, why):
    remember(ledger, VERDICT, answer, "run_1")
    assert (barred(ledger)["m4"]["who"], barred(ledger)["m4"]["why"]) == (who, why)


def test_a_candidate_in_no_registry_is_named_by_its_uri(ledger):
    remember(ledger, {"key": "k", "candidate": {"model": "file:///models/4", "digest": "m4"}}, YES, "run_1")
    [record] = ledger.records()
    assert (record["model"], record["version"]) == ("file:///models/4", None)


@pytest.mark.parametrize(
    ("users", "more"),
    [
        ("admin:admin", {}),  # the default, which a worker has that knows nothing of the API server's users
        ("anna:user", {"SIMPLE_AUTH_MANAGER_ALL_ADMINS": "true"}),
        ("anna:user", {"AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"}),
    ],
)
def test_where_nobody_can_tell_who_the_users_are_none_is_said_to_be_missing(monkeypatch, users, more):
    for name, value in {"SIMPLE_AUTH_MANAGER_USERS": users, **more}.items():
        monkeypatch.setenv(f"AIRFLOW__CORE__{name}", value)
    assert unknown_users(["ben"]) == []
