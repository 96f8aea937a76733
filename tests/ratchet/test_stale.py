"""A pipeline that is green and ships nothing is told of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ratchet.ledger import Ledger
from ratchet.stale import champion_days, holds_in_a_row, stale
from training.store import Store


class World:
    def __init__(self, root):
        self.now = datetime(2026, 11, 1, tzinfo=UTC)
        self.ledger = Ledger(Store(str(root)), "intents", lambda: self.now)

    def judged(self, *decisions):
        for decision in decisions:
            self.ledger.append("judged", decision=decision)

    def promoted(self):
        self.ledger.append("alias-done", to="4")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_holds_are_counted_since_a_candidate_last_passed(world):
    world.judged("hold", "hold")
    assert holds_in_a_row(world.ledger) == 2
    world.judged("promote", "hold")
    assert holds_in_a_row(world.ledger) == 1


def test_holds_are_counted_since_the_champion_last_changed(world):
    world.judged("hold", "hold")
    world.promoted()
    world.judged("hold")
    assert holds_in_a_row(world.ledger) == 1


def test_a_rejection_counts_and_what_is_still_asked_does_not(world):
    world.judged("hold", "ask")
    world.ledger.append("barred", model_digest="m", answer={"approved": False})
    world.ledger.append("barred", model_digest="m")  # by a rollback
    world.judged("ask")
    assert holds_in_a_row(world.ledger) == 2


def test_a_candidate_that_is_held_night_after_night_is_one(world):
    for _night in range(5):
        world.ledger.append("judged", decision="hold", version="4", model_digest="m4")
    world.ledger.append("barred", model_digest="m4", answer={"approved": False})
    assert holds_in_a_row(world.ledger) == 1
    world.ledger.append("judged", decision="hold", version="5", model_digest="m5")
    assert holds_in_a_row(world.ledger) == 2


def test_holds_without_a_candidate_are_each_one(world):
    for _night in range(2):
        world.ledger.append("judged", decision="hold", version=None, model_digest=None)
    assert holds_in_a_row(world.ledger) == 2


def test_enough_holds_in_a_row_are_stale(world):
    world.judged("hold", "hold")
    assert list(stale(world.ledger, 3, None)) == []
    world.judged("hold")
    assert list(stale(world.ledger, 3, None)) == ["3 candidates in a row were held or rejected"]
    assert list(stale(world.ledger, None, None)) == []


def test_an_old_champion_is_stale(world):
    assert champion_days(world.ledger) is None
    assert list(stale(world.ledger, None, 30)) == []
    world.promoted()
    world.now += timedelta(days=29)
    assert list(stale(world.ledger, None, 30)) == []
    world.now += timedelta(days=2)
    assert list(stale(world.ledger, None, 30)) == ["the champion is 31 days old"]
