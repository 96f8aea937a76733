"""The trigger asks for one run per burst, never on half of one, however often it is killed on the way."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ratchet import settings
from ratchet.ledger import INGESTED, Ledger
from ratchet.triggers import new_data
from ratchet.triggers.new_data import NewDataTrigger
from tests.ratchet.surveys import FolderSurvey, take_in
from tests.servers import training_python
from training.contract import BadInput
from training.store import Store

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Killed(BaseException):
    """The process of the trigger is gone, with no chance to do anything about it."""


class World:
    """A folder, a store and a clock that moves while the trigger sleeps; what is to happen happens at its time."""

    def __init__(self, root: Path) -> None:
        self.folder, self.now = root / "data", BEGIN
        self.folder.mkdir()
        self.store = Store(str(root / "store"))
        self.to_come: list[tuple[datetime, object]] = []
        self.events: list[tuple[timedelta, dict]] = []
        self.sleeps: list[timedelta] = []
        self.run_takes: timedelta | None = MINUTE  # from an event until the run has read; None: the run is lost

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.store, "films", lambda: self.now)

    def write(self, name: str, rows: int = 1) -> None:
        path = self.folder / name
        path.write_text("".join(f"{name} {row} {self.now}\n" for row in range(rows)))
        os.utime(path, (self.now.timestamp(), self.now.timestamp()))

    def take_in(self, run: str = "run") -> None:
        watermark = take_in(self.folder, self.store)
        self.ledger.append(INGESTED, watermark=watermark, snapshot="file:///s", run_id=run, quarantined=None)

    def at(self, after: timedelta, action) -> None:
        self.to_come.append((BEGIN + after, action))

    def pass_by(self, pause: timedelta) -> None:
        end = self.now + pause
        self.sleeps.append(pause)
        while due := [one for one in self.to_come if one[0] <= end]:
            first = min(due, key=lambda one: one[0])
            self.to_come.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = end

    def trigger(self, **options) -> NewDataTrigger:
        values = {"min_rows": 1, "quiet_minutes": 5, "poll_seconds": 30, **options}
        reading = {"source": str(self.folder), "text": "text", "label": "label"}
        return self.watched(NewDataTrigger(pipeline="films", reading=reading, store=self.store.root, **values))

    def watched(self, trigger: NewDataTrigger) -> NewDataTrigger:
        async def sleep(pause: timedelta) -> None:
            self.pass_by(pause)
            await asyncio.sleep(0)

        trigger._now = lambda: self.now  # type: ignore[method-assign]
        trigger._sleep = sleep  # type: ignore[method-assign]
        return trigger

    def watch(self, trigger: NewDataTrigger, until: timedelta) -> None:
        """Let the trigger run until the clock says so, or until it is killed."""
        self.at(until, self.kill)

        async def follow() -> None:
            async for event in trigger.run():
                self.events.append((self.now - BEGIN, event.payload))
                if self.run_takes is not None:
                    self.at(self.now - BEGIN + self.run_takes, self.take_in)

        with pytest.raises(Killed):
            asyncio.run(follow())

    def kill(self) -> None:
        raise Killed

    def told(self) -> list[tuple[str, str]]:
        return [(r["event"], r.get("state", "")) for r in self.ledger.records()]

    def asked_at(self) -> list[float]:
        """:return: hours from the beginning, of each event."""
        return [round(time / timedelta(hours=1), 2) for time, _ in self.events]


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(new_data, "StageProcess", FolderSurvey)
    monkeypatch.setattr(settings, "work_directory", lambda: tmp_path / "work")
    FolderSurvey.outcome = None
    return World(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_a_burst_of_200_files_is_one_event_whenever_the_trigger_is_killed(world, seed):
    chance = random.Random(seed)
    numbers = list(range(200))
    chance.shuffle(numbers)
    after = timedelta()
    for number in numbers:
        after += timedelta(seconds=chance.uniform(0, 20))
        world.at(after, lambda number=number: world.write(f"{number}.jsonl", rows=3))
    end, lived = after + timedelta(hours=2), timedelta()
    trigger = world.trigger()
    while lived < end:
        lived += timedelta(seconds=chance.uniform(1, 400))
        world.watch(trigger, lived)
        classpath, values = trigger.serialize()
        assert classpath == "ratchet.triggers.new_data.NewDataTrigger"
        trigger = world.watched(NewDataTrigger(**json.loads(json.dumps(values))))
    [(time, event)] = world.events
    assert (event["pipeline"], event["rows"], event["objects"]) == ("films", 600, 200)
    assert timedelta(minutes=5) <= time - after < timedelta(minutes=25)  # each death may cost one look
    assert len(world.ledger.records()) < 40  # the burst's beginning and its rest, not each look at it


def test_without_a_kill_the_event_comes_as_soon_as_the_quiet_time_is_over(world):
    for second in range(0, 240, 20):
        world.at(timedelta(seconds=second), lambda second=second: world.write(f"{second}.jsonl"))
    world.watch(world.trigger(), timedelta(hours=3))
    [(time, event)] = world.events
    last = timedelta(seconds=220)
    assert 5 * MINUTE <= time - last <= 5 * MINUTE + timedelta(seconds=30)
    assert event["objects"] == 12
    assert len(event["examples"]) == 5
    begun, rested, asked, waiting, _ = world.ledger.records()
    assert [record.get("state") for record in (begun, rested, waiting)] == ["unsettled", "unsettled", "asked"]
    assert asked["event"] == "asked"
    assert rested["digest"] == asked["digest"] == event["digest"]


def test_a_file_that_was_there_for_long_is_still_watched_for_the_quiet_time(world):
    world.write("a.jsonl")
    world.now = BEGIN + timedelta(days=1)
    world.watch(world.trigger(), timedelta(days=1, hours=1))
    assert world.asked_at() == [24.08]


def test_a_restarted_trigger_goes_on_with_the_quiet_time_that_has_passed(world):
    world.write("a.jsonl")
    world.watch(world.trigger(), 4 * MINUTE)
    world.watch(world.trigger(), 6 * MINUTE)
    assert [time for time, _ in world.events] == [5 * MINUTE]


def test_an_object_that_is_copied_with_an_old_date_counts_from_when_it_was_seen(world):
    world.write("a.jsonl")
    world.at(3 * MINUTE, lambda: (world.write("b.jsonl"), os.utime(world.folder / "b.jsonl", (1, 1))))
    world.watch(world.trigger(), timedelta(hours=1))
    [(time, _)] = world.events
    assert time >= 8 * MINUTE


def test_a_date_in_the_future_does_not_keep_data_waiting_for_ever(world):
    world.write("a.jsonl")
    os.utime(world.folder / "a.jsonl", (4e9, 4e9))
    world.watch(world.trigger(), timedelta(hours=1))
    assert len(world.events) == 1


def test_what_was_read_is_not_asked_for_again_and_a_rewritten_object_is(world):
    world.write("a.jsonl", rows=10)
    world.at(timedelta(hours=2), lambda: world.write("a.jsonl", rows=12))
    world.watch(world.trigger(min_rows=5), timedelta(hours=30))
    assert [event["rows"] for _, event in world.events] == [10, 12]


def test_a_removed_object_is_worth_a_run_unless_its_rows_are_kept(world):
    for name in ("a.jsonl", "b.jsonl"):
        world.write(name)
    world.take_in()
    world.at(MINUTE, (world.folder / "a.jsonl").unlink)
    world.watch(world.trigger(removed="keep"), timedelta(hours=1))
    assert world.events == []
    world.watch(world.trigger(), timedelta(hours=2))
    [(_, event)] = world.events
    assert (event["rows"], event["objects"]) == (0, 1)


def test_names_of_files_that_are_still_written_are_not_waited_for(world):
    world.write("a.jsonl.part", rows=100)
    world.watch(world.trigger(), timedelta(hours=1))
    assert world.events == []
    assert world.told() == []


def test_too_few_rows_wait_until_there_are_enough(world):
    world.write("a.jsonl", rows=150)
    world.at(timedelta(hours=10), lambda: world.write("b.jsonl", rows=50))
    world.watch(world.trigger(min_rows=200), timedelta(hours=12))
    assert world.asked_at() == [10.08]
    first = world.ledger.records()[0]
    assert (first["state"], first["reason"]) == ("few", "150 of 200 rows that start a run")


def test_a_broken_object_is_worth_a_run_that_names_it(world):
    world.write("broken.jsonl")
    world.watch(world.trigger(min_rows=200), timedelta(hours=1))
    assert len(world.events) == 1


def test_data_that_went_away_before_it_was_asked_for_leaves_nothing_behind(world):
    world.write("a.jsonl")
    world.at(3 * MINUTE, (world.folder / "a.jsonl").unlink)
    world.watch(world.trigger(), timedelta(hours=1))
    assert world.events == []
    assert world.told() == [("waiting", "unsettled"), ("waiting", "nothing")]


def test_a_lost_event_costs_time_and_a_failing_run_is_not_started_for_ever(world):
    world.write("a.jsonl")
    world.run_takes = None
    world.watch(world.trigger(), timedelta(days=5))
    hours = world.asked_at()
    pauses = [round(later - sooner, 1) for sooner, later in itertools.pairwise(hours)]
    assert pauses == [0.2, 0.5, 1, 2, 4, 8, 16, 24, 24, 24]  # 15 minutes, and twice as much each time
    assert {event["digest"] for _, event in world.events} == {world.events[0][1]["digest"]}


def test_other_data_is_asked_for_without_waiting_for_the_lost_run(world):
    world.write("a.jsonl")
    world.run_takes = None
    world.at(7 * MINUTE, lambda: world.write("b.jsonl"))
    world.watch(world.trigger(), 14 * MINUTE)
    assert [event["objects"] for _, event in world.events] == [1, 2]


def test_a_run_that_was_held_off_is_asked_for_again_when_the_hold_ends(world):
    world.write("a.jsonl")
    world.run_takes = None
    until = (BEGIN + timedelta(hours=6)).isoformat()
    world.at(6 * MINUTE, lambda: world.ledger.append("held-off", run_id="r", reason="too early", until=until))
    world.at(timedelta(hours=3), lambda: world.write("b.jsonl"))
    world.watch(world.trigger(), timedelta(hours=6, minutes=10))
    assert world.asked_at() == [0.08, 6]
    assert world.events[-1][1]["objects"] == 2
    assert "too early" in next(r["reason"] for r in world.ledger.records() if r.get("state") == "held-off")


def test_two_triggers_at_once_ask_for_one_run(world, monkeypatch):
    world.write("a.jsonl")
    for _look in range(2):
        world.trigger(quiet_minutes=1).look()
    world.now += 2 * MINUTE
    first, second = world.trigger(quiet_minutes=1), world.trigger(quiet_minutes=1)

    def look_while_the_other_one_asks(stage, request, **options):
        monkeypatch.setattr(new_data, "StageProcess", FolderSurvey)
        assert second.look()[0] is not None
        return FolderSurvey(stage, request, **options)

    monkeypatch.setattr(new_data, "StageProcess", look_while_the_other_one_asks)
    assert first.look() == (None, world.now)
    assert first.look()[0] is None
    assert len(world.ledger.records("asked")) == 1


def test_a_source_that_is_away_is_told_once_and_looked_at_less_and_less_often(world):
    FolderSurvey.outcome = BadInput("s3://films answered 403.")
    world.watch(world.trigger(), timedelta(hours=1))
    [record] = world.ledger.records()
    assert (record["event"], record["state"], record["digest"]) == ("waiting", "unreadable", "")
    assert "403" in record["reason"]
    assert [pause.total_seconds() for pause in world.sleeps[:6]] == [30, 60, 120, 240, 300, 300]
    FolderSurvey.outcome = None
    world.write("a.jsonl")
    world.watch(world.trigger(), timedelta(hours=2))
    assert len(world.events) == 1


def test_a_store_that_is_away_does_not_end_the_trigger(world, monkeypatch):
    def unreachable(self, prefix):
        raise OSError("the store is away")

    monkeypatch.setattr(Store, "list", unreachable)
    world.watch(world.trigger(), timedelta(hours=1))
    monkeypatch.undo()
    assert world.told() == []


def test_rows_are_counted_once(world):
    world.write("a.jsonl", rows=3)
    trigger = world.trigger()
    trigger.look()
    trigger.look()
    assert FolderSurvey.last_request.counted == {f"{FolderSurvey.version(world.folder / 'a.jsonl')} a.jsonl": 3}


def test_airflow_knows_the_trigger_again_by_its_values(world):
    from airflow.serialization.decoders import smart_decode_trigger_kwargs
    from airflow.serialization.encoders import encode_trigger
    from airflow.triggers.base import BaseEventTrigger

    encoded = encode_trigger(world.trigger(queue=None))
    stored = json.loads(json.dumps(encoded["kwargs"]))
    rebuilt = NewDataTrigger(**{name: smart_decode_trigger_kwargs(value) for name, value in stored.items()})
    assert rebuilt.serialize() == world.trigger().serialize()
    # otherwise each parse of the DAG would end the trigger and start another
    assert BaseEventTrigger.hash(encoded["classpath"], stored) == BaseEventTrigger.hash(*rebuilt.serialize())


def test_cancelling_the_trigger_ends_the_survey(world, monkeypatch):
    monkeypatch.setattr(new_data, "StageProcess", Hanging)

    async def cancel() -> None:
        task = asyncio.ensure_future(anext(world.trigger().run()))
        while not Hanging.running:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(cancel(), 20))
    assert not Hanging.running


class Hanging(FolderSurvey):
    """A survey that goes on until it is stopped."""

    running = False

    def run(self, log, timeout):
        import time

        type(self).running = True
        while type(self).running:
            time.sleep(0.01)
        raise RuntimeError("stopped")

    def stop(self):
        type(self).running = False


def test_a_message_wakes_the_survey_up_and_starts_nothing_by_itself(world, monkeypatch):
    messages = []

    async def message(self) -> None:
        messages.append(world.now)
        world.now += timedelta(seconds=10)

    monkeypatch.setattr(NewDataTrigger, "_message", message)
    world.at(10 * MINUTE, lambda: world.write("a.jsonl"))
    world.watch(world.trigger(queue="https://sqs/1/films", poll_seconds=3600), timedelta(hours=1))
    [(time, _)] = world.events
    assert timedelta(minutes=15) <= time < timedelta(minutes=16)  # not within the hour of the next look
    assert len(messages) > 30


def test_a_queue_that_is_away_leaves_the_ordinary_looks(world, monkeypatch):
    async def message(self) -> None:
        raise OSError("no such queue")

    monkeypatch.setattr(NewDataTrigger, "_message", message)
    world.write("a.jsonl")
    world.watch(world.trigger(queue="https://sqs/1/films"), timedelta(hours=1))
    assert len(world.events) == 1


def test_the_real_survey_answers_the_real_trigger(world, monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setattr(settings, "work_directory", lambda: tmp_path / "work")
    monkeypatch.setenv("AIRFLOW__RATCHET__TRAINING_PYTHON", training_python())
    lines = [json.dumps({"text": f"text {i}", "label": "ab"[i % 2]}) for i in range(30)]
    (world.folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    (world.folder / "b.jsonl.tmp").write_text("half a")
    trigger = world.trigger(quiet_minutes=0)
    world.now = datetime.now(UTC) + MINUTE
    event, _until = trigger.look()
    assert event is not None
    assert (event["rows"], event["objects"]) == (30, 1)
    assert event["examples"] == [str(world.folder / "a.jsonl")]
    assert list((tmp_path / "work" / "requests").iterdir()) == []


SECRET = "pl4nted/secret+key"


def test_no_secret_of_the_connection_is_told_to_anybody(world, monkeypatch, capsys, tmp_path):
    connection = {
        "conn_type": "aws",
        "login": "AKIDEXAMPLE",
        "password": SECRET,
        "extra": {"region_name": "eu-north-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", json.dumps(connection))
    monkeypatch.setattr(new_data, "StageProcess", Quoting)
    world.watch(world.trigger(source_conn_id="bucket"), timedelta(hours=1))
    given = {name.removeprefix("RATCHET_SOURCE_AWS_"): value for name, value in Quoting.given.items()}
    assert given["SECRET_ACCESS_KEY"] == SECRET
    assert (given["ACCESS_KEY_ID"], given["DEFAULT_REGION"]) == ("AKIDEXAMPLE", "eu-north-1")
    told = [path.read_text() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    told += [capsys.readouterr().out, str(world.trigger(source_conn_id="bucket").serialize())]
    assert any("403" in text for text in told)
    assert not any(SECRET in text for text in told)


QUOTES = f"""
from pathlib import Path
from training.contract import BadInput, SurveyRequest
from training.stage import run

def survey(_request):
    raise BadInput("403 for {SECRET}")

exit(run(survey, SurveyRequest, Path("request.json"), Path("result.json")))
"""


class Quoting(new_data.StageProcess):
    """A stage whose library quotes what it was given in its error."""

    given: dict = {}

    def __init__(self, stage, request, **options):
        super().__init__(stage, request, **options)
        type(self).given = dict(options["env"])
        self.command = [training_python(), "-c", QUOTES]
