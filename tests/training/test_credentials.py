import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.contract import IngestRequest, Reading
from training.credentials import masked, refusal
from training.stage import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "vault_password", "API_KEY"]
)
def test_the_value_of_a_secret_is_masked_wherever_it_stands(monkeypatch, name):
    monkeypatch.setenv(name, "hunter2/hunter2+")
    assert masked("hunter2/hunter2+ and hunter2%2Fhunter2%2B, Bearer:hunter2/hunter2+") == "*** and ***, Bearer:***"


def test_users_and_passwords_are_masked_as_a_header_and_a_url_have_them(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    assert masked(f"Basic {base64.b64encode(b'ann:hunter2').decode()}") == "Basic ***"
    assert masked("http://ben:other@mlflow:5000/a") == "http://***@mlflow:5000/a"
    assert masked("http://mlflow:5000/a@b models:/a@b") == "http://mlflow:5000/a@b models:/a@b"


def test_the_password_of_a_databases_address_is_masked_wherever_it_stands(monkeypatch):
    address = "postgresql://ann:hunter2%2Fhunter2@db/mail?sslkey=own"
    monkeypatch.setenv("RATCHET_SQL_URI", address)
    assert masked(f"{address}: no user ann with 'hunter2/hunter2'") == "***: no user ann with '***'"


def test_of_two_secrets_one_within_the_other_nothing_is_left(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "hunter2")
    monkeypatch.setenv("B_TOKEN", "hunter2hunter3")
    assert masked("hunter2hunter3 hunter2") == "*** ***"


def test_words_and_places_are_no_secrets(monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("HF_TOKEN_PATH", "/home/ann/token")
    assert masked("false: /home/ann/token is not there") == "false: /home/ann/token is not there"


TELLS = """
import logging, os, sys, warnings
from training.stage import log_to_stdout
log_to_stdout()
secret = os.environ["HF_TOKEN"]
logging.info("sent %s", secret)
print("printed", secret)
print("printed", secret, file=sys.stderr)
warnings.warn(f"warned of {secret}")
own = logging.getLogger("own")
own.addHandler(logging.StreamHandler())
own.propagate = False
own.warning("said %s", secret)
logging.getLogger("x").exception("failed", exc_info=ValueError(secret))
raise RuntimeError(f"ended by {secret}")
"""


def test_no_line_of_a_stage_shows_a_secret_whoever_writes_it():
    ended = subprocess.run(
        [sys.executable, "-c", TELLS],
        cwd=ROOT,
        env={**os.environ, "HF_TOKEN": "hf_hunter2"},
        capture_output=True,
        text=True,
        check=False,
    )
    told = ended.stdout + ended.stderr
    assert "hunter2" not in told
    assert told.count("***") >= 7
    assert "INFO sent ***" in ended.stdout


@pytest.mark.parametrize("kind", [ValueError, OSError])
def test_the_error_in_the_result_shows_no_secret(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HF_TOKEN", "hf_hunter2")
    request = IngestRequest(pipeline="p", store="s", reading=Reading(source="x", text="t", label="l"))
    (tmp_path / "request.json").write_text(request.to_json())

    def fail(_request):
        raise kind("the server does not know hf_hunter2")

    assert run(fail, IngestRequest, tmp_path / "request.json", tmp_path / "result.json") == 1
    error = json.loads((tmp_path / "result.json").read_text())["error"]
    assert error == f"{kind.__name__}: the server does not know ***"


def test_what_is_no_refusal_is_worth_a_retry():
    assert refusal(PermissionError("a file of somebody else")) is None
    assert refusal(ConnectionError("gone")) is None
