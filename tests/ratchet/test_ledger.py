"""The ledger: numbered records that nobody rewrites."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from ratchet.ledger import Ledger
from training.store import Store


def test_writers_at_once_each_get_a_number_of_their_own(tmp_path):
    def write(i):
        return Ledger(Store(str(tmp_path)), "intents").append("note", writer=i)

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(write, range(40)))
    records = Ledger(Store(str(tmp_path)), "intents").records()
    assert sorted(numbers) == list(range(1, 41))
    assert sorted(record["writer"] for record in records) == list(range(40))
    assert [record["number"] for record in records] == list(range(1, 41))


def test_pipelines_have_histories_of_their_own(tmp_path):
    store = Store(str(tmp_path))
    Ledger(store, "intents").append("alias-done", to="3")
    Ledger(store, "topics").append("alias-intent", to="1")
    assert [record["to"] for record in Ledger(store, "intents").records("alias-done")] == ["3"]
    assert Ledger(store, "topics").records("alias-done") == []
    assert Ledger(store, "empty").records() == []


class CountingStore(Store):
    """Remembers which records were read."""

    def __init__(self, root):
        super().__init__(root)
        self.reads = []

    def read_json(self, key):
        self.reads.append(key)
        return super().read_json(key)


def test_the_last_record_of_an_event_is_found_without_reading_what_is_older(tmp_path):
    directory = tmp_path / "ledger" / "intents"
    directory.mkdir(parents=True)
    for number in range(1, 10_001):
        event = "ingested" if number == 9_990 else "waiting"
        (directory / f"{number:06d}.json").write_text(f'{{"event": "{event}", "number": {number}}}')
    store = CountingStore(str(tmp_path))
    ledger = Ledger(store, "intents")
    began = time.process_time()
    assert ledger.last("ingested")["number"] == 9_990
    assert [record["number"] for record in ledger.since("ingested")] == list(range(9_990, 10_001))
    assert time.process_time() - began < 1
    assert len(store.reads) == 11  # and none of them twice


def test_without_the_event_there_is_everything_since_the_beginning(tmp_path):
    ledger = Ledger(Store(str(tmp_path)), "intents")
    assert ledger.since("ingested") == []
    assert ledger.last("ingested") is None
    ledger.append("waiting", rows=1)
    ledger.append("waiting", rows=2)
    assert [record["rows"] for record in ledger.since("ingested")] == [1, 2]


def test_a_writer_that_decided_on_an_old_view_writes_nothing(tmp_path):
    store = Store(str(tmp_path))

    def ask(i):
        try:
            return Ledger(store, "intents").append("asked", after=0, writer=i)
        except FileExistsError:
            return None

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(ask, range(8)))
    assert sorted(numbers, key=str) == [1] + [None] * 7
    assert len(Ledger(store, "intents").records("asked")) == 1
    assert Ledger(store, "intents").append("asked", after=1) == 2
