import itertools
import multiprocessing
import subprocess
import sys
import time

import pytest

from training.keys import Records, code_version, explain, key_of, locked
from training.store import Store

PARTS = {"snapshot": "1a2b3c4d" * 8, "arguments": {"num_train_epochs": 3}, "code": "c" * 64}


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def records(store):
    return Records(store, "train")


def test_a_key_depends_on_every_part_and_on_no_order():
    assert key_of(PARTS) == key_of(dict(reversed(PARTS.items())))
    assert key_of({**PARTS, "arguments": {"num_train_epochs": 4}}) != key_of(PARTS)
    assert len(key_of(PARTS)) == 64


def test_a_difference_is_told_by_name_with_digests_cut():
    new = {**PARTS, "snapshot": "5e6f7a8b" * 8, "arguments": {"num_train_epochs": 4, "seed": 1}}
    assert explain(PARTS, new) == [
        "arguments.num_train_epochs 3 -> 4",
        "arguments.seed unset -> 1",
        "snapshot 1a2b3c4d -> 5e6f7a8b",
    ]
    assert explain(PARTS, PARTS) == []


def test_long_values_are_cut():
    (phrase,) = explain({"a": "x" * 100}, {"a": "y"})
    assert len(phrase) < 80


def test_a_part_that_is_new_or_gone_as_a_whole_is_told_by_its_name():
    champion = {"name": "models:/films/3", "digest": "c" * 64}
    assert explain({"champion": None}, {"champion": champion}) == ["champion unset -> models:/films/3"]
    assert explain({"champion": {"digest": "c" * 64}}, {"champion": None}) == ["champion cccccccc -> unset"]
    assert explain({}, {"settings": {"a": 1, "b": 2}}) == ["settings unset -> 2 values"]


def test_finished_work_is_found_by_its_key_alone(records):
    key = key_of(PARTS)
    assert records.find(key) is None
    records.write(key, PARTS, {"model": "m"}, "films")
    assert records.find(key) == {"model": "m"}
    assert records.find(key_of({})) is None
    assert records.why_hit(key).startswith("hit: the same inputs, configuration and code made this on 20")


def test_a_miss_is_explained_against_this_pipelines_last_use(records):
    assert records.why_miss(PARTS, "films") == "miss: first run"
    records.write(key_of(PARTS), PARTS, {}, "films")
    changed = {**PARTS, "arguments": {"num_train_epochs": 4}}
    assert records.why_miss(changed, "films") == "miss: arguments.num_train_epochs 3 -> 4"
    assert records.why_miss(changed, "other") == "miss: first run"
    assert records.why_miss(PARTS, "films") == "miss: the earlier work was never finished or is gone"
    assert records.why_miss(changed, "films", force=True) == "forced"
    records.note_last(key_of(changed), changed, "films")
    assert records.why_miss(PARTS, "films") == "miss: arguments.num_train_epochs 4 -> 3"


def test_a_record_that_cannot_be_read_counts_as_none(records, store, caplog):
    key = key_of(PARTS)
    store.write_bytes(f"keys/train/{key}.json", b"{half")
    store.write_bytes("keys/train/last/films.json", b"")
    assert records.find(key) is None
    assert records.why_miss(PARTS, "films") == "miss: first run"
    assert "unreadable" in caplog.text


def test_the_code_version_covers_the_packages_that_were_asked_for():
    assert code_version() == code_version("training") != code_version("training", "serving")


def test_any_edit_makes_a_new_code_version(tmp_path):
    (tmp_path / "training").mkdir()
    for name in ("__init__.py", "contract.py", "keys.py", "scratch.py", "store.py"):
        (tmp_path / "training" / name).write_text(_source(name))
    ask = [sys.executable, "-c", "from training.keys import code_version; print(code_version())"]

    def version():
        return subprocess.run(ask, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    before = version()
    assert version() == before
    with (tmp_path / "training" / "contract.py").open("a") as file:
        file.write("# edited\n")
    assert version() != before


def _source(name):
    from pathlib import Path

    import training

    return Path(training.__file__).with_name(name).read_text()


def _hold(directory, held, release):
    with locked(directory):
        held.set()
        release.wait(30)


@pytest.fixture
def other_process(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "work", held, release))
    process.start()
    assert held.wait(30)
    yield process, release
    process.kill()
    process.join()
    process.close()


def test_who_waits_says_so_every_few_seconds(tmp_path, other_process, monkeypatch, caplog):
    clock = itertools.count(step=3)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    with caplog.at_level("INFO"), pytest.raises(TimeoutError), locked(tmp_path / "work", 20, lambda _: None):
        pass
    assert [record.message for record in caplog.records] == [
        f"Another process is at the same work; waiting for it for {seconds} s so far." for seconds in (6, 12, 18)
    ]


def test_a_directory_in_use_is_refused_after_the_wait_with_what_to_do(tmp_path, other_process):
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"still in use .* Wait for it or stop it"), locked(tmp_path / "work", 0.5):
        pytest.fail("two processes hold one lock")
    assert time.monotonic() - started < 5


def test_the_lock_is_waited_for(tmp_path, other_process):
    _process, release = other_process

    def let_go_at_the_first_poll(seconds):
        release.set()
        time.sleep(seconds)

    with locked(tmp_path / "work", 30, let_go_at_the_first_poll) as directory:
        assert directory == tmp_path / "work"


def test_the_lock_goes_with_a_killed_process(tmp_path, other_process):
    process, _release = other_process
    process.kill()
    with locked(tmp_path / "work", 10):
        pass
