"""The alias moves only to what the endpoint serves and the gate let through, and every move is on record."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.alias import barred, mark
from ratchet.ledger import Ledger
from ratchet.operators.promote import PromoteOperator
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry, context
from training.store import Store

OLD, NEW = "a" * 64, "b" * 64


def promote(
    registry,
    endpoints,
    *,
    decision="promote",
    version="2",
    champion="1",
    model_digest="m",
    ctx=None,
    notify=(),
    **verdict,
):
    operator = PromoteOperator(
        task_id="promote",
        candidate=f"models:/intents/{version}",
        verdict={
            "decision": decision,
            "reasons": ["macro F1 0.871 < 0.884"],
            "candidate": {"model": f"models:/intents/{version}", "digest": "m"},
            "champion": {"model": f"models:/intents/{champion}", "digest": "c"} if champion else None,
            **verdict,
        },
        deployment={"endpoint": "intents", "url": endpoints.url, "digest": NEW, "model_digest": model_digest},
        notify=notify,
        pipeline="intents",
    )
    operator.__dict__.update(registry=registry, endpoints=endpoints)
    return operator.execute(ctx or context())


def ledger():
    return Ledger(Store(settings.store_uri()), "intents")


def moves():
    return [(r["event"], r["from"], r["to"]) for r in ledger().records()]


FOUND = ("alias-by-hand", None, "1")  # a champion from before there was a ledger


def test_a_deployed_candidate_becomes_champion(notes):
    registry = FakeRegistry("1", "2", champion="1", challenger="2")
    made = promote(registry, FakeEndpoints(NEW))
    assert registry.aliases == {"champion": "2", "previous": "1"}
    assert registry.tags["2"] == {"ratchet.release": NEW, "ratchet.endpoint": "intents"}
    assert moves() == [FOUND, ("alias-intent", "1", "2"), ("alias-done", "1", "2")]
    assert (made["version"], made["previous"], made["hit"]) == ("2", "1", False)
    assert notes[-1].startswith("promoted: version 2 is champion after version 1")


def test_the_ledger_says_who_moved_the_alias_and_why():
    promote(FakeRegistry("1", "2", champion="1"), FakeEndpoints(NEW))
    done = ledger().last("alias-done")
    assert (done["kind"], done["verdict"], done["who"]) == ("promotion", "promote", "anna")
    assert (done["why"], done["run_id"]) == ("macro F1 0.871 < 0.884", "manual__1")
    assert (done["endpoint"], done["release"], done["model_digest"]) == ("intents", NEW, "m")
    assert done["raises_mark"] is False


def test_a_candidate_that_raises_the_mark_is_the_best_version_from_then_on():
    promote(FakeRegistry("1", "2", champion="1"), FakeEndpoints(NEW), raises_mark=True)
    assert mark(ledger()) == "2"


def test_who_wants_to_know_is_told_of_a_new_champion_and_not_of_the_same_one(told, anna):
    registry, endpoints = FakeRegistry("1", "2", champion="1"), FakeEndpoints(NEW)
    for run_id in ("manual__1", "manual__2"):
        promote(registry, endpoints, ctx=context(run_id), notify=[anna])
    [(_, text)] = told
    assert text.splitlines()[:2] == [
        "promote: intents: version 2 is champion after version 1",
        "- macro F1 0.871 < 0.884",
    ]


@pytest.mark.parametrize("decided", ["approved", "overridden"])
def test_the_runs_note_says_which_person_decided(notes, decided):
    registry, endpoints = FakeRegistry("1", "2", champion="1"), FakeEndpoints(NEW)
    promote(registry, endpoints, reasons=[f"{decided} by anna", "a rule"], **{decided: {"who": "anna"}})
    assert notes == [
        f"promoted: version 2 is champion after version 1 and serves at `{endpoints.url}` ({decided} by anna)"
    ]


def test_an_override_is_the_verdict_of_its_move_and_lifts_the_bar_of_its_weights():
    ledger().append("barred", model="intents", version="2", model_digest="m", who="ben", why="rejected", run_id="run_0")
    overridden = {"who": "anna", "why": "the customer waits", "decision": "hold"}
    reasons = ["overridden by anna: the customer waits; the gate said hold"]
    promote(
        FakeRegistry("1", "2", champion="1"),
        FakeEndpoints(NEW),
        reasons=reasons,
        overridden=overridden,
        raises_mark=True,
    )
    done = ledger().last("alias-done")
    assert (done["kind"], done["verdict"], done["why"]) == ("promotion", "override", reasons[0])
    assert barred(ledger()) == {}
    lifted = ledger().last("bar-lifted")
    assert (lifted["version"], lifted["who"], lifted["why"]) == ("2", "anna", reasons[0])
    assert mark(ledger()) == "2"


def test_a_promotion_by_the_rules_lifts_no_bar():
    ledger().append("barred", model="intents", version="9", model_digest="m", who="ben", why="rejected", run_id="run_0")
    promote(FakeRegistry("1", "2", champion="1"), FakeEndpoints(NEW))
    assert list(barred(ledger())) == ["m"]


def test_the_first_version_needs_no_champion():
    registry = FakeRegistry("1")
    promote(registry, FakeEndpoints(NEW), version="1", champion=None)
    assert registry.aliases == {"champion": "1"}
    assert moves() == [("alias-intent", None, "1"), ("alias-done", None, "1")]


def test_a_retry_moves_nothing_twice(notes):
    registry, endpoints = FakeRegistry("1", "2", champion="1"), FakeEndpoints(NEW)
    promote(registry, endpoints)
    again = promote(registry, endpoints, ctx=context(run_id="manual__2"))
    assert registry.moves == [("champion", "2"), ("previous", "1")]
    assert len(moves()) == 3
    assert again["hit"]
    assert notes[-1].startswith("unchanged: version 2 is champion already")


def test_a_run_reports_its_promotion_also_when_an_attempt_that_nobody_heard_of_made_it(notes):
    registry, endpoints = FakeRegistry("1", "2", champion="1"), FakeEndpoints(NEW)
    promote(registry, endpoints)
    retry = promote(registry, endpoints)
    assert registry.moves == [("champion", "2"), ("previous", "1")]
    assert len(moves()) == 3
    assert (retry["version"], retry["previous"], retry["hit"]) == ("2", "1", False)
    assert notes[-1].startswith("promoted: version 2 is champion after version 1")


def test_a_crash_after_the_move_is_completed_by_the_retry():
    registry = FakeRegistry("1", "2", champion="1")

    def crash():
        raise ConnectionError("MLflow went away")

    registry.after_set = crash
    with pytest.raises(ConnectionError):
        promote(registry, FakeEndpoints(NEW))
    assert moves() == [FOUND, ("alias-intent", "1", "2")]
    registry.after_set = lambda: None
    made = promote(registry, FakeEndpoints(NEW))
    assert registry.moves == [("champion", "2"), ("previous", "1")]
    assert moves() == [FOUND, ("alias-intent", "1", "2"), ("alias-done", "1", "2")]
    assert made["previous"] == "1"


def test_a_champion_that_somebody_moved_since_the_evaluation_stays_and_the_run_says_what_is_half_done(notes):
    registry = FakeRegistry("1", "2", "3", champion="3")
    with pytest.raises(AirflowFailException, match=r"champion was version 1 when .*, but the alias names 3"):
        promote(registry, FakeEndpoints(NEW))
    assert registry.aliases == {"champion": "3"}
    assert moves() == [("alias-by-hand", None, "3")]
    [note] = notes
    assert note.startswith("failed: The champion stays, although 'intents' serves the candidate already: ")


def test_a_move_by_hand_in_between_is_reported_not_overwritten():
    registry = FakeRegistry("1", "2", "3", champion="1")
    registry.after_set = lambda: registry.aliases.update(champion="3")
    with pytest.raises(AirflowFailException, match=r"the alias names 3 now\. Somebody moved it"):
        promote(registry, FakeEndpoints(NEW))
    assert registry.aliases == {"champion": "3"}
    assert moves() == [FOUND, ("alias-intent", "1", "2"), ("alias-by-hand", "2", "3")]


def test_an_endpoint_that_serves_something_else_keeps_the_alias_where_it_is():
    registry, endpoints = FakeRegistry("1", "2", champion="1"), FakeEndpoints(NEW)
    endpoints.answers_with = OLD
    with pytest.raises(RuntimeError, match=f"serves {OLD}"):
        promote(registry, endpoints)
    assert registry.aliases == {"champion": "1"}


@pytest.mark.parametrize("decision", ["hold", "ask", None, "Promote"])
def test_anything_but_promote_is_refused(decision):
    registry = FakeRegistry("1", "2", champion="1")
    with pytest.raises(AirflowFailException, match="The champion stays"):
        promote(registry, FakeEndpoints(NEW), decision=decision)
    assert registry.aliases == {"champion": "1"}


def test_a_version_that_was_not_the_one_judged_is_refused():
    registry = FakeRegistry("1", "2", "3", champion="1")
    operator = PromoteOperator(
        task_id="promote",
        candidate="models:/intents/3",
        verdict={"decision": "promote", "candidate": {"model": "models:/intents/2", "digest": "m"}},
        deployment={"endpoint": "intents", "url": FakeEndpoints.url, "digest": NEW, "model_digest": "m"},
        pipeline="intents",
    )
    operator.__dict__.update(registry=registry, endpoints=FakeEndpoints(NEW))
    with pytest.raises(AirflowFailException, match="about models:/intents/2, but models:/intents/3"):
        operator.execute(context())
    assert registry.aliases == {"champion": "1"}


def test_a_verdict_about_another_model_is_refused():
    registry = FakeRegistry("1", "2", champion="1")
    with pytest.raises(AirflowFailException, match="verdict is about model"):
        promote(registry, FakeEndpoints(NEW), model_digest="other")
    assert registry.aliases == {"champion": "1"}
