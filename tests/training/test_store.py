import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from training.contract import BadInput
from training.store import Store, digest_of_files, hash_tree, local_path


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "store"))


@pytest.fixture
def made(tmp_path):
    folder = tmp_path / "made"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a" * 100_000)
    (folder / "deep" / "b.bin").write_bytes(b"b")
    return folder


def test_a_record_is_read_as_it_was_written_last(store):
    store.write_json("keys/x.json", {"n": 1})
    assert store.write_json("keys/x.json", {"n": 2}) == f"{store.root}/keys/x.json"
    assert store.read_json("keys/x.json") == {"n": 2}
    assert store.list("keys") == ["keys/x.json"]


def test_a_record_that_is_not_there_is_not_found(store):
    assert not store.exists("keys/x.json")
    assert store.list("keys") == []
    with pytest.raises(FileNotFoundError):
        store.read_json("keys/x.json")


def test_a_number_that_is_none_is_never_recorded(store):
    with pytest.raises(ValueError):
        store.write_json("keys/x.json", {"n": float("nan")})
    assert store.list("keys") == []


def test_files_have_the_modes_that_the_umask_gives_so_that_other_services_may_read_them(store, made):
    store.write_json("x.json", {})
    store.put_directory(made, "models/1", {})
    expected = 0o666 & ~_umask()
    files = [path for path in Path(store.root.removeprefix("file://")).rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {expected}


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_of_two_writers_of_one_record_one_wins(store):
    outcomes = []

    def write(n):
        try:
            store.create_json("ledger/000001.json", {"writer": n})
            outcomes.append(n)
        except FileExistsError:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [n for n in outcomes if n is not None]
    assert len(winners) == 1
    assert store.read_json("ledger/000001.json") == {"writer": winners[0]}
    assert store.list("ledger") == ["ledger/000001.json"]


def test_a_directory_is_complete_when_its_manifest_is_there(store, made):
    assert not store.is_complete("models/1")
    assert store.put_directory(made, "models/1", {"n": 1}) == f"{store.root}/models/1"
    assert store.is_complete("models/1")
    copy = store.local_directory("models/1", made)
    assert hash_tree(copy) == hash_tree(made)
    assert json.loads((copy / "manifest.json").read_text()) == {"n": 1}


def test_a_complete_directory_is_not_written_again_unless_asked(store, made):
    store.put_directory(made, "models/1", {"n": 1})
    (made / "a.bin").write_bytes(b"other")
    store.put_directory(made, "models/1", {"n": 2})
    assert store.read_json("models/1/manifest.json") == {"n": 1}
    store.put_directory(made, "models/1", {"n": 2}, overwrite=True)
    assert store.read_json("models/1/manifest.json") == {"n": 2}
    assert (store.local_directory("models/1", made) / "a.bin").read_bytes() == b"other"


def test_a_copy_that_fails_leaves_no_manifest_and_the_next_one_mends_it(store, made):
    os.mkfifo(made / "c")  # no regular file: passed over
    (made / "z.bin").symlink_to("nowhere")  # passed over as well
    unreadable = made / "deep" / "y.bin"
    unreadable.write_bytes(b"y")
    original = Store._put_file
    try:
        Store._put_file = lambda self, local, key, **how: (
            original(self, local, key, **how) if local != unreadable else (_ for _ in ()).throw(OSError("disk full"))
        )
        with pytest.raises(OSError, match="disk full"):
            store.put_directory(made, "models/1", {"n": 1})
    finally:
        Store._put_file = original
    assert not store.is_complete("models/1")
    with pytest.raises(BadInput, match="missing or unfinished"):
        store.local_directory("models/1", made)
    store.put_directory(made, "models/1", {"n": 1})
    assert (store.local_directory("models/1", made) / "deep" / "y.bin").read_bytes() == b"y"


WRITER = """
import sys
from pathlib import Path
from training.store import Store, _part_of
with _part_of(Path(sys.argv[1]) / "models/1/a.bin") as part:
    part.write(b"half")
    part.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(store):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, store.root.removeprefix("file://")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    yield process
    process.kill()
    process.communicate()


def test_what_a_killed_writer_left_goes_with_the_next_attempt(store, made, writer):
    folder = Path(store.root.removeprefix("file://"), "models/1")
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert [path.name[:6] for path in folder.iterdir()] == [".part-"]
    assert store.list("models/1") == []
    store.put_directory(made, "models/1", {})
    assert sorted(path.name for path in folder.iterdir()) == ["a.bin", "deep", "manifest.json"]


def test_what_a_living_writer_is_at_stays(store, made, writer):
    store.put_directory(made, "models/1", {})
    assert any(
        path.name.startswith(".part-") for path in Path(store.root.removeprefix("file://"), "models/1").iterdir()
    )


def test_many_may_put_the_same_directory_at_once(store, made):
    for n in range(40):
        (made / f"{n}.bin").write_bytes(b"n" * n)
    faults = []

    def put():
        try:
            store.put_directory(made, "models/1", {"n": 1}, overwrite=True)
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=put) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert hash_tree(store.local_directory("models/1", made)) == hash_tree(made)


def test_a_file_that_is_being_written_is_no_part_of_a_directory(made):
    files = hash_tree(made)
    (made / ".part-1-a.bin").write_bytes(b"half")
    assert hash_tree(made) == files


def test_keys_and_uris_are_two_names_of_one_thing(store):
    assert store.key(store.uri("models/1")) == "models/1"
    with pytest.raises(BadInput, match="is not in the store"):
        store.key("file:///elsewhere/models/1")
    with pytest.raises(BadInput):
        store.key(f"{store.root}-other/models/1")


@pytest.mark.parametrize("name", ["my store", "store #1", "what?", "50%25"])
def test_a_root_is_one_place_however_it_is_written(tmp_path, name):
    path = tmp_path / name
    plain, uri = Store(str(path)), Store(path.as_uri())
    plain.write_json("x #2.json", 1)
    assert (path / "x #2.json").exists()
    assert uri.read_json("x #2.json") == 1
    assert plain.uri("x #2.json") == uri.uri("x #2.json") == (path / "x #2.json").as_uri()
    assert uri.key(plain.uri("x #2.json")) == "x #2.json"
    assert local_path(plain.uri("x #2.json")) == path / "x #2.json"


def test_the_digest_of_files_depends_on_names_and_contents_and_not_on_their_order(made):
    files = hash_tree(made)
    assert digest_of_files(files) == digest_of_files(dict(reversed(files.items())))
    swapped = dict(zip(files, reversed(files.values()), strict=True))
    assert digest_of_files(swapped) != digest_of_files(files)
    (made / "manifest.json").write_text("{}")
    assert hash_tree(made) == files


def test_a_reader_never_sees_half_a_record(store):
    stop = time.monotonic() + 0.5
    seen = set()

    def write():
        n = 0
        while time.monotonic() < stop:
            n += 1
            store.write_json("x.json", {"n": n % 2, "filling": "x" * 50_000})

    store.write_json("x.json", {"n": 0, "filling": ""})
    thread = threading.Thread(target=write)
    thread.start()
    while thread.is_alive():
        seen.add(store.read_json("x.json")["n"])
    thread.join()
    assert seen == {0, 1}


def test_a_store_that_is_read_alone_stays_as_it_is(tmp_path):
    root = tmp_path / "store"
    Store(str(root)).write_json("kept.json", {})
    (root / ".part-left").touch()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "file").write_text("new")
    store = Store(str(root), read_only=True)
    with store.scratch("test-"):
        store.write_json("kept.json", {"new": 1})
        store.write_bytes("bytes", b"new")
        store.create_json("created.json", {})
        store.put_file(tmp_path / "made" / "file", "file")
        store.put_directory(tmp_path / "made", "directory", {}, overwrite=True)
        store.remove("kept.json")
        store.remove_abandoned_parts()
        assert sorted(path.name for path in root.rglob("*")) == [".part-left", "kept.json"]
    assert store.read_json("kept.json") == {}
    assert (tmp_path / "made" / "file").read_text() == "new"


def test_every_file_is_listed_with_size_and_age_unfinished_ones_too(tmp_path):
    store = Store(str(tmp_path / "it's a store"))
    assert list(store.files("models")) == []
    store.write_json("models/1/manifest.json", {})
    (tmp_path / "it's a store" / "models" / "1" / ".part-1-x").write_text("half")
    found = {file.key: file for file in store.files("models")}
    assert set(found) == {"models/1/manifest.json", "models/1/.part-1-x"}
    assert found["models/1/.part-1-x"].bytes == 4
    assert abs((datetime.now(UTC) - found["models/1/.part-1-x"].modified).total_seconds()) < 60


def test_a_directory_is_removed_with_its_manifest_first(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    store.write_json("models/1/manifest.json", {})
    store.write_json("models/1/weights.json", {})
    with monkeypatch.context() as patch:
        patch.setattr(store.fs, "rm", lambda path, recursive: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.remove_directory("models/1")
    assert store.list("models/1") == ["models/1/weights.json"]
    for _ in range(2):
        store.remove_directory("models/1")
        assert store.list("models") == []
