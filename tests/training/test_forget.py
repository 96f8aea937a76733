"""What is forgotten is gone from everything that a store keeps, and the rest is what it was."""

import json
import random
import shutil
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace

import pyarrow
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.training.source import ROWS, Source, rows_of, text, texts_of
from training.contract import BadInput, ForgetRequest, Unreachable
from training.forget import forget
from training.forgotten import Forgotten
from training.snapshot import read_table
from training.store import Store, local_path
from training.text import identity_of, text_hash

SECRET = "a secret that nobody may keep"


def request_for(source, *texts, objects=(), **changes):
    request = ForgetRequest(
        store=str(source.store),
        work=str(source.place / "work"),
        watermarks=[source.watermark],
        texts=[identity_of(text) for text in texts],
        objects=[name_of(source, name) for name in objects],
    )
    return replace(request, **changes)


def name_of(source, name):
    return str(source.folder / f"{name}.jsonl")


def table_of(result):
    """:return: all rows of a snapshot, which checks that there are as many as its manifest says."""
    root, _, digest = result.snapshot.rpartition("/snapshots/")
    return read_table(Store(root), f"snapshots/{digest}", "train", "validation", "test")


def manifest_of(result):
    root, _, digest = result.snapshot.rpartition("/snapshots/")
    return Store(root).read_json(f"snapshots/{digest}/manifest.json")


def kept_anywhere(store, needle):
    """:return: the files of a directory that hold the text, also those that hold it compressed."""
    found = []
    for path in filter(lambda path: path.is_file(), store.rglob("*")):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += json.dumps(parquet.read_table(path).to_pylist(), default=str, ensure_ascii=False).encode()
        if needle.encode() in content:
            found.append(path.relative_to(store).as_posix())
    return found


def same_as_anew(source, result, **checks):
    """:return: whether reading everything anew, with the same things forgotten, gives the same."""
    cold = source.ingest(force=True, **checks)
    return (cold.digest, cold.dropped, rows_of(cold)) == (result.digest, result.dropped, rows_of(result))


# texts


def test_a_text_leaves_rows_refused_rows_and_snapshots(source):
    source.put("second", [(SECRET, "pos"), (SECRET.upper(), "pos"), (SECRET, None), ("one more", "pos")])
    before = source.ingest(bad_rows_percent=50.0)
    assert kept_anywhere(source.store, SECRET)
    result = forget(request_for(source, SECRET))
    assert (result.counts["rows"], result.counts["refused rows"], result.counts["snapshots"]) == (2, 1, 1)
    assert kept_anywhere(source.store, SECRET) == kept_anywhere(source.store, SECRET.upper()) == []
    assert SECRET not in table_of(before)["text"].to_pylist()
    assert manifest_of(before)["forgotten"] == 1
    assert sum(manifest_of(before)["rows"].values()) == sum(before.rows.values()) - 1


def test_the_other_rows_are_what_they_were(source):
    source.put("second", [("one more", "pos"), (SECRET, "neg"), ("two more", "neg")])
    before = source.ingest()
    rows = rows_of(before)
    forget(request_for(source, SECRET))
    assert rows_of(before) == {row for row in rows if row[1] != SECRET}
    [place] = [
        t
        for p in source.store.rglob("rows-*.parquet")
        for t in parquet.read_table(p).to_pylist()
        if t["text"] == "two more"
    ]
    assert place["row"] == 3


def test_a_text_is_not_in_the_next_snapshot_and_never_comes_in_again(source):
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    before = source.ingest()
    forget(request_for(source, SECRET))
    result = source.ingest()
    assert result.digest != before.digest
    assert texts_of(result) == {text for text, _label in ROWS} | {"one more"}
    assert result.dropped == {"forgotten": 1}
    source.put("third", [(SECRET.title(), "neg"), ("two more", "pos")])
    later = source.ingest()
    assert texts_of(later) == texts_of(result) | {"two more"}
    assert kept_anywhere(source.store, SECRET.title()) == []
    assert same_as_anew(source, later)


def test_it_says_what_the_source_still_has(source):
    source.put("second", [("one more", "pos"), (SECRET, "neg")])
    source.ingest()
    result = forget(request_for(source, SECRET))
    assert (result.in_source, result.examples) == (1, [f"{name_of(source, 'second')}, row 2"])


def test_a_text_leaves_what_was_read_twice_and_is_counted_once(source):
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    source.ingest()
    source.ingest(force=True)
    forget(request_for(source, SECRET))
    assert kept_anywhere(source.store, SECRET) == []
    [manifest] = source.store.glob("batches/*/manifest.json")
    assert [one["refused"] for one in json.loads(manifest.read_text())["objects"]] == [{}, {"forgotten": 1}]
    assert source.ingest().dropped == {"forgotten": 1}


def test_a_text_that_nobody_has_yet_is_kept_out(source):
    source.ingest()
    assert forget(request_for(source, SECRET)).counts == {}
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    assert SECRET not in texts_of(source.ingest())


def test_what_identifies_a_text_leaves_signatures_and_what_is_nearly_the_same(source):
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    source.ingest()
    [file] = source.store.rglob("rows-*.parquet")
    rows = parquet.read_table(file)
    rows = rows.filter(pc.is_in(rows["text"], pyarrow.array([SECRET, "one more"]))).sort_by("row")  # the secret first
    places = rows.select(["batch", "object", "row", "h0", "h1"])
    other = places.slice(1)
    directory = source.store / "signatures" / "1"
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text("{}")
    parquet.write_table(places, directory / "signatures.parquet")
    near = pyarrow.concat_tables([other, other]).append_column("near_h0", places["h0"])
    near = near.append_column("near_h1", places["h1"])  # the other row is nearly the secret, and nearly itself
    found = source.store / Store(str(source.store)).key(source.watermark) / "near-1.parquet"
    parquet.write_table(near, found)
    assert forget(request_for(source, SECRET)).counts["signatures"] == 2  # with those that the ingest made
    assert parquet.read_table(directory / "signatures.parquet").to_pylist() == other.to_pylist()
    assert parquet.read_table(found).to_pylist() == near.slice(1).to_pylist()


def test_what_a_killed_run_left_unfinished_is_removed(source):
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    source.ingest()
    [manifest] = source.store.glob("batches/*/manifest.json")
    left = shutil.copytree(manifest.parent, source.store / "batches" / ("f" * 64))
    (left / "manifest.json").unlink()
    begun = source.store / "evaluations" / ("e" * 64)
    begun.mkdir(parents=True)
    (begun / "report.json").write_text(json.dumps({"behaviour": [SECRET]}))
    abandoned = source.store / "scratch" / "judge-killed"
    abandoned.mkdir(parents=True)
    (abandoned / "details.json").write_text(json.dumps([SECRET]))
    assert forget(request_for(source, SECRET)).counts["files that killed runs left"] == 2
    assert kept_anywhere(source.store, SECRET) == []
    assert source.ingest().rows["train"]


def test_a_quarantined_batch_is_emptied_as_well(source):
    source.ingest()
    source.put("second", [(SECRET, "pos"), *[(f"{SECRET}\0", "pos")] * 20])
    assert source.ingest().quarantined
    forget(request_for(source, SECRET, f"{SECRET}\0"))
    assert kept_anywhere(source.store, SECRET) == []


# objects


def test_an_object_takes_its_rows_along_and_is_not_read_again(source):
    source.put("second", [("one more", "pos"), ("Two  more", "neg"), ("", "pos")])
    source.put("third", [("two more", "neg"), ("three more", "pos")])
    before = source.ingest(bad_rows_percent=50.0)
    result = forget(request_for(source, objects=["second"]))
    assert result.counts["rows"] == 2
    assert kept_anywhere(source.store, "one more") == []
    assert not {"one more", "Two  more"} & set(table_of(before)["text"].to_pylist())
    after = source.ingest(bad_rows_percent=50.0)
    assert texts_of(after) == {text for text, _label in ROWS} | {"two more", "three more"}
    assert after.objects["new"] == after.objects["removed"] == 0
    assert same_as_anew(source, after, bad_rows_percent=50.0)


def test_a_snapshot_that_is_the_same_without_the_object_is_whole_again(source):
    source.put("second", [("one more", "pos")])
    source.put("third", [("one more", "pos")])
    before = source.ingest()
    forget(request_for(source, objects=["second"]))
    after = source.ingest()
    assert after.digest == before.digest
    assert "one more" in texts_of(after)
    assert "forgotten" not in manifest_of(after)


def test_an_object_that_was_never_read_is_refused_with_the_nearest_name(source):
    source.ingest()
    with pytest.raises(BadInput, match=r"no such|was ever read.*Did you mean .*first\.jsonl"):
        forget(request_for(source, objects=["frist"]))
    assert Forgotten.read(Store(str(source.store))) == Forgotten()


def test_names_and_labels_of_what_is_forgotten_stay_only_where_the_docs_say(source):
    """As docs/architecture.md has it, "Not reached"."""
    source.put("mine", [(f"{SECRET} {i}", "unheard-of") for i in range(3)] + [("", "unheard-of"), (SECRET, "unique")])
    source.put("second", [(f"more {i}", "pos") for i in range(9)] + [("", "pos")])
    source.ingest(bad_rows_percent=50.0)
    forget(request_for(source, objects=["mine"]))
    source.ingest(bad_rows_percent=50.0)

    def kinds(needle):
        return {path.partition("/")[0] for path in kept_anywhere(source.store, needle)}

    assert kinds("mine.jsonl") <= {"forgotten.json", "batches", "snapshots", "data-reports", "keys", "ledger"}
    assert kinds("unheard-of") | kinds("unique") <= {"snapshots", "data-reports", "keys", "ledger"}


# looking only, and going on


def test_a_dry_run_tells_the_same_and_changes_nothing(source):
    source.put("second", [(SECRET, "pos"), (SECRET, None), ("one more", "pos")])
    source.ingest(bad_rows_percent=50.0)
    files = {path: path.read_bytes() for path in source.store.rglob("*") if path.is_file()}
    told = forget(request_for(source, SECRET, dry_run=True))
    assert {path: path.read_bytes() for path in source.store.rglob("*") if path.is_file()} == files
    assert forget(request_for(source, SECRET)) == told


class Killed(BaseException):
    pass


@contextmanager
def killed_after(writes):
    """Break off whatever is done inside when it has written so many times."""
    left = iter(range(writes))

    def counted(write):
        def counting(*args):
            if next(left, None) is None:
                raise Killed
            return write(*args)

        return counting

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        for name in ("write_json", "put_file", "remove"):
            patch.setattr(Store, name, counted(getattr(Store, name)))
        yield


@pytest.mark.parametrize("writes", range(1, 12))
def test_what_was_killed_is_finished_by_going_on(source, writes):
    source.put("second", [("one more", "pos"), ("two more", "neg"), ROWS[0]])
    source.put("third", [(SECRET, "pos"), ("two more", "neg"), (SECRET, None)])
    before = source.ingest(bad_rows_percent=50.0)
    with killed_after(writes):
        forget(request_for(source, SECRET, objects=["second"]))
    if Forgotten.read(Store(str(source.store))).unfinished:
        with pytest.raises(Unreachable):
            source.ingest()
        forget(request_for(source, resume=True))
    assert kept_anywhere(source.store, SECRET) == kept_anywhere(source.store, "one more") == []
    table_of(before)
    after = source.ingest(bad_rows_percent=50.0)
    assert texts_of(after) == {text for text, _label in ROWS} | {"two more"}
    assert same_as_anew(source, after, bad_rows_percent=50.0)


def test_there_is_nothing_to_go_on_with_when_all_is_done(source):
    source.ingest()
    forget(request_for(source, SECRET))
    with pytest.raises(BadInput, match="nothing to go on with"):
        forget(request_for(source, resume=True))


def test_forgetting_twice_changes_nothing_more(source):
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    source.ingest()
    forget(request_for(source, SECRET))
    assert forget(request_for(source, SECRET)).counts == {}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**9))
def test_forgetting_in_between_gives_what_reading_the_rest_anew_gives(tmp_path_factory, seed):
    draw = random.Random(seed)
    source = Source(tmp_path_factory.mktemp("source"))
    source.put("base", ROWS)
    names = ["base"]
    for step in range(5):
        action = draw.choice(["add", "add", "change", "remove", "text", "object"])
        rows = [
            (text(draw.randint(0, 400)), draw.choice("ab")) for _ in range(80)
        ]  # of fewer, perhaps, none is a test row
        if action == "add":
            names.append(f"more{step}")
        if action in ("add", "change"):
            some = ROWS[:100] if names[-1] == "base" else []  # so few rows alone may leave a split empty
            source.put(names[-1], [*some, *rows])
        elif action == "remove" and len(names) > 1:
            source.remove(names.pop())
        result = source.ingest()
        if action == "text":
            forget(request_for(source, *(draw.choice(sorted(texts_of(result))) for _ in range(3))))
        elif action == "object" and len(names) > 1:
            forget(request_for(source, objects=[names.pop()]))
        table_of(result)
    assert same_as_anew(source, source.ingest())


# beside another step


@pytest.mark.parametrize(
    ("write", "whose"),
    [("put_directory", "source"), ("write_json", "source"), ("write_bytes", "source"), ("put_directory", "other")],
)
def test_a_text_that_is_forgotten_while_an_ingest_writes_it_is_found(source, other, monkeypatch, write, whose):
    """The ingest stands still at its first write; the forgetting begins there, and waits for it."""
    writing = {"source": source, "other": other}[whose]
    source.ingest()
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    whole = getattr(Store, write)
    forgetting = []

    def standing_still(self, *args, **options):
        if not forgetting and (write == "put_directory" or args[0].startswith(("batches", "watermarks", "data-rep"))):
            request = request_for(source, SECRET)
            forgetting.append(threading.Thread(target=forget, args=[request]))
            forgetting[0].start()
            while not Forgotten.read(self).unfinished:
                time.sleep(0.01)
        return whole(self, *args, **options)

    monkeypatch.setattr(Store, write, standing_still)
    before = writing.ingest()
    forgetting[0].join(60)
    assert kept_anywhere(source.store, SECRET) == []
    assert SECRET not in table_of(before)["text"].to_pylist()
    assert texts_of(writing.ingest()) == {text for text, _label in ROWS} | {"one more"}


def test_an_ingest_that_writes_after_a_text_was_forgotten_writes_nothing(source, monkeypatch):
    from training import ingest as stage

    source.ingest()
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    judged = stage.hit_or_miss
    monkeypatch.setattr(stage, "hit_or_miss", lambda *args: (judged(*args), forget(request_for(source, SECRET)))[0])
    with pytest.raises(Unreachable, match="A retry leaves them out"):
        source.ingest()
    assert kept_anywhere(source.store, SECRET) == []
    monkeypatch.undo()
    assert texts_of(source.ingest()) == {text for text, _label in ROWS} | {"one more"}


# for two pipelines


@pytest.fixture
def other(source, tmp_path):
    """Another pipeline that reads the same folder into the same store."""
    other = Source(tmp_path / "other")
    other.folder, other.store = source.folder, source.store
    other.reading = replace(source.reading, test_percent=20)
    return other


def test_what_one_pipeline_forgets_the_other_has_forgotten(source, other):
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    source.put("third", [("two more", "neg")])
    source.ingest()
    before = other.ingest()
    result = forget(request_for(source, SECRET, objects=["third"]))
    assert result.counts["snapshots"] == result.counts["watermarks"] == 2
    assert SECRET not in texts_of(before)
    for pipeline in (source, other):
        after = pipeline.ingest()
        assert texts_of(after) == {text for text, _label in ROWS} | {"one more"}
        assert same_as_anew(pipeline, after)
    assert kept_anywhere(source.store, SECRET) == kept_anywhere(source.store, "two more") == []


def test_what_only_the_other_pipeline_has_read_is_told_as_in_the_source(source, other):
    source.ingest()
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    other.ingest()
    watermarks = [source.watermark, other.watermark]
    result = forget(request_for(source, SECRET, watermarks=watermarks))
    assert (result.in_source, result.examples) == (1, [f"{name_of(source, 'second')}, row 1"])


# what is damaged


def damage(source, pattern, content):
    """:return: what was damaged: the first such file of the store."""
    file = next(iter(sorted(source.store.glob(pattern))))
    file.write_text(content)
    return file


@pytest.mark.parametrize("content", ["{", "{}"])
def test_what_is_damaged_is_told_and_hinders_nothing_else(source, content):
    source.ingest()
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    before = source.ingest()
    store = Store(str(source.store))
    store.write_json("evaluations/1/golden.json", {})
    store.write_json("keys/train/1.json", {})
    files = [damage(source, pattern, content) for pattern in ("evaluations/1/golden.json", "keys/train/1.json")]
    old = next(file for file in source.store.glob("snapshots/*/manifest.json") if file.parent.name != before.digest)
    old.write_text(content)
    result = forget(request_for(source, SECRET))
    assert len(result.left) == 2
    assert all(any(place.parent.as_uri() in told for told in result.left) for place in (files[0], old))
    assert not Forgotten.read(store).unfinished
    assert kept_anywhere(source.store, SECRET) == []


def test_a_report_of_which_only_the_page_is_whole_is_told(source):
    source.put("second", [(SECRET, "pos"), (SECRET, "neg")])
    result = source.ingest()
    report = local_path(result.report)
    assert SECRET in (report / "report.html").read_text()
    (report / "report.json").write_text("{}")
    assert [report.as_uri() in told for told in forget(request_for(source, SECRET)).left] == [True]


def test_a_damaged_manifest_of_the_snapshot_in_force_is_made_again_after_forgetting(source):
    source.put("second", [(SECRET, "pos")])
    damage(source, f"snapshots/{source.ingest().digest}/manifest.json", "{")
    forget(request_for(source, SECRET))
    assert SECRET not in texts_of(source.ingest())


def cut_off(file):
    file.write_bytes(file.read_bytes()[:-20])


def garbled(file):
    """The end, which tells where things lie, is whole."""
    content = file.read_bytes()
    file.write_bytes(content[:4] + b"\xff" * (len(content) - 2004) + content[-2000:])


@pytest.mark.parametrize(
    ("pattern", "damaged"),
    [
        ("predictions/1/predictions.parquet", cut_off),
        ("predictions/1/predictions.parquet", garbled),
        ("signatures/*/signatures.parquet", cut_off),
        ("watermarks/*/near-*.parquet", cut_off),
        ("watermarks/*/deletions.parquet", cut_off),
        ("batches/*/refused.parquet", cut_off),
        ("batches/*/rows-*.parquet", cut_off),
        ("batches/*/rows-*.parquet", garbled),
    ],
)
def test_a_damaged_file_is_named_and_the_text_leaves_the_others(source, pattern, damaged):
    source.put("second", [(ROWS[0][0].upper(), ROWS[0][1]), (f"{ROWS[1][0]}!", ROWS[1][1]), ("", "pos")])
    source.ingest(bad_rows_percent=50.0)
    first = set(source.store.glob(pattern))
    source.put("third", [(SECRET, "pos"), (SECRET.replace("nobody", "no body"), "neg"), (SECRET, None)])
    others = texts_of(source.ingest(bad_rows_percent=50.0)) - {SECRET}
    identities = [text_hash(text) for text, _label in [*ROWS, (SECRET, "pos")]]
    (source.store / "predictions" / "1").mkdir(parents=True)
    parquet.write_table(pyarrow.table({"text_sha256": identities}), source.store / "predictions/1/predictions.parquet")
    file = min(first or source.store.glob(pattern))
    damaged(file)
    for _time in range(2):
        left = forget(request_for(source, SECRET)).left
        assert any(told.startswith((file.as_uri(), file.parent.as_uri())) for told in left)
        assert not Forgotten.read(Store(str(source.store))).unfinished
    file.unlink()
    assert kept_anywhere(source.store, SECRET) == []
    assert texts_of(source.ingest(bad_rows_percent=50.0, force=True)) == others


def test_texts_that_are_nearly_the_forgotten_one_are_told_and_stay(source):
    alike = SECRET.replace("nobody", "no body")
    source.put("second", [(SECRET, "pos"), (alike, "neg"), ("one more", "pos")])
    source.ingest()
    result = forget(request_for(source, SECRET))
    assert (result.near, result.near_examples) == (1, [f"{name_of(source, 'second')}, row 2"])
    assert alike in texts_of(source.ingest())


@pytest.mark.parametrize("policy", ["report", "ignore"])  # with signatures in the store, and without
def test_texts_that_are_nearly_the_named_one_go_as_well_where_that_is_asked_for(source, policy):
    alike = SECRET.replace("nobody", "no body")
    source.put("second", [(SECRET, "pos"), (alike, "neg"), ("one more", "pos")])
    checks = {"policies": {"near_test": policy, "near_duplicate": policy}}
    source.ingest(**checks)
    told = forget(request_for(source, SECRET, near=True, dry_run=True))
    assert kept_anywhere(source.store, alike)
    assert told.near == 1
    assert forget(request_for(source, SECRET, near=True)) == told
    assert kept_anywhere(source.store, alike) == kept_anywhere(source.store, SECRET) == []
    source.put("third", [(alike.upper(), "pos"), ("two more", "pos")])
    result = source.ingest(**checks)
    assert texts_of(result) == {text for text, _label in ROWS} | {"one more", "two more"}
    assert same_as_anew(source, result, **checks)


def test_an_object_takes_along_what_is_nearly_its_rows_where_that_is_asked_for(source):
    alike = SECRET.replace("nobody", "no body")
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    source.put("third", [(alike, "neg"), ("two more", "pos")])
    source.ingest()
    assert forget(request_for(source, objects=["second"], near=True)).counts["rows"] == 3
    assert kept_anywhere(source.store, alike) == []


def test_a_batch_that_lost_all_its_rows_hinders_no_comparison(source):
    source.put("second", [("one more", "pos")])
    source.ingest()
    source.put("third", [("two more", "pos")])
    source.ingest()
    forget(request_for(source, objects=["third"]))
    assert forget(request_for(source, "one more")).counts["rows"] == 1


def test_rows_that_nobody_has_compared_are_told_when_there_are_many(source, monkeypatch):
    from training import near_copies

    source.put("second", [(SECRET, "pos"), (SECRET.replace("nobody", "no body"), "neg")])
    source.ingest(policies={"near_test": "ignore", "near_duplicate": "ignore"})
    monkeypatch.setattr(near_copies, "UNASKED_ROWS", 100)
    result = forget(request_for(source, SECRET, dry_run=True))
    assert (result.near, ["302 rows" in told for told in result.left]) == (0, [True])
    assert forget(request_for(source, SECRET, dry_run=True, near=True)).near == 1


@pytest.mark.parametrize("content", ["{", '{"objects": {}}', '{"objects": [{"rows": 1}]}'])
def test_a_batch_whose_manifest_is_damaged_is_named_before_anything_is_changed(source, content):
    source.ingest()
    damage(source, "batches/*/manifest.json", content)
    with pytest.raises(BadInput, match=r"batches/.*manifest.json is damaged .* Nothing was done"):
        forget(request_for(source, SECRET))
    assert Forgotten.read(Store(str(source.store))) == Forgotten()


def test_what_was_begun_is_finished_once_a_batch_without_backup_is_removed(source):
    source.ingest()
    source.put("second", [(SECRET, "pos"), ("one more", "pos")])
    before = source.ingest()
    with killed_after(1):
        forget(request_for(source, SECRET))
    [file] = [file for file in source.store.glob("batches/*/manifest.json") if "second" not in file.read_text()]
    file.write_text("{")
    with pytest.raises(BadInput, match="or remove its directory"):
        forget(request_for(source, resume=True))
    shutil.rmtree(file.parent)
    left = forget(request_for(source, resume=True)).left
    assert any(told.startswith(f"{before.snapshot} is damaged") for told in left)
    assert kept_anywhere(source.store, SECRET) == []
    assert texts_of(source.ingest(force=True)) == {text for text, _label in ROWS} | {"one more"}
