"""``ratchet try``: a pipeline from data to predictions in one process, without Airflow, MLflow or an endpoint."""

from __future__ import annotations

import argparse
import sys
from textwrap import shorten
from typing import Any

from ratchet import settings
from ratchet.cli.retrain import EXIT_DONE, EXIT_FAILED, EXIT_HELD
from ratchet.cli.specs import load
from ratchet.cli.stage import run_stage
from ratchet.cli.table import table
from ratchet.hooks.stage import StageFailed
from training.contract import TryRequest


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "try",
        help="go the whole way on a few rows, without Airflow",
        description="Take a snapshot, train, evaluate, judge, package and predict in one process, in a place that is "
        "removed afterwards; a base model from the Hub is kept for the next time. Exit status: 0 promote, 3 hold or "
        "ask, 2 a spec or data to correct, 1 anything else.",
    )
    parser.add_argument("spec", metavar="SPEC", help="path or pipeline name")
    parser.add_argument(
        "--rows", type=_positive, default=500, help="rows to read of each source (default: %(default)s)"
    )
    parser.set_defaults(execute=try_spec)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


def try_spec(options: argparse.Namespace) -> int:
    spec = load(options.spec)
    store = settings.store_uri()  # the stage puts one of its own in its place; the work directory keeps base models
    request = TryRequest(
        ingest=spec.ingest_request(store, max_rows=options.rows),
        train=spec.train_request(store, str(settings.work_directory())),
        evaluate=spec.evidence(),
        rules=spec.gate_rules(),
    )
    try:
        result = run_stage("try", request, _show, reads=spec)
    except StageFailed as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    print(_report(result))
    return EXIT_DONE if result["decision"] == "promote" else EXIT_HELD


def _show(line: str) -> None:
    print(line, flush=True)


def _report(result: dict[str, Any]) -> str:
    metrics = [(name, "-" if value is None else f"{value:.3f}") for name, value in sorted(result["metrics"].items())]
    predictions = [(f"{p['score']:.3f}", p["label"], shorten(p["text"], 100)) for p in result["predictions"]]
    seconds = [(step, f"{value:.1f}") for step, value in result["seconds"].items()]
    parts = [f"\n{result['decision']}: " + "; ".join(result["reasons"])]
    parts += [f"Note: {note}" for note in result["notes"]]
    for title, rows in (("Metrics", metrics), ("Predictions", predictions), ("Seconds", seconds)):
        if rows:
            parts.append(f"{title}\n{table(rows, indent='  ')}")
    return "\n\n".join(parts)
