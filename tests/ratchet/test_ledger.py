"""The ledger: numbered records that nobody rewrites."""

from __future__ import annotations

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
