"""Where alias, endpoint and ledger disagree it is told, and what comes back is what the gate let through and served."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ratchet.alias import PROMOTION, ROLLBACK, ChampionAlias, barred, mark
from ratchet.ledger import BAR_LIFTED, Ledger
from ratchet.reconcile import Reconciler
from tests.ratchet.fakes import FakeEndpoints, FakeRegistry, promotion
from training.store import Store


class Killed(BaseException):
    """The worker is gone."""


class World:
    """Versions 1 and 2 were champion one after the other; 2 serves. Release and weights of N are called rN and mrN."""

    def __init__(self, root):
        self.root, self.time = root, datetime(2026, 11, 1, tzinfo=UTC)
        self.registry, self.endpoints = FakeRegistry("1", "2", "3"), FakeEndpoints("r2")
        for version, one in self.registry.versions.items():
            one.tags.update({"ratchet.model_digest": f"mr{version}"})
        self.promote("1", None)
        self.promote("2", "1")

    @property
    def ledger(self):
        return Ledger(Store(str(self.root / "store")), "intents", lambda: self.time)

    @property
    def locks(self):
        return self.root / "locks"

    def promote(self, to, expected, kind=PROMOTION, run="run_1"):
        facts = promotion(
            kind=kind,
            verdict="promote" if kind == PROMOTION else None,
            run_id=run,
            endpoint="desk",
            release=f"r{to}",
            model_digest=f"mr{to}",
            raises_mark=kind == PROMOTION,
        )
        alias = ChampionAlias(self.registry, self.ledger, "intents", self.locks)
        alias.move(self.registry.versions[to], expected, facts, lambda: None)

    def kill_while(self, to, expected, method, **options):
        real = getattr(self.registry, method)

        def kill(*given):
            setattr(self.registry, method, real)
            raise Killed

        setattr(self.registry, method, kill)
        with pytest.raises(Killed):
            self.promote(to, expected, run="killed", **options)
        self.time += timedelta(minutes=2)

    @property
    def reconciler(self):
        return Reconciler(self.registry, self.endpoints, self.ledger, self.locks, who="berta", log=lambda line: None)

    def differences(self):
        return [one.told for one in self.reconciler.differences()]

    def mend(self):
        done, left = self.reconciler.mend()
        assert left == []
        assert self.differences() == []
        return done

    @property
    def champion(self):
        return self.registry.aliases.get("champion"), self.endpoints.digest


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def repairs(world):
    return [(record["who"], record["found"]) for record in world.ledger.records("repaired")]


def test_a_pipeline_whose_parts_agree_has_no_differences(world):
    before = world.ledger.records()
    assert world.differences() == []
    assert world.mend() == []
    assert world.ledger.records() == before


def test_looking_changes_nothing(world):
    world.registry.aliases["champion"] = "3"
    before = world.ledger.records(), dict(world.registry.aliases)
    assert world.differences()
    assert (world.ledger.records(), world.registry.aliases) == before


def test_an_alias_moved_by_hand_goes_back_to_what_serves(world):
    world.registry.aliases["champion"] = "3"
    [told] = world.differences()
    assert told == (
        "The alias names version 3, which somebody set by hand; version 2 was champion and serves on 'desk'."
    )
    world.mend()
    assert world.champion == ("2", "r2")
    assert world.registry.aliases["previous"] == "1"
    done = world.ledger.last("alias-done")
    assert (done["kind"], done["from"], done["to"], done["who"]) == ("repair", "3", "2", "berta")
    assert repairs(world) == [("berta", told)]
    assert barred(world.ledger) == {}


def test_an_alias_that_was_taken_away_is_set_again(world):
    del world.registry.aliases["champion"]
    assert "The alias names no version" in world.differences()[0]
    world.mend()
    assert world.champion == ("2", "r2")


def test_an_endpoint_that_serves_something_else_gets_the_champion_back(world):
    """As after a run that was killed between endpoint and alias."""
    world.endpoints.digest = "r3"
    assert world.differences() == ["The endpoint 'desk' serves another model (mr3), but champion is version 2."]
    world.mend()
    assert world.champion == ("2", "r2")
    [(_name, release, digest)] = world.endpoints.deployments
    assert (release.rpartition("/releases/")[2], digest) == ("r2", "r2")


def test_the_endpoint_itself_is_asked_and_not_its_host(world):
    world.endpoints.answers_with = "r1"
    assert world.differences() == ["The endpoint 'desk' serves version 1, but champion is version 2."]


def test_an_endpoint_that_is_gone_is_made_anew(world):
    world.endpoints.digest = None
    assert world.differences() == ["The endpoint 'desk' serves nothing, but champion is version 2."]
    world.mend()
    assert world.champion == ("2", "r2")


def test_what_somebody_made_champion_and_deployed_by_hand_stays_and_is_written_down(world):
    world.registry.aliases["champion"], world.endpoints.digest = "3", "r3"
    assert world.differences() == [
        "Version 3 was made champion by hand, and it serves on 'desk'; the ledger has version 2."
    ]
    world.mend()
    assert world.champion == ("3", "r3")
    assert world.registry.aliases["previous"] == "2"
    assert world.ledger.last("alias-done")["to"] == "3"
    assert mark(world.ledger) == "2"  # no gate compared it


def test_where_all_three_differ_what_the_ledger_has_comes_back(world):
    world.registry.aliases["champion"], world.endpoints.digest = "3", "r1"
    assert len(world.mend()) == 2
    assert world.champion == ("2", "r2")


@pytest.mark.parametrize("step", ["tag_version", "end_challenge"])
def test_a_run_killed_between_alias_and_record_is_finished(world, step):
    world.endpoints.digest = "r3"
    world.kill_while("3", "2", step)
    assert world.differences() == [
        "Run killed was to move the champion from version 2 to 3; it did, and was killed before it said so."
    ]
    world.mend()
    assert world.champion == ("3", "r3")
    assert world.registry.aliases["previous"] == "2"


def test_a_run_killed_between_intent_and_alias_is_finished_if_its_version_serves(world):
    world.endpoints.digest = "r3"
    world.kill_while("3", "2", "set_alias")
    [told] = world.differences()
    assert "the endpoint 'desk' serves it, and the run was killed before" in told
    done, _left = world.reconciler.mend()
    assert done
    assert world.champion == ("3", "r3")
    assert world.ledger.last("alias-done")["why"] == "because"


def test_an_intent_that_came_to_nothing_is_dropped(world):
    world.kill_while("3", "2", "set_alias")
    [told] = world.differences()
    assert "and did not: it was killed, and the alias names version 2." in told
    world.mend()
    assert world.champion == ("2", "r2")
    assert world.ledger.last("alias-dropped")["to"] == "3"


def test_a_move_that_is_under_way_is_no_difference(world):
    world.kill_while("3", "2", "set_alias")
    world.time -= timedelta(minutes=2)
    assert world.differences() == []


def begin_rollback(world):
    facts = {"model": "intents", "from": "2", "to": "1", "who": "anna", "why": "it answers nonsense"}
    world.ledger.append("rollback-begun", dag_id="ratchet_rollback", run_id="back", **facts)
    world.time += timedelta(minutes=5)


def test_a_rollback_killed_between_endpoint_and_alias_is_finished_and_bars(world):
    begin_rollback(world)
    world.endpoints.digest = "r1"
    [told] = world.differences()
    assert told.startswith("The rollback from version 2 to 1 that anna began (it answers nonsense) was broken off")
    world.mend()
    assert world.champion == ("1", "r1")
    assert barred(world.ledger)["mr2"]["why"] == "it answers nonsense"
    assert world.ledger.last("alias-done")["who"] == "anna"


def test_a_rollback_that_never_reached_the_endpoint_differs_in_nothing(world):
    begin_rollback(world)
    assert world.differences() == []


def test_after_a_rollback_everything_agrees(world):
    world.endpoints.digest = "r1"
    world.promote("1", "2", kind=ROLLBACK)
    assert world.differences() == []


def test_missing_tags_and_the_alias_of_the_champion_before_are_put_right(world):
    del world.registry.versions["2"].tags["ratchet.release"]
    world.registry.aliases["previous"] = "3"
    assert len(world.differences()) == 2
    world.mend()
    assert world.registry.versions["2"].tags["ratchet.release"] == "r2"
    assert world.registry.aliases["previous"] == "1"


def test_a_champion_that_was_deleted_is_told_and_left_to_a_person(world):
    del world.registry.versions["2"]
    [told] = world.differences()
    assert "Version 2 of intents, which was made champion on 2026-11-01, is not in MLflow any more" in told
    done, left = world.reconciler.mend()
    assert (done, [one.told for one in left]) == ([], [told])


def test_a_mark_that_was_deleted_is_one_no_more_once_somebody_says_so(world):
    world.promote("1", "2", kind=ROLLBACK, run="back")
    world.endpoints.digest = "r1"
    assert mark(world.ledger) == "1"
    world.ledger.append(BAR_LIFTED, model="intents", version="2", model_digest="mr2", who="anna", why="", run_id="x")
    assert mark(world.ledger) == "2"
    del world.registry.versions["2"]
    [told] = world.differences()
    assert "Version 2 of intents, the best ever promoted, is not in MLflow any more" in told
    world.mend()
    assert mark(world.ledger) == "1"
    assert barred(world.ledger)["mr2"]["who"] == "berta"


def test_a_pipeline_that_promoted_nothing_has_no_differences(tmp_path):
    ledger = Ledger(Store(str(tmp_path)), "new")
    ledger.append("ingested", digest="s")
    reconciler = Reconciler(FakeRegistry(), FakeEndpoints(), ledger, tmp_path, who="berta", log=print)
    assert reconciler.differences() == []
