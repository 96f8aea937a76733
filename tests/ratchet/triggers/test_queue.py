"""A bucket's notifications wake the trigger up, through a real queue's protocol."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from ratchet.triggers.new_data import NewDataTrigger
from tests.servers import free_port, running, training_python

# What the provider and aiobotocore warn about is theirs.
pytestmark = pytest.mark.filterwarnings("default")

KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "secret", "region_name": "eu-north-1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    port = free_port()
    command = [training_python(), "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/moto-api/", tmp_path_factory.mktemp("moto") / "log"):
        yield url


@pytest.fixture
def queue(server, monkeypatch):
    import boto3

    connection = {
        "conn_type": "aws",
        "login": KEYS["aws_access_key_id"],
        "password": KEYS["aws_secret_access_key"],
        "extra": {"region_name": KEYS["region_name"], "endpoint_url": server},
    }
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", json.dumps(connection))
    return boto3.resource("sqs", endpoint_url=server, **KEYS).create_queue(QueueName="films")


def trigger(queue):
    reading = {"source": "s3://films/new/*.jsonl", "text": "text", "label": "label"}
    return NewDataTrigger(pipeline="films", reading=reading, source_conn_id="bucket", queue=queue.url)


def test_a_message_ends_the_wait_and_is_taken_out_of_the_queue(queue):
    queue.send_message(MessageBody='{"Records": []}')
    asyncio.run(asyncio.wait_for(trigger(queue)._message(), 60))
    assert queue.receive_messages(WaitTimeSeconds=0) == []


def test_a_queue_without_messages_is_waited_at(queue):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(trigger(queue)._message(), 3))
    assert time.monotonic() - began >= 3
