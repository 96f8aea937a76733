"""Starting and following a run: what is printed and how the command exits, against a fake of Airflow's REST API."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ratchet.cli import retrain, run
from ratchet.cli.retrain import Airflow, RunError, outcome, start

RUN = "manual__2026-11-21T08:00:00+00:00"
PASSWORD = "correct horse"
PROGRESS = "progress: 42% | step 120/285 | epoch 1.26/3 | loss 0.4123 | elapsed 34s | left 47s | 245 samples/s"

PROMOTED = {
    "ingest": {"why": "miss: first run"},
    "train": {"why": "miss: first run"},
    "evaluate": {"why": "miss: first run", "metrics": {"accuracy": 0.9, "log_loss": None}},
    "gate": {"decision": "promote", "reasons": ["accuracy 0.9000 is at least 0.6000"]},
    "deploy": {"why": "miss: nothing served", "url": None},
    "promote": {"why": "miss: champion was nothing", "version": "1", "previous": None, "hit": False},
}


class FakeAirflow:
    """Remembers what it was asked to change; a run that is started has ended by the next look."""

    def __init__(self):
        self.known, self.import_errors, self.results = {"sentiment"}, [], dict(PROMOTED)
        self.states = dict.fromkeys(PROMOTED, "success")
        self.attempts, self.logs = dict.fromkeys(PROMOTED, 1), {}
        self.started, self.unpaused = [], []
        self.tokens, self.token, self.outages = 0, None, 0

    def hold(self, *reasons):
        self.results = {**PROMOTED, "gate": {"decision": "hold", "reasons": list(reasons)}}
        self.states.update(deploy="skipped", promote="skipped")
        for step in ("deploy", "promote"):
            del self.results[step]

    def fail(self, step, *log, attempts=1):
        after = list(PROMOTED)[list(PROMOTED).index(step) :]
        self.states.update(dict.fromkeys(after, "upstream_failed"), **{step: "failed"})
        self.attempts[step], self.logs[step] = attempts, list(log)

    def answer(self, method, path, body, token):
        if path == "/auth/token":
            if body["password"] != PASSWORD:
                return 401, {"detail": "Invalid credentials"}
            self.tokens += 1
            self.token = f"token-{self.tokens}"
            return 201, {"access_token": self.token}
        if token != self.token:
            return 401, {"detail": "Token expired"}
        if self.outages:
            self.outages -= 1
            return 503, {"detail": "starting"}
        path = path.removeprefix("/api/v2")
        if path.startswith("/importErrors"):
            return 200, {"import_errors": self.import_errors}
        if path.startswith("/dags?"):
            return 200, {"dags": [{"dag_id": name} for name in self.known]}
        name = path.split("/")[2].partition("?")[0]
        if name not in self.known:
            return 404, {"detail": "not found"}
        rest = path.partition(f"/dags/{name}")[2]
        if method == "PATCH":
            self.unpaused.append(name)
            return 200, {}
        if method == "POST":
            self.started.append((name, body["conf"]))
            return 200, {"dag_run_id": RUN}
        if "/xcomEntries/" in rest:
            step, key = rest.split("/")[4], rest.split("/")[6]
            if key != "return_value" or step not in self.results:
                return 404, {"detail": "not found"}
            return 200, {"value": self.results[step]}
        if "/logs/" in rest:
            return 200, {
                "content": [{"event": line, "level": "info"} for line in self.logs.get(rest.split("/")[4], [])]
            }
        if "/taskInstances" in rest:
            return 200, {
                "task_instances": [
                    {"task_id": step, "state": state, "try_number": self.attempts[step], "duration": 12.0}
                    for step, state in sorted(self.states.items())
                ]
            }
        if "/dagRuns/" in rest:
            return 200, {"state": "failed" if "failed" in self.states.values() else "success"}
        return 200, {"dag_id": name}


@pytest.fixture
def fake():
    return FakeAirflow()


@pytest.fixture
def url(fake):
    class Handler(BaseHTTPRequestHandler):
        def respond(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            status, answer = fake.answer(self.command, self.path, json.loads(body) if body else None, token)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = respond

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def airflow(url, monkeypatch):
    monkeypatch.setattr(retrain.time, "sleep", lambda seconds: None)
    return Airflow(url, "operator", PASSWORD)


@pytest.fixture
def command(url, airflow, monkeypatch):
    """Run ``ratchet run`` against the fake."""
    from ratchet.cli import main

    monkeypatch.setenv("THE_PASSWORD", PASSWORD)

    def call(*arguments):
        return main(
            ["run", "sentiment", "--url", url, "--user", "operator", "--password-env", "THE_PASSWORD", *arguments]
        )

    return call


def script(url, *arguments, password=PASSWORD):
    """Run the file alone, as a CI system would: no package, no environment."""
    environment = {"AIRFLOW_URL": url, "AIRFLOW_USER": "ci", "AIRFLOW_PASSWORD": password, "PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", "-S", str(Path(retrain.__file__)), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_run_is_unpaused_and_started_with_the_parameters_that_were_given(fake, airflow):
    start(airflow, "sentiment", {"force": True, "note": "new labels"})
    assert fake.unpaused == ["sentiment"]
    assert fake.started == [("sentiment", {"force": True, "note": "new labels"})]


def test_a_pipeline_that_airflow_cannot_read_shows_why_and_starts_nothing(fake, airflow):
    fake.import_errors = [{"filename": "sentiment.py", "stack_trace": "sentiment.yaml:3: gate.minimun: ..."}]
    with pytest.raises(RunError, match=r"sentiment\.yaml:3"):
        start(airflow, "sentiment", {})
    assert fake.started == []


def test_another_pipelines_error_does_not_stop_this_one(fake, airflow):
    fake.import_errors = [{"filename": "sub/other.py", "stack_trace": "broken"}]
    start(airflow, "sentiment", {})
    assert fake.started == [("sentiment", {})]


def test_an_unknown_pipeline_is_refused_with_the_known_ones(fake, airflow):
    with pytest.raises(RunError, match=r"'sentimant' after 0 s; nothing was started\. It knows: sentiment"):
        start(airflow, "sentimant", {}, parse_seconds=0)


def test_a_wrong_password_is_said_to_be_wrong(url):
    with pytest.raises(RunError, match="did not accept the user or the password"):
        Airflow(url, "operator", "wrong").get("/importErrors")


def test_a_token_that_ran_out_is_renewed(fake, airflow):
    airflow.get("/importErrors?limit=1")
    fake.token = "another"
    assert airflow.get("/importErrors?limit=1") == {"import_errors": []}


def test_an_api_that_restarts_is_waited_for(fake, airflow):
    fake.outages = 3
    assert airflow.get("/importErrors?limit=1") == {"import_errors": []}


def test_a_start_that_may_have_been_carried_out_is_not_sent_twice(fake, airflow):
    airflow.get("/importErrors?limit=1")
    fake.outages = 1
    with pytest.raises(RunError, match="503"):
        airflow.post("/dags/sentiment/dagRuns", {"conf": {}})
    assert fake.started == []


def test_promoted_exits_0_and_says_what_is_champion(fake, command, capsys):
    assert command() == 0
    told = capsys.readouterr().out
    assert "PROMOTED: sentiment version 1 is champion, the first one." in told
    assert "accuracy 0.9000 is at least 0.6000" in told
    assert "accuracy 0.9000, log_loss -" in told
    assert "/dags/sentiment/runs/manual__2026-11-21T08%3A00%3A00%2B00%3A00" in told


def test_a_run_that_had_nothing_to_do_says_why_for_each_step(fake, command, capsys):
    for step in ("ingest", "train", "evaluate", "deploy"):
        fake.results[step] = {**fake.results[step], "why": f"hit: {step} made on 2026-11-20"}
    fake.results["promote"] = {"why": "hit: version 1 is champion already", "version": "1", "hit": True}
    assert command() == 0
    told = capsys.readouterr().out
    assert "UNCHANGED: sentiment version 1" in told
    assert [line for line in told.splitlines() if "hit:" in line] == [
        "ingest    done       0:12  hit: ingest made on 2026-11-20",
        "train     done       0:12  hit: train made on 2026-11-20",
        "evaluate  done       0:12  hit: evaluate made on 2026-11-20",
        "deploy    done       0:12  hit: deploy made on 2026-11-20",
        "promote   done       0:12  hit: version 1 is champion already",
    ]


def test_held_exits_3_with_the_reasons(fake, command, capsys):
    fake.hold("f1_macro 0.41 is below the champion's 0.72 by more than 0.01")
    assert command() == 3
    told = capsys.readouterr().out
    assert "HELD: the candidate for sentiment" in told
    assert "f1_macro 0.41 is below" in told


def test_a_failed_step_exits_1_with_its_name_the_cause_and_its_last_lines(fake, command, capsys):
    fake.fail("train", "loading", "StageFailed: train failed (exit status 1): disk is full", "bye", attempts=4)
    assert command() == 1
    told = capsys.readouterr().out
    assert "Step train failed after 4 attempts: StageFailed: train failed (exit status 1): disk is full" in told
    assert "    bye" in told


def test_an_end_without_a_verdict_is_a_failure(fake, airflow):
    fake.results.pop("gate")
    assert outcome(start(airflow, "sentiment", {})).word == "failed"


def test_a_verdict_that_nobody_knows_is_a_failure(fake, airflow):
    fake.results["gate"] = {"decision": "maybe"}
    assert outcome(start(airflow, "sentiment", {})).exit_status == 1


def test_wrong_usage_exits_2(url, capsys, monkeypatch):
    from ratchet.cli import main

    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(SystemExit) as raised:
        main(["run", "sentiment", "--url", url, "--user", "me", "--password-env", "NOT_SET"])
    assert raised.value.code == 2


def test_progress_shows_per_cent_loss_and_time_left(fake, airflow):
    fake.states["train"], fake.logs["train"] = "running", ["starting", PROGRESS.replace("42%", "41%"), PROGRESS]
    started = start(airflow, "sentiment", {})
    train = next(task for task in started.tasks() if task.name == "train")
    assert run._progress(started, train, 34.0) == "train     running    0:34  42% | loss 0.4123 | left 47s"


def test_plain_output_has_no_line_that_is_written_over():
    stream = io.StringIO()
    display = run.Display(stream)
    for percent in range(5):
        display.progress(f"{percent}%")
    display.line("done")
    assert stream.getvalue() == "0%\ndone\n"


def test_a_break_stops_following_and_not_the_run(command, capsys, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "follow", interrupted)
    assert command() == 130
    assert "the run goes on" in capsys.readouterr().out


def test_the_script_for_ci_exits_by_the_verdict(fake, url):
    done = script(url, "sentiment", "--note", "abc123")
    assert (done.returncode, done.stderr) == (0, "")
    assert fake.started == [("sentiment", {"note": "abc123"})]
    assert "sentiment: promoted" in done.stdout
    fake.hold("not good enough")
    held = script(url, "sentiment")
    assert held.returncode == 3
    assert "- not good enough" in held.stdout
    fake.fail("deploy", "the host is down")
    assert script(url, "sentiment").returncode == 1


def test_the_script_for_ci_names_what_it_lacks(url):
    done = script("", "sentiment", password="")
    assert done.returncode == 2
    assert "AIRFLOW_URL, AIRFLOW_PASSWORD" in done.stderr
