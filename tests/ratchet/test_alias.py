"""Whatever crashes, races or is done by hand in the middle of a move: no move is lost, none is made over another."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from ratchet.alias import OVERRIDE, PROMOTION, ROLLBACK, AliasBusy, AliasMoved, ChampionAlias, Move, barred
from ratchet.ledger import INGESTED, Ledger
from tests.ratchet.fakes import FakeRegistry, promotion
from training.store import Store


class Killed(BaseException):
    """The worker is gone, whatever it was about to catch."""


class Clock:
    def __init__(self):
        self.now = datetime(2026, 11, 1, tzinfo=UTC)

    def __call__(self):
        return self.now

    def later(self, **duration):
        self.now += timedelta(**duration)


class World:
    def __init__(self, root, *versions, champion=None):
        self.root, self.clock = root, Clock()
        self.store = Store(str(root / "store"))
        self.registry = FakeRegistry(*versions)
        if champion:
            self.move(champion, None)

    @property
    def ledger(self):
        return Ledger(self.store, "intents", self.clock)

    def alias(self, ledger=None, machine="a"):
        return ChampionAlias(self.registry, ledger or self.ledger, "intents", self.root / machine)

    def move(self, to, expected, *, run="run_1", kind=PROMOTION, alias=None, check=lambda: None):
        version = self.registry.versions[to]
        why = promotion(
            kind=kind,
            verdict="promote" if kind == PROMOTION else None,
            run_id=run,
            endpoint="intents",
            release=f"r{to}",
            model_digest=f"m{to}",
        )
        return (alias or self.alias()).move(version, expected, why, check)

    @property
    def moves(self):
        return [(r["event"], r["from"], r["to"]) for r in self.ledger.records() if r["event"].startswith("alias-")]

    def kill_at(self, method):
        """Have the next call of the registry's ``method`` be the last thing that this worker does."""
        real = getattr(self.registry, method)

        def kill(*given):
            setattr(self.registry, method, real)
            raise Killed

        setattr(self.registry, method, kill)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, "1", "2", "3", "4", champion="1")


DONE = [("alias-intent", None, "1"), ("alias-done", None, "1")]


def test_a_crash_between_intent_and_alias_is_repeated_by_the_retry(world):
    world.kill_at("set_alias")
    with pytest.raises(Killed):
        world.move("2", "1")
    assert world.registry.aliases["champion"] == "1"
    world.move("2", "1")
    assert world.registry.aliases == {"champion": "2", "previous": "1"}
    assert world.moves == [
        *DONE,
        ("alias-intent", "1", "2"),
        ("alias-dropped", "1", "2"),
        ("alias-intent", "1", "2"),
        ("alias-done", "1", "2"),
    ]


@pytest.mark.parametrize("step", ["tag_version", "end_challenge"])
def test_a_crash_between_alias_and_record_is_finished_by_the_retry(world, step):
    world.kill_at(step)
    with pytest.raises(Killed):
        world.move("2", "1")
    moved = world.move("2", "1")
    assert (moved.previous, moved.by_this_run) == ("1", True)
    assert world.registry.aliases == {"champion": "2", "previous": "1"}
    assert world.moves == [*DONE, ("alias-intent", "1", "2"), ("alias-done", "1", "2")]


def test_a_move_that_nobody_retries_is_finished_by_the_next_one(world):
    world.kill_at("tag_version")
    with pytest.raises(Killed):
        world.move("2", "1")
    world.clock.later(minutes=2)
    world.move("3", "2", run="run_2")
    assert world.registry.aliases == {"champion": "3", "previous": "2"}
    assert world.registry.tags["2"]["ratchet.release"] == "r2"
    assert world.moves[2:] == [
        ("alias-intent", "1", "2"),
        ("alias-done", "1", "2"),
        ("alias-intent", "2", "3"),
        ("alias-done", "2", "3"),
    ]


def test_a_move_that_never_began_is_dropped_by_the_next_one(world):
    world.kill_at("set_alias")
    with pytest.raises(Killed):
        world.move("2", "1")
    world.clock.later(minutes=2)
    world.move("3", "1", run="run_2")
    assert world.moves[2:4] == [("alias-intent", "1", "2"), ("alias-dropped", "1", "2")]
    assert world.registry.aliases == {"champion": "3", "previous": "1"}


def test_what_does_not_serve_moves_nothing(world):
    def check():
        raise RuntimeError("it serves something else")

    with pytest.raises(RuntimeError, match="something else"):
        world.move("2", "1", check=check)
    assert world.moves == DONE
    assert world.registry.aliases == {"champion": "1"}


def test_of_two_runs_at_once_one_moves_and_the_other_is_refused(world):
    """Both judged their candidates against version 1."""
    outcomes = []

    def run(to):
        try:
            outcomes.append(world.move(to, "1", run=f"run_{to}", alias=world.alias()).previous)
        except AliasMoved as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=[to]) for to in ("2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [refused] = [outcome for outcome in outcomes if isinstance(outcome, AliasMoved)]
    assert refused.found == world.registry.aliases["champion"]
    assert [outcome for outcome in outcomes if outcome is not refused] == ["1"]
    assert [event for event, *_ in world.moves[2:]] == ["alias-intent", "alias-done"]


def test_a_run_on_another_machine_waits_for_a_move_that_has_begun(world):
    elsewhere, refused = world.alias(machine="b"), []

    def meanwhile():
        with pytest.raises(AliasBusy) as busy:
            world.move("3", "1", run="run_2", alias=elsewhere)
        refused.append(busy)

    world.registry.after_set = meanwhile
    world.move("2", "1")
    assert refused
    assert world.registry.aliases["champion"] == "2"
    assert world.moves[2:] == [("alias-intent", "1", "2"), ("alias-done", "1", "2")]


def test_of_two_machines_that_look_at_once_one_moves(world):
    """The other writes its intent after we looked and before we wrote ours."""
    ours = world.ledger
    append, begun = ours.append, []

    def append_late(event, **values):
        if event == "alias-intent" and not begun:
            begun.append(world.move("3", "1", run="run_2", alias=world.alias(machine="b")))
        return append(event, **values)

    ours.append = append_late
    with pytest.raises(AliasBusy, match="Nothing was moved"):
        world.move("2", "1", alias=world.alias(ours))
    assert world.registry.aliases["champion"] == "3"
    with pytest.raises(AliasMoved) as refused:
        world.move("2", "1")
    assert refused.value.found == "3"


def test_a_move_by_hand_before_ours_is_written_down_and_stays(world):
    world.registry.aliases["champion"] = "3"
    with pytest.raises(AliasMoved) as refused:
        world.move("2", "1")
    assert refused.value.found == "3"
    assert world.registry.aliases["champion"] == "3"
    with pytest.raises(AliasMoved):
        world.move("2", "1")
    assert world.moves == [*DONE, ("alias-by-hand", "1", "3")]


@pytest.mark.parametrize("kind", [PROMOTION, ROLLBACK])
def test_a_move_by_hand_to_where_ours_goes_is_made_ours_with_all_that_follows(world, kind):
    world.ledger.append("barred", version="2", model_digest="m2")
    world.registry.aliases["champion"] = "2"
    version = world.registry.versions["2"]
    verdict = OVERRIDE if kind == PROMOTION else None
    why = promotion(kind=kind, verdict=verdict, run_id="run_1", endpoint="intents", release="r2", model_digest="m2")
    for _attempt in range(2):
        moved = world.alias().move(version, "1", why, lambda: None)
        assert (moved.previous, moved.by_this_run) == ("1", True)
    assert world.moves == [*DONE, ("alias-by-hand", "1", "2"), ("alias-intent", "1", "2"), ("alias-done", "1", "2")]
    assert "m2" not in barred(world.ledger)
    assert ("m1" in barred(world.ledger)) == (kind == ROLLBACK)


def test_a_champion_that_was_made_by_hand_before_the_verdict_is_left_as_it_is(world):
    world.registry.aliases["champion"] = "2"
    assert not world.move("2", "2").by_this_run
    assert world.moves == [*DONE, ("alias-by-hand", "1", "2")]


def test_a_move_by_hand_behind_ours_is_written_down_and_stays(world):
    world.registry.after_set = lambda: world.registry.aliases.update(champion="3")
    with pytest.raises(AliasMoved) as refused:
        world.move("2", "1")
    assert refused.value.found == "3"
    assert world.registry.aliases["champion"] == "3"
    assert world.moves == [*DONE, ("alias-intent", "1", "2"), ("alias-by-hand", "2", "3")]


def test_a_move_by_hand_after_a_crash_is_not_taken_for_ours(world):
    world.kill_at("tag_version")
    with pytest.raises(Killed):
        world.move("2", "1")
    world.registry.aliases["champion"] = "3"
    with pytest.raises(AliasMoved):
        world.move("2", "1")
    assert world.moves[2:] == [
        ("alias-intent", "1", "2"),
        ("alias-dropped", "1", "2"),
        ("alias-by-hand", "1", "3"),
    ]


def test_an_alias_that_somebody_took_away_is_written_down(world):
    del world.registry.aliases["champion"]
    with pytest.raises(AliasMoved) as refused:
        world.move("2", "1")
    assert refused.value.found is None
    assert world.moves[2:] == [("alias-by-hand", "1", None)]


# rollbacks


def test_a_rollback_bars_what_it_leaves_and_names_the_champion_before(world):
    world.move("2", "1")
    world.move("3", "2")
    world.move("2", "3", kind=ROLLBACK, run="run_back")
    assert world.registry.aliases == {"champion": "2", "previous": "1"}
    [bar] = barred(world.ledger).values()
    assert (bar["version"], bar["model_digest"], bar["why"], bar["who"]) == ("3", "m3", "because", "anna")


def test_there_is_no_previous_before_the_first(world):
    world.move("2", "1")
    world.move("1", "2", kind=ROLLBACK)
    assert world.registry.aliases == {"champion": "1"}


def test_a_promotion_after_a_rollback_follows_what_was_live(world):
    world.move("2", "1")
    world.move("1", "2", kind=ROLLBACK)
    world.move("3", "1")
    assert world.registry.aliases == {"champion": "3", "previous": "1"}


def test_a_rollback_that_was_killed_still_bars(world):
    world.move("2", "1")
    world.kill_at("tag_version")
    with pytest.raises(Killed):
        world.move("1", "2", kind=ROLLBACK, run="run_back")
    assert barred(world.ledger) == {}
    world.move("1", "2", kind=ROLLBACK, run="run_back")
    assert list(barred(world.ledger)) == ["m2"]
    assert len([record for record in world.ledger.records() if record["event"] == "barred"]) == 1


def test_who_returns_to_a_barred_version_lifts_its_bar(world):
    world.move("2", "1")
    world.move("1", "2", kind=ROLLBACK)
    world.move("2", "1", kind=ROLLBACK)
    assert list(barred(world.ledger)) == ["m1"]
    assert world.registry.aliases == {"champion": "2", "previous": "1"}


def test_the_same_weights_under_another_number_are_not_barred_with_themselves(world):
    twin = Move(
        kind=ROLLBACK,
        verdict=None,
        who="anna",
        why="because",
        dag_id="intents",
        run_id="run_back",
        endpoint="intents",
        release="r2",
        model_digest="m1",
    )
    world.alias().move(world.registry.versions["2"], "1", twin, lambda: None)
    assert barred(world.ledger) == {}


def test_other_records_do_not_stop_a_move(world):
    world.ledger.append(INGESTED, snapshot="s")
    world.move("2", "1")
    assert world.registry.aliases["champion"] == "2"
