"""``ratchet history``: list the versions of a pipeline, what they were made of and what became of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ratchet import settings
from ratchet.cli.registry import use_connections
from ratchet.cli.retrain import EXIT_DONE, EXIT_FAILED, RunError
from ratchet.cli.specs import use_stack_settings
from ratchet.cli.table import table
from training.contract import BadInput

if TYPE_CHECKING:
    from ratchet.history import Entry

SHOWN = ("accuracy", "f1_macro")  # metrics in the table; --json has all


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "history",
        help="list the versions of a pipeline and what became of them",
        description="List the versions of a pipeline's model, newest first: aliases, verdict, scores on the test "
        "split, data, and who made each champion, and why. Exit status: 0 done, 1 MLflow does not answer, 2 wrong "
        "usage.",
    )
    parser.add_argument("pipeline", metavar="PIPELINE")
    parser.add_argument("-n", type=int, metavar="N", help="the newest N versions; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=show)


def show(options: argparse.Namespace) -> int:
    if options.n is not None and options.n < 1:
        raise BadInput(f"-n {options.n} is no number of versions; nothing was asked.")
    use_stack_settings()
    try:
        use_connections()
        entries = _ask(options.pipeline)[: options.n]
    except RunError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if options.json:
        print(json.dumps([entry.to_json() for entry in entries], indent=2))
    else:
        print(_told(entries) if entries else f"{options.pipeline} has no version: nothing was trained yet.")
    return EXIT_DONE


def _ask(pipeline: str) -> list[Entry]:
    """:raises RunError: MLflow does not answer. :raises BadInput: there never was such a pipeline."""
    from mlflow.exceptions import MlflowException

    from ratchet.history import history  # Airflow takes a second to import
    from ratchet.hooks.model_registry import ModelRegistryHook
    from ratchet.ledger import Ledger, require_known
    from training.store import Store

    store = Store(settings.store_uri())
    require_known(store, pipeline)
    try:
        return history(ModelRegistryHook(), Ledger(store, pipeline), pipeline)
    except MlflowException as error:
        raise RunError(f"MLflow does not answer: {error}. Is it up? (make up)") from error


def _told(entries: Sequence[Entry]) -> str:
    head = ("VERSION", "ALIASES", "MADE", "VERDICT", *(name.upper() for name in SHOWN), "SNAPSHOT", "ROWS")
    rows = table([head, *map(_row, entries)]).split("\n")
    lines = [rows[0]]
    for row, entry in zip(rows[1:], entries, strict=True):
        lines += [row, *(f"    {line}" for line in _happenings(entry))]
    return "\n".join(lines)


def _row(entry: Entry) -> tuple[str, ...]:
    scores = (f"{entry.metrics[name]:.4f}" if name in entry.metrics else "-" for name in SHOWN)
    rows = f"{sum(entry.rows.values()):,}" if entry.rows else "-"
    return (
        entry.version,
        ", ".join(entry.aliases) or "-",
        minute(entry.made) if entry.made else "-",
        "barred" if entry.barred else entry.verdict or "-",
        *scores,
        (entry.snapshot or "-")[:12],
        rows,
    )


def _happenings(entry: Entry) -> Iterator[str]:
    if entry.imported:
        yield f"imported from {entry.imported}"
    for one in entry.happenings:
        by, why = f" by {one.who}" if one.who else "", f": {one.why}" if one.why else ""
        yield f"{minute(one.time)}  {one.what}{by}{why}"


def minute(time: str) -> str:
    return time[:16].replace("T", " ")
