"""Every spec in "Bring your data" is read by its pipeline's first task, from the real thing or a stand-in."""

from __future__ import annotations

import json
import re
import subprocess

import boto3
import pytest

from ratchet import settings
from ratchet.factory import build
from ratchet.spec import load_spec
from tests.hub import serve_hub
from tests.ratchet.fakes import context
from tests.servers import ROOT, postgres_server, s3_server, training_python

PAGE = (ROOT / "docs" / "data.md").read_text()
SPECS = dict(re.findall(r"^```yaml\n# dags/([\w-]+)\.yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
ROWS = [(f"ticket number {i}", ["billing", "technical"][i % 2]) for i in range(200)]

NAMES = ["a.csv", "b.tsv", "c.jsonl", "d.parquet", "e.arrow", "f.csv.gz", "g.tsv.zst", "h.jsonl.zst", "i.ndjson.gz"]

# Writes each file its share of the rows, with what Airflow's environment does not have
WRITE = """
import json, sys
import pyarrow
from pyarrow import csv, feather, parquet

rows = [dict(zip(("message", "topic"), row)) for row in json.load(sys.stdin)]
for place, target in enumerate(sys.argv[1:]):
    own = rows[place :: len(sys.argv) - 1]
    table = pyarrow.Table.from_pylist(own)
    if ".parquet" in target:
        parquet.write_table(table, target)
    elif ".arrow" in target:
        feather.write_feather(table, target)
    else:
        with pyarrow.output_stream(target) as out:  # compresses by the name
            if "json" in target:
                out.write("".join(json.dumps(row) + "\\n" for row in own).encode())
            else:
                csv.write_csv(table, out, csv.WriteOptions(delimiter="\\t" if ".tsv" in target else ","))
"""


@pytest.fixture
def take_in(tmp_path, monkeypatch):
    """:return: what runs the first task of the pipeline on the page and returns how many rows it took in."""
    monkeypatch.setenv("AIRFLOW__RATCHET__TRAINING_PYTHON", training_python())
    monkeypatch.setattr(settings, "store_uri", lambda: (tmp_path / "store").as_uri())
    monkeypatch.setattr(settings, "work_directory", lambda: tmp_path / "work")

    def run(name: str, **replaced: str) -> int:
        text = SPECS[name]
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / f"{name}.yaml").write_text(text)
        task = build(load_spec(tmp_path / f"{name}.yaml")).get_task("ingest")
        task.source_override = task.date = None  # templates, which no context fills in here
        task.force = False
        return sum(task.execute(context())["rows"].values())

    return run


def test_the_page_has_one_spec_for_each_kind_of_source():
    assert sorted(SPECS) == ["tickets-bucket", "tickets-database", "tickets-files", "tickets-hub"]


def test_files_of_every_format_but_none_that_is_still_written(take_in, tmp_path):
    (tmp_path / "data").mkdir()
    files = [str(tmp_path / "data" / name) for name in NAMES]
    subprocess.run([training_python(), "-c", WRITE, *files], input=json.dumps(ROWS), text=True, check=True)
    (tmp_path / "data" / "j.csv.part").write_text("half a")
    assert take_in("tickets-files", **{"/data/tickets": str(tmp_path / "data")}) == len(ROWS)


def test_a_bucket_with_keys_that_are_not_the_environments(take_in, tmp_path, monkeypatch):
    keys = {"AWS_ACCESS_KEY_ID": "AKIREADER", "AWS_SECRET_ACCESS_KEY": "reader-secret"}
    owner = {"AWS_ACCESS_KEY_ID": "AKIOWNER", "AWS_SECRET_ACCESS_KEY": "owner-secret"}
    users = {"reader": (keys, ["Read:acme", "List:acme"]), "owner": (owner, ["Admin"])}
    lines = "".join(json.dumps({"message": text, "topic": label}) + "\n" for text, label in ROWS)
    with s3_server(tmp_path / "s3", users) as url:
        own = {name.lower(): value for name, value in owner.items()}
        bucket = boto3.resource("s3", endpoint_url=url, region_name="us-east-1", **own).create_bucket(Bucket="acme")
        bucket.put_object(Key="tickets/a.jsonl", Body=lines.encode())
        bucket.meta.client.close()
        connection = {"conn_type": "aws", "login": "AKIREADER", "password": "reader-secret"}
        connection["extra"] = {"region_name": "us-east-1", "endpoint_url": url}
        monkeypatch.setenv("AIRFLOW_CONN_TICKETS_BUCKET", json.dumps(connection))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKISTORE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "which-opens-no-source")
        assert take_in("tickets-bucket") == len(ROWS)


def test_a_hub_data_set(take_in, tmp_path, monkeypatch):
    lines = "".join(json.dumps({"message": text, "topic": label}) + "\n" for text, label in ROWS)
    with serve_hub() as hub:
        hub.commit("acme/tickets", {"README.md": b"---\nlicense: mit\n---\n", "train.jsonl": lines.encode()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        assert take_in("tickets-hub") == len(ROWS)


def test_a_database(take_in, monkeypatch):
    with postgres_server() as port:
        values = ", ".join(f"('{text}', '{label}', true), ('{text} open', '{label}', false)" for text, label in ROWS)
        sql = f"CREATE TABLE tickets (message text, topic text, closed boolean); INSERT INTO tickets VALUES {values}"
        address = ["-h", "127.0.0.1", "-p", str(port), "-U", "ratchet", "-d", "postgres"]
        subprocess.run(["psql", "-q", *address], input=sql, text=True, check=True)
        connection = {"conn_type": "postgres", "host": "127.0.0.1", "port": port, "schema": "postgres"}
        connection |= {"login": "ratchet", "password": "hush-hush"}
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(connection))
        assert take_in("tickets-database") == len(ROWS)
        assert take_in("tickets-database") == len(ROWS)  # and goes on from there
