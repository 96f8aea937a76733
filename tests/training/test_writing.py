"""Who takes things out of a store looks when what is being written is there."""

import threading

import pytest

from training import writing
from training.store import Store
from training.writing import MARKS, marked, wait_for_writers


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def test_a_mark_is_there_for_as_long_as_something_is_written(store):
    with marked(store):
        assert len(store.list(MARKS)) == 1
    with pytest.raises(OSError, match="full"), marked(store):
        raise OSError("the disk is full")
    assert store.list(MARKS) == []


def test_who_waits_goes_on_when_what_was_being_written_is_there(store):
    begun, written = threading.Event(), threading.Event()

    def write():
        with marked(store):
            begun.set()
            written.wait(10)
            store.write_json("written.json", {})

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(10)
    wait_for_writers(store, pause=lambda _seconds: (written.set(), writer.join(10)))
    assert store.exists("written.json")


def test_a_slow_writer_is_not_taken_for_a_killed_one(store, monkeypatch):
    monkeypatch.setattr(writing, "RENEWED_SECONDS", 0.01)
    looks = []

    def pause(seconds):
        looks.append(seconds)
        if len(looks) == 5:
            done.set()
            writer.join(10)
        else:
            threading.Event().wait(0.1)

    begun, done = threading.Event(), threading.Event()

    def write():
        with marked(store):
            begun.set()
            done.wait(10)

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(10)
    wait_for_writers(store, silent_seconds=5, pause=pause)
    assert len(looks) == 5


def test_the_mark_of_a_killed_writer_is_removed(store):
    store.write_json(f"{MARKS}/killed.json", {"renewed": 7})
    store.write_bytes(f"{MARKS}/torn.json", b"{")
    wait_for_writers(store, silent_seconds=0, pause=lambda _seconds: None)
    assert store.list(MARKS) == []


def test_who_begins_to_write_later_is_not_waited_for(store):
    store.write_json(f"{MARKS}/earlier.json", {})

    def pause(_seconds):
        store.remove(f"{MARKS}/earlier.json")
        store.write_json(f"{MARKS}/later.json", {})

    wait_for_writers(store, pause=pause)
    assert store.list(MARKS) == [f"{MARKS}/later.json"]
