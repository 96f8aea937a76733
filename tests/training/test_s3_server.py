"""Against a real S3 server, which checks signatures and who may do what: the store and the source in buckets."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from ratchet.ledger import Ledger
from tests.servers import s3_server
from training.contract import IngestRequest, Reading
from training.ingest import ingest
from training.snapshot import open_snapshot, read_table
from training.store import Store

ROOT = Path(__file__).resolve().parents[2]
ROWS = [(f"text number {i}", ["neg", "pos"][i % 2]) for i in range(300)]
SPLITS = ("train", "validation", "test")
OWNER = {"AWS_ACCESS_KEY_ID": "AKIOWNER", "AWS_SECRET_ACCESS_KEY": "0wner-secret"}
READER = {"AWS_ACCESS_KEY_ID": "AKIREADER", "AWS_SECRET_ACCESS_KEY": "reader-secret"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    users = {
        "owner": (OWNER, ["Read:ratchet", "Write:ratchet", "List:ratchet"]),
        "reader": (READER, ["Read:tickets", "List:tickets"]),
        "admin": ({"AWS_ACCESS_KEY_ID": "AKIADMIN", "AWS_SECRET_ACCESS_KEY": "admin-secret"}, ["Admin"]),
    }
    with s3_server(tmp_path_factory.mktemp("s3"), users) as url:
        yield url


@pytest.fixture
def s3(server, monkeypatch, request):
    """Both buckets, empty. The environment opens the store's, and what a connection says opens the source's."""
    import s3fs

    admin = boto3.client(
        "s3",
        endpoint_url=server,
        aws_access_key_id="AKIADMIN",
        aws_secret_access_key="admin-secret",
        region_name="us-east-1",
    )
    for bucket in ("ratchet", "tickets"):
        admin.create_bucket(Bucket=bucket)
    for name, value in {**OWNER, "AWS_ENDPOINT_URL_S3": server, "AWS_DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    for name, value in {**READER, "AWS_ENDPOINT_URL_S3": server}.items():
        monkeypatch.setenv(f"RATCHET_SOURCE_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    yield admin
    for bucket in ("ratchet", "tickets"):
        for page in admin.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                admin.delete_object(Bucket=bucket, Key=entry["Key"])
        admin.delete_bucket(Bucket=bucket)
    admin.close()


def put(s3, name, rows):
    body = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    s3.put_object(Bucket="tickets", Key=name, Body=body.encode())


def request(watermark=None, store="s3://ratchet/store"):
    reading = Reading(source="s3://tickets/in/", text="text", label="label")
    return IngestRequest(pipeline="tickets", store=store, reading=reading, watermark=watermark)


def rows_of(result):
    table = read_table(*open_snapshot(result.snapshot), *SPLITS).to_pydict()
    return sorted(zip(table["text"], table["label"], strict=True))


def test_source_and_store_are_opened_with_keys_of_their_own(s3, tmp_path):
    put(s3, "in/a.jsonl", ROWS)
    result = ingest(request())
    assert rows_of(result) == sorted(ROWS)
    assert result.snapshot == f"s3://ratchet/store/snapshots/{result.digest}"
    manifest = Store("s3://ratchet/store").read_json(f"snapshots/{result.digest}/manifest.json")
    assert (manifest["digest"], manifest["rows"]) == (result.digest, result.rows)
    assert ingest(request(store=str(tmp_path))).digest == result.digest


def test_what_was_read_before_is_not_read_again_and_what_is_settled_is_as_in_files(s3, tmp_path):
    put(s3, "in/a.jsonl", ROWS[:200])
    put(s3, "in/b.jsonl", ROWS[150:250])
    first = ingest(request())
    put(s3, "in/b.jsonl", [(ROWS[0][0], "pos"), *ROWS[150:250]])  # changed: it contradicts a.jsonl now
    put(s3, "in/c.jsonl", ROWS[240:])
    second = ingest(request(first.watermark))
    assert second.objects == {"new": 1, "changed": 1, "removed": 0, "unchanged": 1}
    assert rows_of(second) == sorted(ROWS[1:])
    s3.delete_object(Bucket="tickets", Key="in/b.jsonl")
    third = ingest(request(second.watermark))
    assert third.objects["removed"] == 1
    assert rows_of(third) == sorted(ROWS[:200] + ROWS[240:])
    assert ingest(request(store=str(tmp_path))).digest == third.digest
    assert ingest(request(third.watermark)).hit


def test_of_writers_at_once_each_has_a_number_of_its_own_in_the_ledger(s3):
    def write(number):
        return Ledger(Store("s3://ratchet/store"), "tickets").append("written", by=number)

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(write, range(24)))
    assert sorted(numbers) == list(range(1, 25))
    records = Ledger(Store("s3://ratchet/store"), "tickets").records()
    assert [record["number"] for record in records] == list(range(1, 25))
    assert {record["by"] for record in records} == set(range(24))


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("RATCHET_SOURCE_AWS_SECRET_ACCESS_KEY", "s3://tickets/in/"),
        ("AWS_SECRET_ACCESS_KEY", "S3 refused"),
    ],
)
def test_keys_that_are_refused_are_told_apart_and_not_shown(s3, tmp_path, variable, named):
    put(s3, "in/a.jsonl", ROWS)
    (tmp_path / "request.json").write_text(request().to_json())
    ended = subprocess.run(
        [sys.executable, "-m", "training", "ingest", "--in", "request.json", "--out", "result.json"],
        cwd=tmp_path,
        env={**os.environ, variable: "hunter2hunter2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    error = json.loads((tmp_path / "result.json").read_text())["error"]
    assert ended.returncode == 2, ended.stdout
    assert named in error
    assert "hunter2" not in ended.stdout + error
    assert list(s3.list_objects_v2(Bucket="ratchet").get("Contents", [])) == []
