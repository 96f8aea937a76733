"""What the stage is asked: versions with their reports, and what was champion before the oldest of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ratchet.hooks.model_registry import ListedVersion
from ratchet.ledger import ALIAS_BY_HAND, ALIAS_DONE, BARRED, Ledger
from ratchet.replay import replay_request
from training.store import Store


def day(number):
    return datetime(2026, 11, number, 8, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(Store(str(tmp_path / "store")), "intents", now=lambda: made.today)
    return made


def moved(ledger, on, to, event=ALIAS_DONE, **facts):
    ledger.today = day(on)
    ledger.append(event, **{"from": None, "to": to, **facts})


def versions(count):
    """:return: newest first; each was made on the day of its number."""
    tags = {n: {"ratchet.model_digest": f"m{n}", "ratchet.report": f"file:///r{n}"} for n in range(1, count + 1)}
    return [ListedVersion("intents", str(n), f"run{n}", tags[n], (), day(n)) for n in range(count, 0, -1)]


def test_every_version_is_judged_oldest_first_and_what_became_of_it_is_told(ledger):
    moved(ledger, 2, "1", raises_mark=True)
    request = replay_request(versions(3), ledger, {"better": True}, last=10)
    assert request.versions == [
        {"version": "1", "digest": "m1", "report": "file:///r1", "promoted": True},
        {"version": "2", "digest": "m2", "report": "file:///r2", "promoted": False},
        {"version": "3", "digest": "m3", "report": "file:///r3", "promoted": False},
    ]
    assert (request.rules, request.champion, request.best) == ({"better": True}, None, None)


def test_the_last_ones_begin_with_the_champion_and_the_mark_of_their_time(ledger):
    moved(ledger, 2, "1", raises_mark=True)
    moved(ledger, 3, "2", raises_mark=False)
    moved(ledger, 5, "4", raises_mark=True)  # after the oldest that is judged was made
    request = replay_request(versions(4), ledger, {}, last=1)
    assert [one["version"] for one in request.versions] == ["4"]
    assert (request.champion["version"], request.best["version"]) == ("2", "1")


def test_weights_that_were_barred_by_then_are_no_mark(ledger):
    moved(ledger, 2, "1", raises_mark=True, model_digest="m1")
    moved(ledger, 3, "2", raises_mark=True, model_digest="m2")
    moved(ledger, 4, "2", BARRED, model_digest="m2")
    moved(ledger, 7, "1", BARRED, model_digest="m1")
    assert replay_request(versions(6), ledger, {}, last=1).best["version"] == "1"
    assert replay_request(versions(6), ledger, {}, last=3).best["version"] == "2"


def test_a_champion_by_hand_counts_and_one_that_mlflow_lost_is_known_by_its_weights(ledger):
    moved(ledger, 1, "1", raises_mark=True)
    moved(ledger, 2, "7", model_digest="m7")
    assert replay_request(versions(3), ledger, {}, last=1).champion == {"version": "7", "digest": "m7"}
    moved(ledger, 2, "2", ALIAS_BY_HAND)
    assert replay_request(versions(3), ledger, {}, last=1).champion["report"] == "file:///r2"
    moved(ledger, 2, None, ALIAS_BY_HAND)
    assert replay_request(versions(3), ledger, {}, last=1).champion is None
