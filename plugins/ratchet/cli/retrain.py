#!/usr/bin/env python3
"""
Start a retraining run through Airflow's REST API, wait for it, and exit by its verdict.

A pipeline that is paused is unpaused, so that its schedule, if it has one, runs from then on.

One file, standard library alone: copy it into any CI system.

    export AIRFLOW_URL=https://airflow.example AIRFLOW_USER=ci AIRFLOW_PASSWORD=...
    python3 retrain.py sentiment --note "$COMMIT"

Exit status: 0 promoted, nothing had changed, or a DAG without a gate succeeded; 3 held, rejected, or held off because
the last run was only just: production is untouched; 4 a person is asked, and the run goes on when they answer; 1 a step
failed, or Airflow did not answer; 2 wrong usage. ``ratchet run`` is this with live progress.
"""

from __future__ import annotations

import argparse
import difflib
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_HELD, EXIT_WAITS = 0, 1, 2, 3, 4

STEPS = ("ingest", "train", "evaluate", "gate", "approve", "deploy", "promote")
ENDED = ("success", "failed")
PARSE_SECONDS = 90  # Airflow sees a new file within 10 s in the embedded stack, and within minutes elsewhere
AWAY_SECONDS = 120  # an API that is away this long is not coming back (assumed)
LOG_LINES = 15


class RunError(Exception):
    """The run could not be started or followed. The message says what to do next."""


class Refused(RunError):
    """Airflow answered with an error status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Unanswered(RunError):
    """A request that starts something was sent, and nobody said whether it was carried out."""


class Airflow:
    """Airflow's REST API, as one user. An API that restarts is waited for; a token that ran out is renewed."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url.rstrip("/")
        self._login = {"username": user, "password": password}
        self._token = ""
        loopback = any(f"//{host}" in self.url for host in ("127.0.0.1", "localhost", "[::1]"))
        proxies = urllib.request.ProxyHandler({}) if loopback else urllib.request.ProxyHandler()
        self._opener = urllib.request.build_opener(proxies)

    def get(self, path: str) -> Any:
        return self._call("GET", f"/api/v2{path}")

    def find(self, path: str) -> Any | None:
        """:return: None if there is no such thing."""
        try:
            return self.get(path)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", f"/api/v2{path}", body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("PATCH", f"/api/v2{path}", body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        deadline = time.monotonic() + AWAY_SECONDS
        renewed = False
        while True:
            signed_in = bool(self._token)
            try:
                if not signed_in:
                    self._token = self._send("POST", "/auth/token", self._login)["access_token"]
                    signed_in = True
                return self._send(method, path, body)
            except Refused as error:
                if error.status == 401 and signed_in and not renewed:
                    self._token, renewed = "", True  # it ran out, perhaps; signing in again tells
                    continue
                if error.status < 500:
                    raise
                if method == "POST" and signed_in:  # it may have been carried out all the same: never sent twice
                    raise Unanswered(str(error)) from error
                if time.monotonic() > deadline:
                    raise
            except (OSError, http.client.HTTPException) as error:
                message = f"Airflow at {self.url} does not answer ({error}). Is it up?"
                refused = isinstance(getattr(error, "reason", error), ConnectionRefusedError)
                if method == "POST" and signed_in and not refused:
                    raise Unanswered(message) from error
                if time.monotonic() > deadline:
                    raise RunError(message) from error
            time.sleep(1)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with self._opener.open(request, timeout=30) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            told = error.read().decode(errors="replace")[:500]
            if path == "/auth/token" and error.code in (401, 403):
                message = f"Airflow at {self.url} did not accept the user or the password: {told}"
                raise Refused(message, error.code) from error
            raise Refused(f"Airflow answered {error.code} to {method} {path}: {told}", error.code) from error


@dataclass(frozen=True)
class Task:
    """The part of a task instance that following needs."""

    name: str
    state: str | None
    attempt: int  # 0: it never came to its turn
    seconds: float | None


@dataclass(frozen=True)
class Run:
    """One run of one pipeline."""

    airflow: Airflow = field(repr=False)
    pipeline: str
    identity: str

    @property
    def url(self) -> str:
        """Its page in the Airflow UI."""
        return f"{self.airflow.url}/dags/{quote(self.pipeline)}/runs/{quote(self.identity)}"

    @property
    def _path(self) -> str:
        return f"/dags/{quote(self.pipeline)}/dagRuns/{quote(self.identity)}"

    def state(self) -> str:
        return str(self.airflow.get(self._path)["state"])

    def tasks(self) -> list[Task]:
        """:return: the steps, in their order."""
        found = self.airflow.get(f"{self._path}/taskInstances?limit=100")["task_instances"]
        tasks = [Task(one["task_id"], one["state"], one["try_number"], one["duration"]) for one in found]
        order = {name: place for place, name in enumerate(STEPS)}
        return sorted(tasks, key=lambda task: order.get(task.name, len(order)))

    def awaits(self, tasks: list[Task]) -> list[str]:
        """:return: which person it waits for, until when and where to answer; nothing if it waits for none."""
        step = next((task.name for task in tasks if task.state == "awaiting_input"), None)
        if step is None:
            return []
        asked = self.result(step, "awaits")
        who = " or ".join(asked.get("by") or []) or "whoever may answer for it"
        until = f" until {_time(asked['until']):%Y-%m-%d %H:%M} UTC, else it is rejected" if asked.get("until") else ""
        return [f"{who} is asked{until}", f"answer at {asked.get('url') or self.url}"]

    def ahead(self) -> Run | None:
        """:return: while it is queued, the run of the same pipeline that goes."""
        path = f"/dags/{quote(self.pipeline)}/dagRuns?state=running&order_by=run_after&limit=1"
        running = self.airflow.get(path)["dag_runs"]
        return Run(self.airflow, self.pipeline, running[0]["dag_run_id"]) if running else None

    def result(self, step: str, key: str = "return_value") -> dict[str, Any]:
        """:return: what the step returned; empty if it did not."""
        entry = self.airflow.find(f"{self._path}/taskInstances/{quote(step)}/xcomEntries/{quote(key)}")
        value = entry and entry["value"]
        if isinstance(value, str):  # as JSON, or a step by hand returned text
            try:
                value = json.loads(value)
            except ValueError:
                return {}
        return value if isinstance(value, dict) else {}

    def log(self, task: Task) -> list[str]:
        """:return: what the step's newest attempt has logged so far, without what Airflow says about itself."""
        answer = self.airflow.find(
            f"{self._path}/taskInstances/{quote(task.name)}/logs/{task.attempt}?full_content=true"
        )
        return list(_lines((answer or {}).get("content", [])))


def start(
    airflow: Airflow,
    pipeline: str,
    parameters: dict[str, Any],
    parse_seconds: float = PARSE_SECONDS,
    tell: Callable[[str], None] = print,
    *,
    is_new: bool = False,
) -> Run:
    """
    Start a run of ``pipeline``; a pipeline that is paused is unpaused and stays so.

    :param parse_seconds: longest wait for Airflow to read a file that is new, or that it could not read before.
    :param tell: called with what the user should know beside the run: that the schedule runs from now on, and what
        is waited for.
    :param is_new: the file may be one that Airflow has not read yet; else a pipeline it does not know is refused.
    :raises RunError: Airflow does not know the pipeline, or cannot read its file, and nothing was started; or it did
        not say whether it started the run, which the message then says.
    """
    address = f"/dags/{quote(pipeline)}"
    dag = _wait_until_parsed(airflow, pipeline, parse_seconds, tell, is_new=is_new)
    if dag["is_paused"]:
        airflow.patch(f"{address}?update_mask=is_paused", {"is_paused": False})
        scheduled = ": from now on runs start by themselves, as its spec says" if dag.get("timetable_summary") else ""
        tell(f"Unpaused {pipeline}{scheduled}. Pause it again at {airflow.url}{address}")
    active = airflow.get(f"{address}/dagRuns?state=running&state=queued&order_by=run_after&limit=100")["dag_runs"]
    try:
        run = airflow.post(f"{address}/dagRuns", {"logical_date": None, "conf": parameters})
    except Unanswered as error:
        raise RunError(
            f"{error}\nA run may have been started: look at {airflow.url}{address}/runs before you start another."
        ) from error
    if active:
        first = Run(airflow, pipeline, active[0]["dag_run_id"])
        others = f" and {len(active) - 1} more" if len(active) > 1 else ""
        tell(f"One run of {pipeline} goes at a time; this one waits for {first.url}{others}")
    return Run(airflow, pipeline, run["dag_run_id"])


def _wait_until_parsed(
    airflow: Airflow, pipeline: str, seconds: float, tell: Callable[[str], None], *, is_new: bool
) -> dict[str, Any]:
    """:return: what Airflow knows of the pipeline, read since this call began if it could not be read before."""
    began = datetime.now(timezone.utc)  # noqa: UP017 -- this file runs on the Python that a CI system has
    deadline = time.monotonic() + seconds
    waiting = False
    while True:
        error = _import_error(airflow, pipeline)
        late = time.monotonic() > deadline
        # An error from before may be mended already: Airflow keeps it until it reads the file again
        if error is not None and (late or _time(error["timestamp"]) >= began):
            raise RunError(
                f"Airflow cannot read the pipeline {pipeline!r}; nothing was started.\n{error['stack_trace']}"
            )
        if error is None:
            dag: dict[str, Any] | None = airflow.find(f"/dags/{quote(pipeline)}")
            if dag is not None:
                return dag
            if late or not is_new:
                raise RunError(_unknown(airflow, pipeline, f" after {seconds:.0f} s" if is_new else ""))
        if not waiting:
            waiting = True
            tell(f"Waiting up to {seconds:.0f} s for Airflow to read the file of {pipeline} ...")
        time.sleep(0.5)


def _unknown(airflow: Airflow, pipeline: str, waited: str) -> str:
    known = sorted(dag["dag_id"] for dag in airflow.get("/dags?limit=100")["dags"])
    close = difflib.get_close_matches(pipeline, known, n=1)
    meant = f"Did you mean {close[0]!r}? " if close else ""
    hint = "" if waited else " If its file is new, wait for it with --new."
    return (
        f"Airflow knows no pipeline {pipeline!r}{waited}; nothing was started. {meant}It knows: "
        f"{', '.join(known) or 'none'}.{hint}"
    )


def _import_error(airflow: Airflow, pipeline: str) -> dict[str, Any] | None:
    errors = airflow.get("/importErrors?limit=100")["import_errors"]
    return next((error for error in errors if PurePath(error["filename"]).name == f"{pipeline}.py"), None)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # which Python before 3.11 does not read


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    # promoted | unchanged | held | rejected | held off | waits (for a person; it goes on) | failed |
    # succeeded (without a promotion to judge)
    word: str
    reasons: list[str]
    results: dict[str, dict[str, Any]]  # what each step returned
    log: list[str] = field(default_factory=list)  # the end of the failed step's, without the cause
    production: str = ""  # of a failed run: what it left endpoint and champion at

    @property
    def exit_status(self) -> int:
        if self.word in ("promoted", "unchanged", "succeeded"):
            return EXIT_DONE
        if self.word == "waits":
            return EXIT_WAITS
        return EXIT_HELD if self.word in ("held", "rejected", "held off") else EXIT_FAILED

    @property
    def notes(self) -> list[str]:
        """What a reader of the scores should know, as the verdict has it."""
        return list(_verdict(self.results).get("notes", []))


def outcome(run: Run) -> Outcome:
    """
    :return: how an ended run ended. Anything but a clear verdict is a failure, unless the DAG has no gate or nothing to
        promote with.
    """
    tasks = run.tasks()
    results = _results(run, tasks)
    failed = next((task for task in tasks if task.state == "failed"), None)
    if failed is not None:
        log = run.log(failed)
        cause = _cause(log)
        attempts = f" after {failed.attempt} attempts" if failed.attempt > 1 else ""
        tail = [line for line in log if not _repeats(line, cause)][-LOG_LINES:]
        reason = f"Step {failed.name} failed{attempts}: {cause}"
        return Outcome("failed", [reason], results, tail, _production(tasks))
    if held_off := run.result(STEPS[0], "held-off"):
        return Outcome(
            "held off",
            [f"no run before {_time(held_off['until']):%Y-%m-%d %H:%M:%S} UTC: {held_off['reason']}"],
            results,
        )
    verdict = _verdict(results)
    decision, reasons = verdict.get("decision"), list(verdict.get("reasons", []))
    if decision in ("hold", "ask"):
        return Outcome("rejected" if verdict.get("rejected") else "held", reasons, results)
    if decision == "promote" and results.get("promote"):
        return Outcome("unchanged" if results["promote"].get("hit") else "promoted", reasons, results)
    names = {task.name for task in tasks}
    if run.state() == "success":
        if decision == "promote" and "promote" not in names:
            return Outcome("succeeded", [*reasons, "it has no step promote, so that no champion was moved"], results)
        if not verdict and "gate" not in names:
            return Outcome("succeeded", ["it has no gate, so that there is no verdict"], results)
    states = ", ".join(f"{task.name} {task.state}" for task in tasks)
    return Outcome("failed", [f"The run ended without a verdict ({states})."], results, [], _production(tasks))


def waiting(run: Run, state: str, tasks: list[Task]) -> Outcome | None:
    """
    :return: that the run, or one that it is queued behind, waits for a person, which may be days; None: none does.
    """
    unchanged = "Endpoint and champion are what they were."
    if awaits := run.awaits(tasks):
        return Outcome("waits", awaits, _results(run, tasks), production=unchanged)
    ahead = run.ahead() if state == "queued" else None
    if ahead is not None and (awaits := ahead.awaits(ahead.tasks())):
        return Outcome("waits", [f"the run before it waits: {ahead.url}", *awaits], {}, production=unchanged)
    return None


def _results(run: Run, tasks: list[Task]) -> dict[str, dict[str, Any]]:
    return {task.name: run.result(task.name) for task in tasks if task.state == "success"}


def _verdict(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """By what it is and not by its step's name, which is the author's in a DAG by hand; a person's is the last one."""
    return next((result for result in reversed(results.values()) if "decision" in result), {})


def _production(tasks: list[Task]) -> str:
    """:return: what a run that failed has left endpoint and champion at, as far as its steps tell."""
    found = {task.name: task for task in tasks}
    deploy, promote = found.get("deploy"), found.get("promote")
    if deploy and promote and not (deploy.attempt or promote.attempt):
        return "Endpoint and champion are what they were."
    told = []
    if deploy is not None:
        if deploy.state == "success":
            told.append("The endpoint serves what deploy put there")
        elif deploy.attempt:
            told.append("Deploy had begun: the endpoint serves what it did, or the new release")
        else:
            told.append("The endpoint is what it was")
    if promote is not None:
        if promote.state == "success":
            told.append("the champion is the candidate")
        elif promote.attempt:
            told.append("promote had begun: the champion is what it was, or the candidate")
        else:
            told.append("the champion is what it was")
    return "; ".join(told) + "." if told else ""


def _lines(content: list[Any]) -> Iterator[str]:
    for entry in content:
        if isinstance(entry, str):
            yield entry.rstrip("\n")
            continue
        event = str(entry.get("event", ""))
        if not event.startswith("::") and entry.get("logger") != "py.warnings":
            yield event
        for error in entry.get("error_detail") or []:
            yield f"{error['exc_type']}: {error['exc_value']}"


def _cause(log: list[str]) -> str:
    """:return: the last exception that the task logged; one that logged none may have been ended by somebody."""
    raised = [line for line in log if _is_raised(line)]
    if raised or not log:
        return raised[-1] if raised else "it left no log"
    return f"it logged no error: somebody ended it, or its worker was killed. Its last line: {log[-1]}"


def _is_raised(line: str) -> bool:
    return line.partition(":")[0].endswith(("Exception", "Error", "Failed", "Input", "Timeout"))


def _repeats(line: str, cause: str) -> bool:
    """:return: whether a line says what ``cause`` says: as the stage logged it, or as an exception around it."""
    text = cause.partition(": ")[2] or cause
    return line in cause or line.endswith(f": {text}") or (_is_raised(line) and text in line)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("pipeline", help="name of the pipeline, which is its DAG's")
    parser.add_argument("--force", action="store_true", help="do every step again, finished or not")
    parser.add_argument("--note", help="why this run; shown on the run")
    parser.add_argument(
        "--override", type=reason, metavar="REASON", help="promote the candidate whatever the gate says; kept for ever"
    )
    parser.add_argument("--source", help="read this instead of the spec's data.source")
    parser.add_argument("--date", help="take no snapshot, use the newest one from this day (YYYY-MM-DD, UTC) or before")
    parser.add_argument("--new", action="store_true", help="its file is new: wait until Airflow has read it")
    parser.add_argument("--timeout-minutes", type=float, default=24 * 60, help="stop waiting, with status 1")
    options = parser.parse_args(arguments)
    missing = [name for name in ("AIRFLOW_URL", "AIRFLOW_USER", "AIRFLOW_PASSWORD") if not os.environ.get(name)]
    if missing:
        parser.error(f"set {', '.join(missing)} in the environment")
    airflow = Airflow(*(os.environ[name] for name in ("AIRFLOW_URL", "AIRFLOW_USER", "AIRFLOW_PASSWORD")))
    try:
        run = start(airflow, options.pipeline, parameters_from(options), is_new=options.new)
        print(f"Started {run.url}", flush=True)
        ended = _wait(run, options.timeout_minutes * 60)
    except RunError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    told = [*ended.reasons, *(f"note: {note}" for note in ended.notes), *filter(None, [ended.production])]
    print("\n".join([f"{options.pipeline}: {ended.word}", *(f"- {each}" for each in told), *ended.log]))
    return ended.exit_status


def reason(text: str) -> str:
    """:raises argparse.ArgumentTypeError: it gives none."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a reason, which the history keeps; nothing was started")
    return text.strip()


def parameters_from(options: argparse.Namespace) -> dict[str, Any]:
    """:return: the parameters that were given; the DAG has defaults for the others."""
    names = ("force", "note", "override", "source", "date")
    return {name: value for name in names if (value := getattr(options, name))}


def _wait(run: Run, seconds: float) -> Outcome:
    deadline = time.monotonic() + seconds
    told: dict[str, str | None] = {}
    while True:
        state, tasks = run.state(), run.tasks()
        for task in tasks:
            if task.state != told.get(task.name):
                print(f"{task.name}: {task.state}", flush=True)
                told[task.name] = task.state
        if state in ENDED:
            return outcome(run)
        if waits := waiting(run, state, tasks):
            return waits
        if time.monotonic() > deadline:
            raise RunError(f"The run has not ended in time and goes on: {run.url}")
        time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
