"""What an alias, an endpoint, one of the last verdicts or a run needs stays; the rest goes whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta

import pytest

from ratchet.hooks.model_registry import ListedVersion
from ratchet.ledger import ALIAS_DONE, INGESTED, Ledger
from ratchet.retention import Retention
from tests.servers import s3_server
from training.store import Store

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def digest(name):
    return hashlib.sha256(name.encode()).hexdigest()


class World:
    """A store whose objects are called by names; each stands for its digest. All are 30 days old unless said."""

    def __init__(self, root):
        self.root, self.store = root, Store(str(root))
        self.ledger = Ledger(self.store, "intents", lambda: NOW)
        self.versions, self.endpoints, self.names = [], [], {}

    def put(self, kind, name, days=30, manifest="manifest.json", **told):
        place = self.root / kind / digest(name)
        place.mkdir(parents=True)
        self.names[f"{kind}/{digest(name)}"] = f"{kind}/{name}"
        for file, content in ((manifest, told), ("content", name * 10)):
            (place / file).write_text(json.dumps(content))
            self.age(place / file, days)

    def age(self, path, days):
        at = (NOW - timedelta(days=days)).timestamp()
        os.utime(path, (at, at))

    def version(self, number, *aliases, verdict="hold"):
        """A version with all that a run makes of one."""
        self.put("models", f"m{number}")
        self.put("releases", f"r{number}", manifest="release.json")
        self.put("batches", f"b{number}")
        self.put("watermarks", f"w{number}", batches=[digest(f"b{number}")])
        layout = {
            "batches": [{"key": digest(f"b{number}")}],
            "deletions": f"watermarks/{digest(f'w{number}')}/d.parquet",
        }
        self.put("snapshots", f"s{number}", layout=layout)
        self.put("predictions", f"p{number}")
        self.put("evaluations", f"e{number}", candidate={"digest": digest(f"m{number}")})
        report = self.root / "evaluations" / digest(f"e{number}") / "report.json"
        report.write_text(json.dumps({"predictions": {"candidate": f"file:///s/predictions/{digest(f'p{number}')}/p"}}))
        self.age(report, 30)
        tags = {
            "ratchet.model_digest": digest(f"m{number}"),
            "ratchet.snapshot": digest(f"s{number}"),
            "ratchet.release": digest(f"r{number}"),
            **({"ratchet.verdict": verdict} if verdict else {}),
        }
        self.versions.insert(0, ListedVersion("intents", str(number), f"run{number}", tags, aliases))

    @property
    def retention(self):
        return Retention(self.store, [self.versions], self.endpoints, verdicts=2, older_than=timedelta(days=7), now=NOW)

    def goes(self):
        return sorted(self.names[one.key] for one in self.retention.unneeded())


def all_of(number):
    kinds = ("batches/b", "evaluations/e", "models/m", "predictions/p", "releases/r", "snapshots/s", "watermarks/w")
    return [f"{kind}{number}" for kind in kinds]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "store")


@pytest.mark.parametrize("alias", ["champion", "previous", "challenger", "best", "somebody-elses"])
def test_what_a_version_with_an_alias_is_made_of_stays(world, alias):
    world.version(1, alias)
    for number in (2, 3, 4):
        world.version(number)
    assert world.goes() == all_of(2)


def test_the_last_verdicts_stay_and_what_nobody_needs_goes(world):
    for number in (1, 2, 3, 4):
        world.version(number)
    assert world.goes() == sorted([*all_of(1), *all_of(2)])


def test_the_best_that_was_ever_promoted_stays(world):
    for number in (1, 2, 3, 4, 5):
        world.version(number)
    for number, raises in (("1", True), ("2", True), ("3", False)):
        move = {"model": "intents", "from": None, "to": number, "model_digest": digest(f"m{number}")}
        world.ledger.append(ALIAS_DONE, raises_mark=raises, release=digest("none"), **move)
    goes = world.goes()
    assert set(all_of(1)) <= set(goes)
    assert not set(all_of(2)) & set(goes)


def test_what_an_endpoint_serves_served_before_or_is_about_to_serve_stays(world):
    for number in (1, 2, 3, 4, 5):
        world.version(number, verdict=None)
    world.endpoints = [
        {
            "name": "desk",
            "digest": digest("r1"),
            "previous": {"digest": digest("r2")},
            "deployment": {"digest": digest("r3")},
        }
    ]
    goes = world.goes()
    assert not {"releases/r1", "releases/r2", "releases/r3"} & set(goes)
    assert {"releases/r4", "releases/r5", "models/m1"} <= set(goes)


def test_the_release_of_a_candidate_that_waits_for_a_person_stays(world):
    """Nothing but the report names it until it is deployed; a run may wait for longer than what is young stays."""
    for number in (1, 2):
        world.put("releases", f"r{number}", manifest="release.json")
        world.put("evaluations", f"e{number}")
        report = {"candidate": {"serving": {"release": f"file:///s/releases/{digest(f'r{number}')}"}}}
        path = world.root / "evaluations" / digest(f"e{number}") / "report.json"
        path.write_text(json.dumps(report))
        world.age(path, 30)
    world.store.write_json("keys/evaluate/last/intents.json", {"key": digest("e1")})
    assert world.goes() == ["evaluations/e2", "releases/r2"]


def test_what_is_read_and_the_last_snapshots_stay_with_their_rows(world):
    for number in (1, 2, 3):
        world.put("batches", f"b{number}")
        world.put("watermarks", f"w{number}", batches=[digest(f"b{number}")], snapshot=digest(f"s{number}"))
        world.put("snapshots", f"s{number}", layout={"batches": [{"key": digest(f"b{number}")}]})
        world.put("data-reports", f"d{number}", before=digest(f"s{number - 1}"))
        place = {"digest": digest(f"s{number}"), "report": f"file:///s/data-reports/{digest(f'd{number}')}"}
        world.ledger.append(INGESTED, watermark=f"file:///s/watermarks/{digest(f'w{number}')}", **place)
    assert world.goes() == ["batches/b1", "data-reports/d1", "snapshots/s1", "watermarks/w1"]


def test_a_batch_that_a_later_snapshot_shares_stays(world):
    world.version(1)
    for number in (2, 3):
        world.version(number)
    manifest = world.root / "snapshots" / digest("s3") / "manifest.json"
    manifest.write_text(json.dumps({"layout": {"batches": [{"key": digest("b1")}, {"key": digest("b3")}]}}))
    assert "batches/b1" not in world.goes()
    assert "snapshots/s1" in world.goes()


def test_nothing_younger_than_a_week_goes_nor_what_it_names(world):
    world.put("batches", "b")
    world.put("snapshots", "young", days=6, layout={"batches": [{"key": digest("b")}]})
    world.put("models", "young", days=6)
    world.put("models", "old", days=8)
    assert world.goes() == ["models/old"]


def test_what_a_run_found_made_already_stays(world):
    """The run looks it up and names it before it uses it."""
    world.put("models", "found")
    world.put("models", "lost")
    world.store.write_json(f"keys/train/{digest('key')}.json", {"result": {"digest": digest("found")}})
    world.store.write_json("keys/train/last/intents.json", {"key": digest("key"), "parts": {}})
    assert world.goes() == ["models/lost"]


def test_all_answers_of_a_version_that_is_kept_stay(world):
    for number in (1, 2, 3):
        world.version(number)
        world.put("predictions", f"torch{number}", model=digest(f"m{number}"), runtime="torch")
    assert world.goes() == sorted([*all_of(1), "predictions/torch1"])


def test_a_verdict_goes_with_its_candidate(world):
    for number in (1, 2, 3):
        world.version(number)
        world.put("verdicts", f"v{number}", evidence={"candidate": digest(f"m{number}")}, rules={})
    assert world.goes() == sorted([*all_of(1), "verdicts/v1"])


def test_what_killed_processes_left_unfinished_goes_when_it_is_old(world):
    for name, days in (("old", 8), ("young", 1)):
        part = world.root / "models" / digest(name) / ".part-1-model.safetensors"
        part.parent.mkdir(parents=True)
        part.write_text("half")
        world.age(part, days)
        world.names[f"models/{digest(name)}"] = name
    assert world.goes() == ["old"]


def test_nothing_else_in_the_store_is_looked_at(world):
    world.store.write_json("forgotten.json", {})
    world.put("signatures", "x")
    world.ledger.append(INGESTED, digest=None, watermark=None, report=None)
    assert world.goes() == []


def remove_all(world):
    retention = world.retention
    for one in retention.unneeded():
        retention.remove(one)


def test_a_removal_is_whole_and_may_be_repeated(world):
    for number in (1, 2, 3):
        world.version(number)
    remove_all(world)
    assert world.goes() == []
    remove_all(world)
    assert not (world.root / "models" / digest("m1")).exists()
    assert world.store.is_complete(f"models/{digest('m2')}")


def test_what_a_killed_removal_leaves_counts_as_absent_and_goes_the_next_time(world, monkeypatch):
    for number in (1, 2, 3):
        world.version(number)

    def killed(path, recursive):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.store.fs, "rm", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_all(world)
    [half] = [one for one in world.retention.unneeded() if not world.store.is_complete(one.key, _manifest(one))]
    assert world.names[half.key] in all_of(1)
    remove_all(world)
    assert world.goes() == []


def _manifest(one):
    return "release.json" if one.kind == "releases" else "manifest.json"


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """:return: the URI of a store on a server that checks signatures."""
    import s3fs

    keys = {"AWS_ACCESS_KEY_ID": "AKIOWNER", "AWS_SECRET_ACCESS_KEY": "0wner-secret"}
    with s3_server(tmp_path / "s3", {"owner": (keys, ["Admin"])}) as url:
        for name, value in {**keys, "AWS_ENDPOINT_URL_S3": url, "AWS_DEFAULT_REGION": "us-east-1"}.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("ratchet")
        yield "s3://ratchet/store"
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_is_tidied_as_a_folder_is(bucket):
    store = Store(bucket)
    kept, gone = digest("kept"), digest("gone")
    for name in (kept, gone):
        store.write_bytes(f"models/{name}/model.safetensors", b"w" * 1000)
        store.write_json(f"models/{name}/manifest.json", {"digest": name})
        store.write_json(f"evaluations/{name}/manifest.json", {"candidate": {"digest": name}})
        report = {"predictions": {"candidate": store.uri(f"predictions/{name}/predictions.parquet")}}
        store.write_json(f"evaluations/{name}/report.json", report)
        store.write_json(f"predictions/{name}/manifest.json", {"model": name})
    tags = {"ratchet.model_digest": kept, "ratchet.verdict": "hold"}
    Ledger(store, "intents").append(INGESTED, digest=digest("none"))
    versions = [ListedVersion("intents", "1", "run1", tags)]

    def retention(now):
        return Retention(store, [versions], [], verdicts=1, older_than=timedelta(days=7), now=now)

    assert retention(datetime.now(UTC)).unneeded() == []  # all of it is young
    later = retention(datetime.now(UTC) + timedelta(days=30))
    goes = later.unneeded()
    assert [one.key for one in goes] == [f"models/{gone}", f"evaluations/{gone}", f"predictions/{gone}"]
    assert goes[0].bytes > 1000
    for one in goes:
        later.remove(one)
        later.remove(one)  # killed and repeated
    assert later.unneeded() == []
    for kind in ("models", "evaluations", "predictions"):
        assert store.list(kind) == [f"{kind}/{kept}"]
    assert store.is_complete(f"models/{kept}")
