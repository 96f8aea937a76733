"""
The whole way on one machine, as a user walks it: make run, look, make run again, bad data, make down, make up.

The tests share one stack and follow one another; each is named after what it promises at that point.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from ratchet.cli.stack.programs import MARK
from ratchet.cli.stack.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
ROWS = "1000"  # enough for the gate's minimum, few enough for seconds of training

pytestmark = pytest.mark.timeout(1800)  # with every core busy, the stack alone takes minutes to start (measured)


class Stack:
    """A user in a shell with a home of its own, and eyes for what the user would look at."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home, checkout=CHECKOUT, dags=CHECKOUT / "dags")
        inherited = ("RATCHET", "AIRFLOW", "MLFLOW", "MAKE", "MFLAGS", "PYTHON", "PYTEST", "SAMPLE_ROWS", "PIPELINE")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
        self.environment |= {"RATCHET_HOME": str(home), "SAMPLE_ROWS": ROWS}

    def make(self, *arguments: str, expect: int = 0) -> str:
        return self._command("make", *arguments, expect=expect)

    def ratchet(self, *arguments: str, expect: int = 0) -> str:
        return self._command(str(CHECKOUT / ".venv" / "bin" / "ratchet"), *arguments, expect=expect)

    def _command(self, *command: str, expect: int) -> str:
        done = subprocess.run(command, cwd=CHECKOUT, env=self.environment, capture_output=True, text=True, timeout=1500)
        assert done.returncode == expect, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.settings.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def commands(self) -> str:
        """:return: the command lines of its processes."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                found.append(" ".join(process.cmdline()))
        return "\n".join(found)

    def listening(self) -> set[tuple[str, int]]:
        found = set()
        for process in self.processes():
            try:
                connections = process.net_connections(kind="inet")
            except psutil.Error:
                continue
            found |= {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
        return found

    def endpoint(self) -> dict[str, Any]:
        token = self.settings.secrets["endpoint_token"]
        return ask("GET", f"{self.settings.url('endpoints')}/endpoints/sentiment", token=token)

    def champion(self) -> str:
        alias = "registered-models/alias?name=sentiment&alias=champion"
        found = ask("GET", f"{self.settings.url('mlflow')}/api/2.0/mlflow/{alias}")
        return str(found["model_version"]["version"])

    def sign_in(self, user: str) -> str:
        login = {"username": user, "password": self.settings.passwords[user]}
        return str(ask("POST", f"{self.settings.url('airflow')}/auth/token", login)["access_token"])

    def airflow(self, method: str, path: str, body: dict[str, Any] | None = None, *, user: str) -> Any:
        return ask(method, f"{self.settings.url('airflow')}/api/v2{path}", body, token=self.sign_in(user))


def ask(method: str, url: str, body: dict[str, Any] | None = None, token: str | None = None) -> Any:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
        return json.loads(response.read())


def hits(told: str) -> list[str]:
    """:return: the steps that say that there was nothing to do."""
    return re.findall(r"^(\w+) +done +\S+ +hit: ", told, re.MULTILINE)


def half_written(home: Path) -> list[Path]:
    """:return: what somebody began to write and did not put in place."""
    return [path for path in home.rglob("*") if ".part-" in path.name or path.name.endswith((".partial", ".tmp"))]


def eventually(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return met


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    made = Stack(tmp_path_factory.mktemp("stack") / "home")
    yield made
    made.make("down")


@pytest.fixture(scope="module")
def first_run(stack):
    return stack.make("run")


def test_make_run_takes_the_sample_to_a_live_endpoint(stack, first_run):
    assert "PROMOTED: sentiment version 1 is champion, the first one." in first_run
    assert re.search(r"^Candidate +accuracy 0\.\d+", first_run, re.MULTILINE)
    assert re.search(r"^Prediction +.+ -> (positive|negative|neutral) \(0\.\d+\)", first_run, re.MULTILINE)
    for server in ("airflow", "mlflow", "endpoints"):
        assert stack.settings.url(server) in first_run
    assert stack.settings.passwords["admin"] in first_run
    assert stack.champion() == "1"


def test_the_endpoint_predicts(stack, first_run):
    url = stack.endpoint()["url"]
    answer = ask("POST", f"{url}/invocations", {"inputs": ["I love this film!", "It was horrible and boring."]})
    assert [best["label"] for best in answer] == ["positive", "negative"]


def test_every_socket_listens_on_loopback(stack, first_run):
    listening = stack.listening()
    assert set(stack.settings.ports.values()) < {port for _, port in listening}
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_users_sign_in_with_the_generated_passwords_and_may_do_what_their_role_says(stack, first_run):
    run = stack.airflow("GET", "/dags/sentiment/dagRuns", user="viewer")["dag_runs"][0]
    path = f"/dags/sentiment/dagRuns/{urllib.request.quote(run['dag_run_id'])}"
    assert run["note"].startswith("promoted:")
    for user in ("admin", "operator", "ratchet"):
        assert stack.airflow("PATCH", path, {"note": run["note"]}, user=user)["note"] == run["note"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        stack.airflow("PATCH", path, {"note": "viewers look"}, user="viewer")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        stack.airflow("GET", "/connections", user="ratchet")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask("GET", f"{stack.settings.url('airflow')}/api/v2/dags")


def test_a_second_run_changes_nothing_and_says_why(stack, first_run):
    before = stack.endpoint()
    told = stack.make("run")
    assert "UNCHANGED: sentiment version 1 is champion already" in told
    assert hits(told) == ["ingest", "train", "evaluate", "deploy", "promote"]
    assert stack.champion() == "1"
    assert stack.endpoint() == before


def test_bad_data_is_held_and_production_stays(stack, first_run):
    before = stack.endpoint()
    told = stack.make("bad-data")
    assert "HELD: the candidate for sentiment" in told
    assert "Held, as it should be" in told
    assert stack.champion() == "1"
    assert stack.endpoint() == before


def test_a_rollback_brings_back_what_served_and_alias_endpoint_and_history_agree(stack, first_run):
    served = stack.endpoint()["model_digest"]
    stack.make("bad-data")  # which the test above has trained
    bad = f"SOURCE={stack.settings.home}/sample/bad-data/*.csv"
    told = stack.make("run", bad, "OVERRIDE=a rehearsal of the way back")
    assert "PROMOTED: sentiment version 2 is champion; it was version 1." in told
    assert stack.endpoint()["model_digest"] != served
    stack.ratchet("reconcile", "sentiment")

    stack.ratchet("rollback", "sentiment", "--reason", "the rehearsal is over")
    assert (stack.champion(), stack.endpoint()["model_digest"]) == ("1", served)
    stack.ratchet("reconcile", "sentiment")
    history = stack.ratchet("history", "sentiment")
    assert "returned to from version 2 by operator: the rehearsal is over" in history


def test_a_spec_that_is_wrong_ends_the_run_with_its_line_before_anything_is_started(stack, tmp_path):
    (tmp_path / "wrong.yaml").write_text("data:\n  source: rows.csv\n  text: text\n  lable: label\n")
    done = subprocess.run(
        ["make", "run", "PIPELINE=wrong"],
        cwd=CHECKOUT,
        env={**stack.environment, "RATCHET_DAGS": str(tmp_path), "RATCHET_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 2
    assert "wrong.yaml:4: data.lable" in done.stdout + done.stderr
    assert not (tmp_path / "home").exists()


def test_a_server_that_is_killed_comes_back(stack, first_run):
    url = stack.settings.url("mlflow")
    port = stack.settings.ports["mlflow"]
    server = next(p for p in stack.processes() if ("127.0.0.1", port) in {c.laddr for c in p.net_connections()})
    server.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=10):
                break
        except OSError:
            time.sleep(0.5)
    assert stack.champion() == "1"


def test_make_down_leaves_no_process_and_no_open_port(stack, first_run):
    ports = {port for _, port in stack.listening()}
    stack.make("down")
    assert stack.processes() == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port
    assert half_written(stack.settings.home) == []


def test_a_second_make_up_brings_the_endpoint_back(stack, first_run):
    stack.make("up")
    deadline = time.monotonic() + 120
    while (found := stack.endpoint())["status"] != "serving" and time.monotonic() < deadline:
        time.sleep(0.5)
    assert found["status"] == "serving"
    answer = ask("POST", f"{found['url']}/invocations", {"inputs": "I love this film!"})
    assert answer[0]["label"] == "positive"
    assert stack.champion() == "1"


def test_a_stack_that_is_stopped_while_it_trains_goes_on_when_it_is_started_again(stack, first_run):
    runs = "/dags/sentiment/dagRuns"
    body = {"logical_date": None, "conf": {"force": True}}
    started = stack.airflow("POST", runs, body, user="operator")["dag_run_id"]
    run = f"{runs}/{urllib.request.quote(started)}"

    assert eventually(lambda: "training train" in stack.commands(), seconds=300)
    stack.make("down")
    assert stack.processes() == []
    stack.make("up")
    assert eventually(
        lambda: stack.airflow("GET", run, user="viewer")["state"] in ("success", "failed"),
        seconds=900,  # the worker's heartbeat must be missed, and the retry has its delay
    )
    assert stack.airflow("GET", run, user="viewer")["state"] == "success"
    assert eventually(lambda: stack.endpoint()["status"] == "serving", seconds=120)
