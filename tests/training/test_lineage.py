"""Which objects a snapshot's rows came from."""

from pathlib import Path

import pytest

from training import lineage
from training.contract import BadInput
from training.keys import Records
from training.lineage import making_of, objects_of_snapshot
from training.store import Store


def objects_of(result):
    root, _, digest = result.snapshot.rpartition("/snapshots/")
    return objects_of_snapshot(Store(root), f"snapshots/{digest}")


def names(result):
    return [Path(one.name).stem for one in objects_of(result)]


def test_a_snapshot_names_the_objects_of_all_its_batches(source):
    source.ingest()
    source.put("second", [("one more", "pos"), ("", "pos")])
    found = objects_of(source.ingest())
    assert [(Path(one.name).stem, one.rows) for one in found] == [("first", 300), ("second", 2)]
    assert found[0].batch != found[1].batch
    assert all(one.version for one in found)


def test_an_object_that_is_gone_is_in_the_snapshots_from_before_alone(source):
    source.put("second", [("one more", "pos")])
    before = source.ingest()
    source.remove("second")
    assert names(source.ingest()) == ["first"]
    assert names(before) == ["first", "second"]


def test_a_changed_object_is_named_in_the_version_that_was_read(source):
    source.put("second", [("one more", "pos")])
    before = source.ingest()
    source.put("second", [("one less", "pos")])
    after = source.ingest()
    versions = [next(one.version for one in objects_of(each) if "second" in one.name) for each in (before, after)]
    assert versions[0] != versions[1]
    assert names(after) == ["first", "second"]


def test_a_snapshot_whose_batch_is_gone_says_so_and_names_it(source):
    result = source.ingest()
    batch = objects_of(result)[0].batch
    Path(source.place, "store", "batches", batch, "manifest.json").unlink()
    with pytest.raises(BadInput, match=f"{batch}.*is gone or damaged"):
        objects_of(result)


def test_what_a_model_was_made_of_is_known_by_its_digest(tmp_path):
    store = Store(str(tmp_path))
    told = {"key": "k1", "training": {"base_model": "bert-tiny", "rows": {"train": 30}, "history": []}}
    store.write_json("models/d1/manifest.json", told)
    Records(store, "train").write("k1", {"snapshot": "s1"}, {"run_id": "run14"}, "films")
    assert making_of(store, "d1") == {
        "key": "k1",
        "base_model": "bert-tiny",
        "rows": {"train": 30},
        "snapshot": "s1",
        "run_id": "run14",
        "object_count": 0,
        "objects": [],
        "found": [],
    }


def test_what_the_checks_said_of_its_data_is_told(source):
    source.put("second", [(f"a text of its own {i}", "pos") for i in range(300)])
    result = source.ingest()
    assert result.warnings
    store = Store(result.snapshot.rpartition("/snapshots/")[0])
    store.write_json("models/d1/manifest.json", {"key": "k1", "training": {"base_model": "b", "rows": {}}})
    Records(store, "train").write("k1", {"snapshot": result.digest}, {}, "films")
    assert making_of(store, "d1")["found"] == result.warnings
    store.remove(f"{store.key(result.report)}/report.json")
    assert making_of(store, "d1")["found"] == []


def test_objects_of_the_training_are_told_the_largest_first(source, monkeypatch):
    source.put("second", [("one more", "pos")])
    result = source.ingest()
    store = Store(result.snapshot.rpartition("/snapshots/")[0])
    store.write_json("models/d1/manifest.json", {"key": "k1", "training": {"base_model": "b", "rows": {}}})
    Records(store, "train").write("k1", {"snapshot": result.digest}, {}, "films")
    found = making_of(store, "d1")
    assert [(Path(one["name"]).stem, one["rows"]) for one in found["objects"]] == [("first", 300), ("second", 1)]
    monkeypatch.setattr(lineage, "TOLD_OBJECTS", 1)
    assert (making_of(store, "d1")["object_count"], len(making_of(store, "d1")["objects"])) == (2, 1)


def test_of_a_model_that_came_from_elsewhere_nothing_is_known(tmp_path):
    store = Store(str(tmp_path))
    assert making_of(store, "d1") == {}
    store.write_json("models/d1/manifest.json", {"digest": "d1"})
    assert making_of(store, "d1") == {}
    store.write_json("models/d1/manifest.json", {"key": "k1", "imported": {"from": "acme/films@1a2b"}})
    assert making_of(store, "d1") == {"imported": "acme/films@1a2b"}
