"""A fake of Airflow's REST API, as far as starting and following a run needs it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

RUN = "manual__2026-11-21T08:00:00+00:00"
PASSWORD = "correct horse"

PROMOTED = {
    "ingest": {"why": "miss: first run"},
    "train": {"why": "miss: first run"},
    "evaluate": {"why": "miss: first run", "metrics": {"accuracy": 0.9, "log_loss": None}},
    "gate": {"decision": "promote", "reasons": ["accuracy 0.9000 is at least 0.6000"]},
    "deploy": {"why": "miss: nothing served", "url": None},
    "promote": {"why": "miss: there was no champion", "version": "1", "previous": None, "hit": False},
}


class FakeAirflow:
    """Remembers what it was asked to change; a run that is started has ended by the next look."""

    def __init__(self):
        self.known, self.import_errors, self.results = {"sentiment"}, [], dict(PROMOTED)
        self.states = dict.fromkeys(PROMOTED, "success")
        self.attempts, self.logs = dict.fromkeys(PROMOTED, 1), {}
        self.started, self.unpaused, self.held_off = [], [], None
        self.links = {}  # step to what it pushed for its buttons
        self.tokens, self.token, self.outages = 0, None, 0
        self.schedule = "0 3 * * 1"
        self.active_elsewhere = []  # pipelines with a run that goes
        self.awaits, self.behind = None, None  # what a step asks a person; the run that this one is queued behind
        self.paused, self.active, self.refuses_every_token, self.drops_starts = True, [], False, False

    def hold(self, *reasons):
        self.results = {**PROMOTED, "gate": {"decision": "hold", "reasons": list(reasons)}}
        self.states.update(deploy="skipped", promote="skipped")
        for step in ("deploy", "promote"):
            del self.results[step]

    def ask(self, **asked):
        """A person is asked, and the run waits."""
        self.results = {step: PROMOTED[step] for step in ("ingest", "train", "evaluate")}
        self.results["gate"] = {"decision": "ask", "reasons": ["300 test rows do not tell"]}
        self.states = {**dict.fromkeys(self.results, "success"), "approve": "awaiting_input", "deploy": None}
        self.attempts, self.awaits = dict.fromkeys(self.states, 1), asked

    def reject(self, *reasons):
        self.hold(*reasons)
        self.results["approve"] = {**self.results["gate"], "rejected": {"who": "anna"}}
        self.results["gate"] = {"decision": "ask", "reasons": ["300 test rows do not tell"]}
        self.states["approve"], self.attempts["approve"] = "success", 1

    def hold_off(self, reason, until):
        """The last run was only just: ingest and all after it are skipped."""
        self.results, self.states = {}, dict.fromkeys(PROMOTED, "skipped")
        self.held_off = {"reason": reason, "until": until}

    def fail(self, step, *log, attempts=1):
        after = list(PROMOTED)[list(PROMOTED).index(step) :]
        self.states.update(dict.fromkeys(after, "upstream_failed"), **{step: "failed"})
        self.attempts.update(dict.fromkeys(after, 0), **{step: attempts})
        self.logs[step] = list(log)

    def by_hand(self, results, **states):
        """A DAG of other steps; what is not said about their ends is success."""
        self.results, self.states = results, {**dict.fromkeys(results, "success"), **states}
        self.attempts = dict.fromkeys(self.states, 1)

    def answer(self, method, path, body, token):
        if self.outages:
            self.outages -= 1
            return 503, {"detail": "starting"}
        if path == "/auth/token":
            if body["password"] != PASSWORD:
                return 401, {"detail": "Invalid credentials"}
            self.tokens += 1
            self.token = f"token-{self.tokens}"
            return 201, {"access_token": self.token}
        if token != self.token or self.refuses_every_token:
            return 401, {"detail": "Token expired"}
        path = path.removeprefix("/api/v2")
        if path.startswith("/importErrors"):
            return 200, {"import_errors": self.import_errors}
        if path.startswith("/dags?"):
            return 200, {"dags": [{"dag_id": name} for name in self.known]}
        name = path.split("/")[2].partition("?")[0]
        if name in self.active_elsewhere and path.startswith(f"/dags/{name}/dagRuns?state=running&state=queued"):
            return 200, {"dag_runs": [{"dag_run_id": RUN}]}
        if name not in (*self.known, *self.active_elsewhere):
            return 404, {"detail": "not found"}
        rest = path.partition(f"/dags/{name}")[2]
        if method == "PATCH":
            self.unpaused.append(name)
            self.paused = body["is_paused"]
            return 200, {}
        if method == "POST":
            self.started.append((name, body["conf"]))
            if self.drops_starts:
                return 503, {"detail": "upstream went away"}
            return 200, {"dag_run_id": RUN}
        if "/xcomEntries/" in rest:
            step, key = rest.split("/")[4], rest.split("/")[6]
            if (step, key) == ("ingest", "held-off") and self.held_off:
                return 200, {"value": self.held_off}
            if key == "awaits" and self.states.get(step) == "awaiting_input":
                return 200, {"value": self.awaits}
            if key == "links" and step in self.links:
                return 200, {"value": self.links[step]}
            if key != "return_value" or step not in self.results:
                return 404, {"detail": "not found"}
            return 200, {"value": self.results[step]}
        if "/logs/" in rest:
            return 200, {
                "content": [{"event": line, "level": "info"} for line in self.logs.get(rest.split("/")[4], [])]
            }
        if self.behind and RUN in unquote(rest):
            return 200, {"state": "queued", "task_instances": []}
        if "/taskInstances" in rest:
            return 200, {
                "task_instances": [
                    {"task_id": step, "state": state, "try_number": self.attempts[step], "duration": 12.0}
                    for step, state in sorted(self.states.items())
                ]
            }
        if rest.startswith("/dagRuns?"):
            active = self.active if "state=running&state=queued" in rest else filter(None, [self.behind])
            return 200, {"dag_runs": [{"dag_run_id": identity} for identity in active]}
        if "/dagRuns/" in rest:
            state = {"failed": "failed", "awaiting_input": "running"}
            return 200, {"state": next((state[one] for one in self.states.values() if one in state), "success")}
        return 200, {"dag_id": name, "is_paused": self.paused, "timetable_summary": self.schedule}


@contextmanager
def served(fake):
    """:return: the URL at which ``fake`` answers."""

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
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
