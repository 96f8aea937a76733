"""
Data arrives while Airflow's processes are killed: each row enters once, each burst is one run, none on half of one.

The bursts follow one another on one Airflow. `RATCHET_BURSTS=20 RATCHET_SEED=7` adds so many in which everything goes
wrong at random times; each takes about a minute.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import threading
import time
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ratchet.arrivals import ASKED
from ratchet.ledger import INGESTED, Ledger
from tests.e2e.airflow import Airflow, eventually
from tests.servers import ROOT, training_python
from training.store import Store

MORE_BURSTS = int(os.environ.get("RATCHET_BURSTS", "0"))
SEED = int(os.environ.get("RATCHET_SEED", "1"))
FILES = 200  # in a burst
QUIET_SECONDS = 6.0
LONGEST_PAUSE = 0.05  # between two files; a tenth of them is written in two parts
RESTART_SECONDS = 1  # as supervisord waits
ASK_AGAIN_SECONDS = 45
PATIENCE_SECONDS = 300  # with every core busy

pytestmark = pytest.mark.timeout(900 + 300 * MORE_BURSTS)

DAG = f"""
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, AssetWatcher
from hasty import HastyTrigger
from ratchet.operators.ingest import IngestOperator

reading = {{"source": "FOLDER", "text": "text", "label": "label"}}
trigger = HastyTrigger(pipeline="films", reading=reading, quiet_minutes={QUIET_SECONDS} / 60, poll_seconds=1)
data = Asset("films", watchers=[AssetWatcher(name="new-data", trigger=trigger)])

with DAG(
    "films",
    schedule=[data],
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=False,
):
    IngestOperator(task_id="ingest", source="FOLDER", retries=5, retry_delay=timedelta(seconds=1))
"""

HASTY = f"""
from datetime import timedelta

from ratchet import arrivals
from ratchet.triggers.new_data import NewDataTrigger

arrivals.ASK_AGAIN = timedelta(seconds={ASK_AGAIN_SECONDS})


class HastyTrigger(NewDataTrigger):
    "A lost event costs less than a test can wait for."
"""

READ = """
import json, sys
from training.snapshot import open_snapshot, read_table

rows = read_table(*open_snapshot(sys.argv[1]), "train", "validation", "test").to_pydict()
print(json.dumps(list(zip(rows["text"], rows["label"]))))
"""


class World:
    """A folder that is written to, the Airflow that watches it, and eyes for what came of it."""

    def __init__(self, root: Path) -> None:
        self.folder, dags = root / "data", root / "dags"
        for made in (self.folder, dags):
            made.mkdir()
        (dags / "films.py").write_text(DAG.replace("FOLDER", str(self.folder)))
        (dags / "hasty.py").write_text(HASTY)
        self.airflow = Airflow(root / "home", dags)
        self.store = Store(str(root / "home" / "store"))
        self.chance = random.Random(SEED)
        self.bursts = 0
        self.starting: list[threading.Thread] = []

    # what happens

    def burst(self, calamities: dict[int, Callable[[], None]] | None = None) -> None:
        """Write 200 files in random order; before the one at each of these places something else happens."""
        self.bursts += 1
        names = [f"{self.bursts}-{number}.jsonl" for number in range(FILES)]
        self.chance.shuffle(names)
        for place, name in enumerate(names):
            (calamities or {}).get(place, lambda: None)()
            self.write(name)
            time.sleep(self.chance.uniform(0, LONGEST_PAUSE))
        self.write_under_another_name(f"{self.bursts}-last.jsonl")

    def write(self, name: str, version: str = "") -> None:
        text = "".join(
            json.dumps({"text": f"{name} {version} {row}", "label": "ab"[self.chance.randrange(2)]}) + "\n"
            for row in range(3)
        )
        half = self.chance.randrange(1, len(text)) if self.chance.random() < 0.1 else len(text)
        with (self.folder / name).open("w", buffering=1 << 16) as file:
            file.write(text[:half])
            file.flush()
            if half < len(text):
                time.sleep(LONGEST_PAUSE)
                file.write(text[half:])

    def write_under_another_name(self, name: str) -> None:
        self.write(f"{name}.part")
        time.sleep(QUIET_SECONDS / 2)
        (self.folder / f"{name}.part").rename(self.folder / name)

    def rewrite_one(self) -> None:
        self.write(self.chance.choice(sorted(path.name for path in self.folder.iterdir())), f"again {time.time()}")

    def remove_one(self) -> None:
        self.chance.choice(sorted(self.folder.iterdir())).unlink()

    def kill(self, component: str) -> None:
        """SIGKILL it and start it again, while everything else goes on."""
        if self.airflow.is_running(component):
            self.airflow.kill(component, self.chance)
            self.starting.append(threading.Thread(target=self._start_again, args=[component]))
            self.starting[-1].start()

    def _start_again(self, component: str) -> None:
        assert eventually(lambda: not self.airflow.is_running(component), 60)
        time.sleep(RESTART_SECONDS)
        self.airflow.start_component(component)

    def run_by_hand(self, number: int) -> None:
        """Ask until Airflow has the run: to one of two requests at once it answered 500 (seen once, on SQLite)."""

        def asked() -> bool:
            try:
                body = {"logical_date": None, "dag_run_id": f"by-hand-{number}"}
                self.airflow.ask("POST", "/dags/films/dagRuns", body)
            except urllib.error.HTTPError as error:
                return error.code == 409  # it has it already
            return True

        assert eventually(asked, PATIENCE_SECONDS)

    # what came of it

    def ledger(self, event: str) -> list[dict[str, Any]]:
        return Ledger(self.store, "films").records(event)

    def runs(self, kind: str | None = None) -> list[dict[str, Any]]:
        found = self.airflow.ask("GET", "/dags/films/dagRuns?limit=100")["dag_runs"]
        return [run for run in found if kind in (None, run["run_type"])]

    def taken_in(self) -> bool:
        """:return: whether the ledger's last snapshot was made of the files as they are, and no run goes on."""
        last = self.ledger(INGESTED)[-1:]
        objects = [one["objects"]["new"] + one["objects"]["changed"] + one["objects"]["unchanged"] for one in last]
        done = all(run["state"] in ("success", "failed") for run in self.runs())
        return done and objects == [len(list(self.folder.iterdir()))] and self.rows_read() == self.rows_written()

    def rows_written(self) -> list[list[str]]:
        lines = [line for path in self.folder.iterdir() for line in path.read_text().splitlines()]
        return sorted([row["text"], row["label"]] for row in map(json.loads, lines))

    def rows_read(self) -> list[list[str]]:
        command = [training_python(), "-c", READ, self.ledger(INGESTED)[-1]["snapshot"]]
        return sorted(json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("new-data"))
    try:
        made.airflow.start()
        parsed = eventually(lambda: made.airflow.found("/dags/films"), PATIENCE_SECONDS)
        assert parsed, made.airflow.log("dag-processor")
        yield made
    finally:
        for thread in made.starting:
            thread.join()
        made.airflow.stop()


def test_a_burst_is_one_run_on_all_of_it_whatever_is_killed_meanwhile(world):
    world.burst(
        {
            20: lambda: world.kill("triggerer"),
            60: lambda: world.kill("scheduler"),
            100: world.rewrite_one,
            120: world.remove_one,
            150: lambda: world.kill("triggerer"),
        }
    )
    assert eventually(world.taken_in, PATIENCE_SECONDS)
    assert len(world.ledger(INGESTED)) == 1
    assert len(world.runs()) == 1


def test_runs_that_are_asked_for_at_once_and_events_that_come_twice_cost_nothing(world):
    taken = len(world.ledger(INGESTED))
    world.write("a-few-more.jsonl")
    with ThreadPoolExecutor() as pool:
        list(pool.map(world.run_by_hand, range(2)))
    [asset] = world.airflow.ask("GET", "/assets?name_pattern=films")["assets"]
    for _twice in range(2):
        world.airflow.ask("POST", "/assets/events", {"asset_id": asset["id"]})
    assert eventually(lambda: world.runs("asset_triggered")[1:] and world.taken_in(), PATIENCE_SECONDS)
    assert len(world.ledger(INGESTED)) == taken + 1
    assert {run["state"] for run in world.runs()} == {"success"}


@pytest.mark.skipif(not MORE_BURSTS, reason="waits for a minute; RATCHET_BURSTS=1 runs it")
def test_an_event_that_was_lost_costs_time(world):
    taken, asked = len(world.ledger(INGESTED)), len(world.ledger(ASKED))
    world.burst()
    assert eventually(lambda: len(world.ledger(ASKED)) > asked, PATIENCE_SECONDS)
    world.kill("triggerer")  # whether the event came through or not
    assert eventually(world.taken_in, PATIENCE_SECONDS)
    assert len(world.ledger(INGESTED)) == taken + 1


@pytest.mark.skipif(not MORE_BURSTS, reason="takes a minute each; RATCHET_BURSTS=20 runs so many")
def test_at_whatever_time_it_goes_wrong(world):
    for _burst in range(MORE_BURSTS):
        taken = len(world.ledger(INGESTED))
        things = [world.rewrite_one, world.remove_one] * 2
        things += [lambda: world.kill("triggerer")] * 3 + [lambda: world.kill("scheduler")]
        world.burst({world.chance.randrange(10, FILES): thing for thing in things})
        time.sleep(world.chance.uniform(0, QUIET_SECONDS + 10))
        world.kill(world.chance.choice(["triggerer", "scheduler"]))
        assert eventually(world.taken_in, PATIENCE_SECONDS)
        assert len(world.ledger(INGESTED)) == taken + 1
