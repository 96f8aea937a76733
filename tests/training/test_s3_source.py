"""Against moto's S3 on loopback, addressed as users do: by AWS's environment variables."""

import gzip
import io
import json
import logging
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import parquet

from training.contract import BadInput, ForgetRequest, IngestRequest, Reading
from training.forget import forget
from training.ingest import ingest
from training.snapshot import read_split
from training.store import Store, hash_tree
from training.text import identity_of

ROOT = Path(__file__).resolve().parents[2]
ROWS = [(f"text number {i}", ["neg", "pos"][i % 2]) for i in range(300)]


@pytest.fixture(scope="module")
def endpoint():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint, monkeypatch):
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="acme")
    yield client
    for entry in client.list_objects_v2(Bucket="acme").get("Contents", []):
        client.delete_object(Bucket="acme", Key=entry["Key"])
    client.delete_bucket(Bucket="acme")
    client.close()


def jsonl(rows):
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows).encode()


def request(source, store="s3://acme/store", **values):
    return IngestRequest(
        pipeline="films", store=str(store), reading=Reading(source=source, text="text", label="label"), **values
    )


def test_a_folder_or_glob_in_a_bucket_gives_the_snapshot_that_local_files_give(s3, tmp_path):
    s3.put_object(Bucket="acme", Key="in/a.jsonl", Body=jsonl(ROWS[:100]))
    s3.put_object(Bucket="acme", Key="in/b.jsonl.gz", Body=gzip.compress(jsonl(ROWS[100:])))
    s3.put_object(Bucket="acme", Key="in/_SUCCESS", Body=b"")
    (tmp_path / "rows.jsonl").write_bytes(jsonl(ROWS))
    local = ingest(request(str(tmp_path / "rows.jsonl"), tmp_path / "store"))
    folder, glob = ingest(request("s3://acme/in/")), ingest(request("s3://acme/in/*.jsonl*"))
    assert folder.digest == glob.digest == local.digest
    assert (folder.hit, glob.hit) == (False, True)
    assert folder.snapshot == f"s3://acme/store/snapshots/{local.digest}"
    assert folder.source["files"] == 2
    store = Store("s3://acme/store")
    assert {row for split in local.rows for row in read_split(store, store.key(folder.snapshot), split)} == set(ROWS)


def test_files_that_arrive_between_two_reads_are_seen(s3):
    s3.put_object(Bucket="acme", Key="in/a.jsonl", Body=jsonl(ROWS[:200]))
    ingest(request("s3://acme/in/"))
    s3.put_object(Bucket="acme", Key="in/b.jsonl", Body=jsonl(ROWS[200:]))
    result = ingest(request("s3://acme/in/"))
    assert result.why.startswith("miss: 2 new objects; 100 rows added since snapshot ")


def test_an_object_name_is_shown_as_its_uri(s3):
    s3.put_object(Bucket="acme", Key="in/a.csv", Body=b"texts,label\na,b\n")
    with pytest.raises(BadInput, match=r"s3://acme/in/a\.csv: no column 'text'"):
        ingest(request("s3://acme/in/a.csv"))


@pytest.mark.parametrize("source", ["s3://acme/nothing/*.csv", "s3://acme/nothing.csv", "s3://nobody/x.csv"])
def test_nothing_in_the_bucket_is_refused(s3, source):
    with pytest.raises(BadInput, match="matches no file"):
        ingest(request(source))


def test_no_credentials_are_refused_with_what_to_set(s3, monkeypatch, tmp_path):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(BadInput, match="AWS_ACCESS_KEY_ID"):
        ingest(request("s3://acme/in/*.csv", tmp_path / "store"))


@contextmanager
def refusing(status, code):
    """An S3 that refuses every request, and repeats the session token in its answer."""

    class Refuses(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told = f"not with {self.headers.get('X-Amz-Security-Token')}"
            body = f"<Error><Code>{code}</Code><Message>{told}</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_PUT = do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "InvalidToken"),
        (400, "ExpiredToken"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (403, "AccessDenied"),
    ],
)
@pytest.mark.parametrize("where", ["source", "store"])
def test_credentials_that_s3_refuses_are_not_tried_again_and_named_but_not_shown(tmp_path, status, code, where):
    (tmp_path / "rows.jsonl").write_bytes(jsonl(ROWS))
    places = {"source": str(tmp_path / "rows.jsonl"), "store": str(tmp_path / "store")}
    places[where] = f"s3://acme/{where}"
    reading = Reading(source=places["source"], text="text", label="label")
    (tmp_path / "request.json").write_text(
        IngestRequest(pipeline="films", store=places["store"], reading=reading).to_json()
    )
    with refusing(status, code) as endpoint:
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "training", "ingest", "--in", str(tmp_path / "request.json")),
                *("--out", str(tmp_path / "result.json")),
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_ACCESS_KEY_ID": "AKIAHUNTER2",
                "AWS_SECRET_ACCESS_KEY": "hunter2/hunter2",
                "AWS_SESSION_TOKEN": "hunter2+hunter2=",
                "AWS_DEFAULT_REGION": "us-east-1",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    error = json.loads((tmp_path / "result.json").read_text())["error"]
    assert ended.returncode == 2, ended.stdout
    assert "S3 refused" in error
    assert "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN" in error
    if where == "source":
        assert "s3://acme/source" in error
        assert code in error
    for told in (ended.stdout, ended.stderr, error):
        assert "hunter2" not in told.lower()


def test_an_object_that_may_be_listed_but_not_read_is_refused_with_what_to_check(s3, monkeypatch):
    import s3fs
    from botocore.exceptions import ClientError

    s3.put_object(Bucket="acme", Key="in/a.jsonl", Body=jsonl(ROWS))
    denied = {"Error": {"Code": "AccessDenied", "Message": "not this one"}}

    def refuse(*_args, **_kwargs):
        raise PermissionError("not this one") from ClientError(denied, "GetObject")

    monkeypatch.setattr(s3fs.S3FileSystem, "open", refuse)
    with pytest.raises(BadInput, match=r"s3://acme/in/a\.jsonl: S3 refused .*AccessDenied.* Check AWS_ACCESS_KEY_ID"):
        ingest(request("s3://acme/in/"))


def test_the_store_keeps_its_promises_in_a_bucket(s3, tmp_path):
    store = Store("s3://acme/store")
    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "deep" / "a.bin").write_bytes(b"a")
    assert not store.is_complete("models/1")
    with pytest.raises(BadInput, match="missing or unfinished"):
        store.local_directory("models/1", tmp_path / "cache")
    assert store.put_directory(tmp_path / "made", "models/1", {"n": 1}) == "s3://acme/store/models/1"
    copy = store.local_directory("models/1", tmp_path / "cache")
    assert hash_tree(copy) == hash_tree(tmp_path / "made")
    assert store.local_directory("models/1", tmp_path / "cache") == copy
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [copy.name]
    assert store.list("models/1") == ["models/1/deep", "models/1/manifest.json"]


def test_of_two_writers_of_one_object_one_wins(s3):
    store = Store("s3://acme/store")
    store.create_json("ledger/000001.json", {"n": 1})
    with pytest.raises(FileExistsError):
        store.create_json("ledger/000001.json", {"n": 2})
    assert store.read_json("ledger/000001.json") == {"n": 1}
    with pytest.raises(FileNotFoundError):
        store.read_json("ledger/000002.json")


def test_a_text_is_forgotten_in_a_store_in_a_bucket(s3, tmp_path):
    s3.put_object(Bucket="acme", Key="in/a.jsonl", Body=jsonl([*ROWS, ("my secret", "pos"), ("my secret", None)]))
    before = ingest(request("s3://acme/in/"))
    asked = {"store": "s3://acme/store", "work": str(tmp_path), "watermarks": [before.watermark]}
    done = forget(ForgetRequest(**asked, texts=[identity_of("My Secret")]))
    assert (done.counts["rows"], done.counts["refused rows"]) == (1, 1)
    assert done.examples == [f"s3://acme/in/a.jsonl, row {len(ROWS) + 1}"]
    for listed in s3.list_objects_v2(Bucket="acme", Prefix="store/")["Contents"]:
        content = s3.get_object(Bucket="acme", Key=listed["Key"])["Body"].read()
        if listed["Key"].endswith(".parquet"):
            content = str(parquet.read_table(io.BytesIO(content)).to_pylist()).encode()
        assert b"my secret" not in content
    after = ingest(request("s3://acme/in/", watermark=before.watermark))
    assert sum(after.rows.values()) == sum(before.rows.values()) - 1
