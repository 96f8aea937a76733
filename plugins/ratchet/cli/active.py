"""Say which runs are active, so that nothing is changed under them."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from urllib.parse import quote

from ratchet.cli.ask import ask
from ratchet.cli.home import has_stack
from ratchet.cli.retrain import Airflow, Run
from ratchet.cli.run import airflow_elsewhere, embedded_airflow
from training.contract import BadInput

ANSWER_SECONDS = 5


def add_airflow(parser: argparse.ArgumentParser, what: str = "the Airflow whose runs must not be active") -> None:
    default = "the embedded stack, which may be down" if has_stack() else "needed: no embedded stack is installed here"
    parser.add_argument("--url", help=f"{what}; default: {default}")
    parser.add_argument("--user", help="with --url: who asks")
    parser.add_argument("--password-env", metavar="VARIABLE", help="with --url: variable that holds the password")


def active_runs(options: argparse.Namespace, pipelines: Collection[str]) -> list[str]:
    """
    :return: the pages of the runs of these pipelines that are running or queued; of one that waits for a person, what
        that person is asked.
    :raises RunError: Airflow does not answer, or refuses to.
    """
    airflow = airflow_of(options)
    if airflow is None:
        return []
    found = []
    for pipeline in sorted(pipelines):  # each asked apart: an answer has at most 100 runs, which may all be of others
        answer = airflow.find(f"/dags/{quote(pipeline, safe='')}/dagRuns?state=running&state=queued")
        found += [_told(Run(airflow, pipeline, run["dag_run_id"])) for run in (answer or {"dag_runs": []})["dag_runs"]]
    return found


def _told(run: Run) -> str:
    awaits = run.awaits(run.tasks())
    return f"{run.url} (waits for a person: {'; '.join(awaits)})" if awaits else run.url


def airflow_of(options: argparse.Namespace) -> Airflow | None:
    """:return: None: the embedded stack is down, so that nothing runs."""
    if options.url:
        return airflow_elsewhere(options)
    if not has_stack():
        raise BadInput("Nothing was changed: name the Airflow with --url.")
    from ratchet.cli.stack.settings import Settings, StackError

    try:
        url = Settings.from_environment().url("airflow")
    except StackError:  # it was never started
        return None
    return embedded_airflow() if ask(f"{url}/api/v2/version", timeout_seconds=ANSWER_SECONDS) else None
