"""New data goes wrong: a clear error, no half snapshot, the last good one stays in force, and the next run recovers."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.training.faulty_s3 import address, answering
from training.contract import BadInput, IngestRequest, Reading
from training.ingest import ingest
from training.snapshot import open_snapshot, read_table
from training.sources import ReadFailed, objects

ROOT = Path(__file__).resolve().parents[2]
OLD = [(f"text number {i}", ["neg", "pos"][i % 2]) for i in range(300)]
NEW = [(f"new text number {i}", ["neg", "pos"][i % 2]) for i in range(200)]


def jsonl(rows):
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows).encode()


def as_parquet(rows):
    texts, labels = zip(*rows, strict=True)
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"text": texts, "label": labels}), sink)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "data"
    made.mkdir()
    (made / "old.jsonl").write_bytes(jsonl(OLD))
    return made


def request(folder, watermark=None):
    reading = Reading(source=str(folder), text="text", label="label")
    return IngestRequest(pipeline="films", store=str(folder.parent / "store"), reading=reading, watermark=watermark)


def rows_of(result):
    table = read_table(*open_snapshot(result.snapshot), "train", "validation", "test").to_pydict()
    return sorted(zip(table["text"], table["label"], strict=True))


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def as_somebody():
    """:return: what is put before a command, so that modes count: root may read everything."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv")
    return ["setpriv", "--reuid=nobody", "--clear-groups"]


@pytest.mark.parametrize(
    ("name", "whole", "found"),
    [
        ("new.jsonl.gz", gzip.compress(jsonl(NEW)), "damaged or cut off"),
        ("new.parquet", as_parquet(NEW), "new.parquet"),
    ],
)
def test_a_file_that_was_cut_off_is_named_and_the_whole_one_is_taken_in_by_the_next_run(folder, name, whole, found):
    first = ingest(request(folder))
    (folder / name).write_bytes(whole[: len(whole) // 2])
    before = files_below(folder.parent / "store")
    with pytest.raises(BadInput, match=rf"{name}.*") as refused:
        ingest(request(folder, first.watermark))
    assert found in str(refused.value)
    assert files_below(folder.parent / "store") == before
    assert rows_of(first) == sorted(OLD)
    (folder / name).write_bytes(whole)
    assert rows_of(ingest(request(folder, first.watermark))) == sorted(OLD + NEW)


@pytest.mark.parametrize(
    ("status", "code", "error", "found"),
    [(403, "AccessDenied", BadInput, "S3 refused"), (503, "SlowDown", ReadFailed, "reading failed")],
)
def test_a_bucket_that_forbids_or_is_away_is_told_and_read_when_it_is_back(
    folder, bucket, monkeypatch, status, code, error, found
):
    def asked(watermark=None):
        reading = Reading(source="s3://acme/in/", text="text", label="label")
        return IngestRequest(pipeline="films", store=str(folder.parent / "store"), reading=reading, watermark=watermark)

    bucket.put_object(Bucket="acme", Key="in/old.jsonl", Body=jsonl(OLD))
    first = ingest(asked())
    bucket.put_object(Bucket="acme", Key="in/a.jsonl", Body=jsonl(NEW))
    before = files_below(folder.parent / "store")
    well = os.environ["AWS_ENDPOINT_URL_S3"]
    with answering(status, code, behind=well) as endpoint:
        address(monkeypatch, endpoint)
        with pytest.raises(error, match=rf"s3://acme/in/a\.jsonl: {found}"):
            ingest(asked(first.watermark))
    assert files_below(folder.parent / "store") == before
    address(monkeypatch, well)
    assert rows_of(ingest(asked(first.watermark))) == sorted(OLD + NEW)


@pytest.mark.parametrize("what", ["vanishes", "changes"])
def test_an_object_that_vanishes_or_changes_while_it_is_read_costs_a_retry(folder, monkeypatch, what):
    first = ingest(request(folder))
    new = folder / "new.jsonl"
    new.write_bytes(jsonl(NEW))
    before = files_below(folder.parent / "store")

    @contextmanager
    def opened(fs, found, really=objects._opened):
        with really(fs, found) as file:
            new.unlink()
            if what == "changes":
                new.write_bytes(jsonl(NEW[:100]))
            yield file

    with monkeypatch.context() as patch:
        patch.setattr(objects, "_opened", opened)
        with pytest.raises(ReadFailed, match=r"new\.jsonl: it (is gone|changed) since the source was listed"):
            ingest(request(folder, first.watermark))
    assert files_below(folder.parent / "store") == before
    left = NEW[:100] if what == "changes" else []
    assert rows_of(ingest(request(folder, first.watermark))) == sorted(OLD + left)


def test_a_file_that_may_not_be_read_is_named_and_read_once_it_may(folder):
    first = ingest(request(folder))
    (folder / "new.jsonl").write_bytes(jsonl(NEW))
    (folder / "new.jsonl").chmod(0)
    before = files_below(folder.parent / "store")
    read = (
        "from training.sources import open_source; from training.sources.part import Columns\n"
        f"[part] = [p for p in open_source({str(folder)!r}).parts if 'new' in p.name]\n"
        "list(part.read(Columns('text', 'label')))"
    )
    somebody = as_somebody()
    for place in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) in place.parents:  # pytest keeps what is below to its user
            place.chmod(0o755)
    ended = subprocess.run([*somebody, sys.executable, "-c", read], cwd=ROOT, capture_output=True, text=True)
    assert "BadInput" in ended.stderr
    assert "new.jsonl: not allowed to read it" in ended.stderr
    assert "Check the file's mode." in ended.stderr
    assert files_below(folder.parent / "store") == before
    (folder / "new.jsonl").chmod(0o644)
    assert rows_of(ingest(request(folder, first.watermark))) == sorted(OLD + NEW)


FULL = """
mount -t tmpfs -o size=1m tmpfs {store} && cd {here}
ingest() {{ {python} -m training ingest --in $1.json --out $1-result.json > $1.log; echo $? > $1.status; }}
ingest first
sed "s|WATERMARK|$({python} -c 'import json; print(json.load(open("first-result.json"))["watermark"])')|" \\
  again.json > second.json
cp second.json third.json
find {store} -type f | sort > before
cp {new} {data}
ingest second
find {store} -type f | sort > after
mount -o remount,size=100m {store}
ingest third
cp -r {store} kept
"""


def test_a_disk_that_fills_half_way_is_named_and_once_there_is_room_the_next_run_takes_everything_in(folder):
    here, store = folder.parent, folder.parent / "store"
    store.mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mounted = subprocess.run([*namespace, f"mount -t tmpfs tmpfs {store}"], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system of one's own may be mounted here (unshare, mount)")
    many = [(f"{os.urandom(60).hex()} {i}", "ab"[i % 2]) for i in range(20_000)]  # which nothing can compress
    (here / "new.jsonl").write_bytes(jsonl(many))
    (here / "first.json").write_text(request(folder).to_json())
    (here / "again.json").write_text(request(folder, "WATERMARK").to_json())
    script = FULL.format(store=store, here=here, python=sys.executable, data=folder, new=here / "new.jsonl")
    subprocess.run([*namespace, script], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    status = [int((here / f"{run}.status").read_text()) for run in ("first", "second", "third")]
    assert status == [0, 1, 0], (here / "second.log").read_text()
    error = json.loads((here / "second-result.json").read_text())["error"]
    assert "A disk is full" in error
    assert "Make room" in error
    assert "Traceback" not in (here / "second.log").read_text()
    assert (here / "after").read_text() == (here / "before").read_text()
    digest = json.loads((here / "third-result.json").read_text())["digest"]
    shutil.copytree(here / "kept", store, dirs_exist_ok=True)
    table = read_table(*open_snapshot(f"{store.as_uri()}/snapshots/{digest}"), "train", "validation", "test")
    assert table.num_rows == len(OLD) + len(many)
