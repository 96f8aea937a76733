"""``ratchet rollback``: return endpoint and champion to an earlier version, through the DAG that does it."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

from ratchet.cli import EXIT_INTERRUPTED
from ratchet.cli.active import add_airflow, airflow_of
from ratchet.cli.retrain import EXIT_DONE, EXIT_FAILED, Outcome, Run, RunError, start
from ratchet.cli.run import Display, follow
from training.contract import BadInput
from training.visible import SEEN

DAG = "ratchet_rollback"
LONGEST_SECONDS = 3600.0  # assumed: a release that is there is up in seconds, one that is packaged anew in minutes


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "rollback",
        help="return endpoint and champion to an earlier version",
        description="Return a pipeline's endpoint and champion to an earlier version, which is tested before it takes "
        "over; the version that it replaces is barred. Exit status: 0 done, 1 not done, 2 wrong usage.",
    )
    parser.add_argument("pipeline", metavar="PIPELINE")
    parser.add_argument("--version", metavar="N", help="one that was champion; default: the champion before this one")
    parser.add_argument("--reason", required=True, help="why; kept in the history")
    add_airflow(parser, "the Airflow that does it")
    parser.set_defaults(execute=rollback)


def rollback(options: argparse.Namespace) -> int:
    """Start the DAG and follow it to its end."""
    if not re.search(SEEN, options.reason):
        raise BadInput("Nothing was changed: --reason says why, which the history keeps.")
    airflow = airflow_of(options)
    if airflow is None:
        print("Nothing was changed: Airflow does not run. Start it with: make up", file=sys.stderr)
        return EXIT_FAILED
    parameters: dict[str, Any] = {"pipeline": options.pipeline, "version": options.version, "reason": options.reason}
    display = Display(sys.stdout)
    try:
        started = start(airflow, DAG, parameters)
        print(f"Started {started.url}")
        return _end(started, follow(started, display, LONGEST_SECONDS))
    except RunError as error:
        display.close()
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        display.close()
        print(f"\nStopped following; the rollback goes on: {started.url}")
        return EXIT_INTERRUPTED


def _end(run: Run, ended: Outcome) -> int:
    done = run.result("rollback")
    if not done:
        print("\n".join(["Not rolled back.", *(f"  - {reason}" for reason in ended.reasons), *ended.log]))
        return EXIT_FAILED
    print(f"ROLLED BACK: {done['model']} version {done['version']} is champion again; it was {done['previous']}.")
    return EXIT_DONE
