"""``ratchet run``: start a run, follow it with live progress, and say how it ended."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

from ratchet.cli import EXIT_INTERRUPTED
from ratchet.cli.ask import ask
from ratchet.cli.home import has_stack
from ratchet.cli.retrain import (
    ENDED,
    EXIT_FAILED,
    EXIT_USAGE,
    Airflow,
    Outcome,
    Run,
    RunError,
    Task,
    outcome,
    parameters_from,
    reason,
    start,
    waiting,
)
from ratchet.cli.specs import load, spec_path
from ratchet.cli.table import dropped_rows, page_of
from ratchet.location import checked_source
from ratchet.spec import PipelineSpec
from ratchet.stub import write_stub

POLL_SECONDS = 0.5
PLAIN_SECONDS = 10.0  # between two lines of progress where lines cannot be written over
PROGRESS = re.compile(r"progress: (?P<percent>\d+)% .*\| loss (?P<loss>\S+) \| elapsed \S+ \| left (?P<left>\S+)")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "run",
        help="start a run and follow it",
        description="Start a run through Airflow's REST API, follow it, and exit by its verdict: 0 promoted or nothing "
        "changed, 3 held, rejected or held off, 4 a person is asked and the run goes on when they answer, 1 a step "
        "failed, 2 wrong usage.",
    )
    add_options(parser)
    parser.set_defaults(execute=lambda options: run(options, parameters_from(options)))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes that starts a run of a pipeline and follows it."""
    parser.add_argument("pipeline", metavar="NAME", help="the pipeline: dags/NAME.yaml")
    parser.add_argument("--force", action="store_true", help="do every step again, finished or not")
    parser.add_argument("--note", help="why this run; shown on the run")
    parser.add_argument(
        "--override", type=reason, metavar="REASON", help="promote the candidate whatever the gate says; kept for ever"
    )
    parser.add_argument("--source", type=_source, help="read this instead of the spec's data.source, in this run only")
    parser.add_argument("--date", help="take no snapshot, use the newest one from this day (YYYY-MM-DD, UTC) or before")
    parser.add_argument("--timeout-minutes", type=float, default=24 * 60, help="stop following, with status 1")
    default = "default: the embedded stack" if has_stack() else "needed: no embedded stack is installed here"
    parser.add_argument("--url", help=f"an Airflow elsewhere; {default}")
    parser.add_argument("--user", help="who starts the run; default in the embedded stack: operator")
    parser.add_argument("--password-env", metavar="VARIABLE", help="with --url: variable that holds the password")
    parser.add_argument(
        "--new", action="store_true", help="with --url: its file is new; wait until Airflow has read it"
    )


def _source(text: str) -> str:
    """
    :return: a relative path as the caller's directory has it; Airflow runs in another.
    :raises argparse.ArgumentTypeError: no stage reads it, or it carries credentials, which are sent nowhere.
    """
    try:
        return checked_source(text if "://" in text else str(Path(text).expanduser().absolute()))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(options: argparse.Namespace, parameters: dict[str, Any]) -> int:
    """Start a run and follow it to its end. :return: the exit status, by the verdict."""
    try:
        if options.url:
            airflow, spec = airflow_elsewhere(options), None
        else:
            _refuse_without_stack()
            spec = _checked_spec(options.pipeline)
            airflow = embedded_airflow(options.user)
        # that the file is there was seen here; whether Airflow has read it, only Airflow knows
        is_new = options.new or spec is not None
        started = start(airflow, options.pipeline, parameters, is_new=is_new)
    except RunError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    print(f"Started {started.url}")
    display = Display(sys.stdout)
    try:
        ended = follow(started, display, options.timeout_minutes * 60)
    except RunError as error:
        display.close()
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        display.close()
        print(f"\nStopped following; the run goes on. To stop it too, mark it as failed at {started.url}")
        return EXIT_INTERRUPTED
    print(summary(started, ended, spec))
    return ended.exit_status


class Display:
    """Lines that stay, and under them one that is written over where the output is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._shown = 0  # width of the line that is written over
        self._next_plain = 0.0

    def line(self, text: str) -> None:
        self.close()
        print(text, file=self._stream, flush=True)

    def progress(self, text: str) -> None:
        if self._live:
            width = os.get_terminal_size(self._stream.fileno()).columns - 1
            print("\r" + text[:width].ljust(self._shown), end="", file=self._stream, flush=True)
            self._shown = min(len(text), width)
        elif time.monotonic() >= self._next_plain:
            print(text, file=self._stream, flush=True)
            self._next_plain = time.monotonic() + PLAIN_SECONDS

    def close(self) -> None:
        """Clear the line that is written over."""
        if self._shown:
            print("\r" + " " * self._shown + "\r", end="", file=self._stream, flush=True)
            self._shown = 0


def follow(followed: Run, display: Display, seconds: float) -> Outcome:
    """
    Show each step as it goes, until the run has ended or waits for a person.

    :raises RunError: it has not ended in ``seconds``; it goes on.
    """
    began: dict[tuple[str, int], float] = {}
    told: dict[str, tuple[str | None, int]] = {}
    began_waiting, waited = time.monotonic(), False
    while True:
        state = followed.state()
        tasks = followed.tasks()
        for task in tasks:
            if told.get(task.name) != (task.state, task.attempt):
                told[task.name] = (task.state, task.attempt)
                if text := _told(followed, task):
                    display.line(text)
        if state in ENDED:
            display.close()
            return outcome(followed)
        if waits := waiting(followed, state, tasks):
            display.close()
            return waits
        running = [task for task in tasks if task.state == "running"]
        for task in running:
            since = began.setdefault((task.name, task.attempt), time.monotonic())
            display.progress(_progress(followed, task, time.monotonic() - since))
        if state == "queued" and not waited and time.monotonic() - began_waiting > PLAIN_SECONDS:
            waited = True
            display.line("queued    it waits for a free worker, or for another run of this pipeline to end")
        if time.monotonic() - began_waiting > seconds:
            raise RunError(f"The run has not ended in {seconds / 60:g} minutes and goes on: {followed.url}")
        time.sleep(POLL_SECONDS)


def _told(followed: Run, task: Task) -> str | None:
    """:return: the line for a step that has just come to this state, if there is something to say."""
    head = f"{task.name:<9}"
    seconds = _clock(task.seconds or 0)
    if task.state == "success":
        result = followed.result(task.name)
        return f"{head} done     {seconds:>6}  {result.get('why', '')}".rstrip() + (
            _data(result) if task.name == "ingest" else ""
        )
    if task.state == "up_for_retry":
        return f"{head} failed   {seconds:>6}  attempt {task.attempt}; it is tried again"
    if task.state == "failed":
        return f"{head} failed   {seconds:>6}"
    if task.state == "skipped":
        return f"{head} skipped"
    if task.state == "upstream_failed":
        return f"{head} not run"
    return None


def _data(result: dict[str, Any]) -> str:
    """:return: lines about what ingest found in the data, and where all of it is told."""
    lines = [f"warning: {warning}" for warning in result.get("warnings") or []]
    if result.get("dropped"):
        lines.append(dropped_rows(result["dropped"]))
    if result.get("report"):
        lines.append(f"data report: {page_of(result['report'])}")
    return "".join(f"\n{'':<10}{line}" for line in lines)


def _progress(followed: Run, task: Task, seconds: float) -> str:
    text = f"{task.name:<9} running  {_clock(seconds):>6}"
    if task.name != "train":
        return text
    found = [match for line in followed.log(task) if (match := PROGRESS.search(line))]
    if not found:
        return text
    latest = found[-1]
    return f"{text}  {latest['percent']}% | loss {latest['loss']} | left {latest['left']}"


def summary(ended_run: Run, ended: Outcome, spec: PipelineSpec | None) -> str:
    """:return: what a person wants to know at the end: verdict, reasons, metrics, a prediction, addresses."""
    lines = ["", _headline(ended_run.pipeline, ended), *(f"  - {reason}" for reason in ended.reasons)]
    lines += [f"  - note: {note}" for note in ended.notes]
    if ended.word == "held" and spec is not None and (differs := _difference(spec)):
        lines.append(differs)
    if ended.log:
        lines += ["The end of its log:", *(f"    {line}" for line in ended.log)]
    evaluated = ended.results.get("evaluate", {})
    for title, metrics in (
        ("Candidate", evaluated.get("metrics")),
        ("Champion", evaluated.get("champion_metrics")),
    ):
        if metrics:
            lines.append(f"{title:<11}{_metrics(metrics)}")
    endpoint = _endpoint_url(ended, spec)
    if endpoint:
        lines += _prediction(endpoint, evaluated.get("golden"))
        lines.append(f"{'Endpoint':<11}{endpoint}")
    lines.append(f"{'Airflow':<11}{ended_run.url}")
    for title, step, link in (("Data", "ingest", "data_report"), ("MLflow", "train", "run")):
        if step in ended.results and (address := ended_run.result(step, "links").get(link)):
            lines.append(f"{title:<11}{address}")
    if spec is not None:
        lines.append(_sign_in())
    return "\n".join(lines)


def _headline(pipeline: str, ended: Outcome) -> str:
    promoted = ended.results.get("promote", {})
    if ended.word == "promoted":
        previous = promoted.get("previous")
        return f"PROMOTED: {pipeline} version {promoted.get('version')} is champion" + (
            f"; it was version {previous}." if previous else ", the first one."
        )
    if ended.word == "unchanged":
        return f"UNCHANGED: {pipeline} version {promoted.get('version')} is champion already; nothing had to be done."
    if ended.word == "held":
        return f"HELD: the candidate for {pipeline} is not promoted; the run changed neither champion nor endpoint."
    if ended.word == "rejected":
        return f"REJECTED: the candidate for {pipeline}; the run changed neither champion nor endpoint."
    if ended.word == "waits":
        return f"WAITS for a person: shall the candidate for {pipeline} become champion? The run goes on by itself."
    if ended.word == "held off":
        return f"HELD OFF: it is too early for another run of {pipeline}. With --force it runs all the same."
    return f"{ended.word.upper()}: {pipeline}. {ended.production}".rstrip()


def _difference(spec: PipelineSpec) -> str | None:
    from ratchet.cli.stack.endpoints import difference
    from ratchet.cli.stack.settings import Settings

    return difference(Settings.from_environment(), spec.name, spec.deploy.endpoint)


def _metrics(metrics: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {'-' if value is None else format(value, '.4f')}" for name, value in metrics.items())


def _endpoint_url(ended: Outcome, spec: PipelineSpec | None) -> str | None:
    """:return: where the endpoint answers: as the deploy step said, else (held) as the embedded endpoint host says."""
    deployed = ended.results.get("deploy", {}).get("url")
    if deployed or spec is None:
        return deployed
    from ratchet.cli.stack.settings import Settings

    settings = Settings.from_environment()
    token = settings.secrets["endpoint_token"]
    answer = ask(f"{settings.url('endpoints')}/endpoints/{spec.deploy.endpoint}", token=token)
    return answer.get("url") if isinstance(answer, dict) and answer.get("status") == "serving" else None


def _sign_in() -> str:
    from ratchet.cli.stack.settings import Settings

    settings = Settings.from_environment()
    return f"{'Sign in':<11}as admin, password {settings.passwords['admin']}; other users: {settings.passwords_file}"


def _prediction(endpoint: str, golden: str | None) -> list[str]:
    """:return: one text of the test set with the endpoint's answer, if the text can be read from here."""
    if not golden or urlsplit(golden).scheme != "file":
        return []
    try:
        text = json.loads(Path(unquote(urlsplit(golden).path)).read_text())["texts"][0]
    except (OSError, LookupError, ValueError):
        return []
    answer = ask(f"{endpoint.rstrip('/')}/invocations", {"inputs": text})
    if not isinstance(answer, list) or not answer:
        return [f"{'Prediction':<11}none: {endpoint} does not answer"]
    first = answer[0][0] if isinstance(answer[0], list) else answer[0]
    return [f"{'Prediction':<11}{text[:100]!r} -> {first['label']} ({first['score']:.3f}), asked at the endpoint"]


def _checked_spec(pipeline: str) -> PipelineSpec:
    """Write the pipeline's stub if it has none. :raises SpecError: the spec is not valid; nothing was started."""
    spec = load(pipeline)
    if written := write_stub(spec_path(pipeline)):
        print(f"Wrote {written}")
    return spec


def _refuse_without_stack() -> None:
    if not has_stack():
        print("ratchet run: no embedded stack is installed here: name an Airflow with --url.", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)


def embedded_airflow(user: str | None = None) -> Airflow:
    """
    :param user: None: ``operator``.
    :raises RunError: the stack was never started, or has no such user; nothing was done.
    """
    from ratchet.cli.stack.settings import Settings, StackError

    settings = Settings.from_environment()
    name = user or "operator"
    try:
        passwords = settings.passwords
    except StackError as error:
        raise RunError(str(error)) from error
    if name not in passwords:
        raise RunError(f"The embedded stack has no user {name!r}, so nothing was done; it has {', '.join(passwords)}.")
    return Airflow(settings.url("airflow"), name, passwords[name])


def airflow_elsewhere(options: argparse.Namespace) -> Airflow:
    password = os.environ.get(options.password_env or "")
    if not options.user or not password:
        print("ratchet run: --url needs --user, and --password-env with a variable that is set.", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    return Airflow(options.url, options.user, password)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
