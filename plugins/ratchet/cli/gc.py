"""``ratchet gc``: remove what nobody needs any more of what the store keeps."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet import settings
from ratchet.cli.registry import use_connections
from ratchet.cli.retrain import EXIT_DONE, EXIT_FAILED, RunError
from ratchet.cli.specs import use_stack_settings
from ratchet.cli.table import table
from training.contract import BadInput

if TYPE_CHECKING:
    from ratchet.retention import Object, Retention

# Assumed: no step, with all its retries, is at work for longer. A run may wait for a person for a month: what it goes
# on with is named by the last evaluation of its pipeline
YOUNGEST_DAYS = 7
VERDICTS = 10  # assumed: of each pipeline
LEFT = (
    "Left alone: versions and runs in MLflow with the models that they hold (mlflow gc), the ledger, what texts are "
    "alike by (signatures/), and releases that endpoint hosts copied, which they remove themselves."
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "gc",
        help="remove what nobody needs any more",
        description="Remove snapshots, batches, models, releases, evaluations, predictions, verdicts and data reports "
        "that no alias, no endpoint, none of the last verdicts and no unfinished work needs, of all pipelines of the "
        "store. Says what would go and removes nothing, unless --yes is given. Exit status: 0 done, 1 MLflow or the "
        "endpoint host does not answer, 2 wrong usage.",
    )
    parser.add_argument("--yes", action="store_true", help="remove it")
    parser.add_argument(
        "--verdicts",
        type=int,
        default=VERDICTS,
        metavar="N",
        help="keep what the newest N verdicts and snapshots of each pipeline need; default: %(default)s",
    )
    parser.add_argument(
        "--older-than-days",
        type=int,
        default=YOUNGEST_DAYS,
        metavar="DAYS",
        help="leave alone what is younger; default, and the least: %(default)s, so that a run may go on meanwhile",
    )
    parser.set_defaults(execute=gc)


def gc(options: argparse.Namespace) -> int:
    """Say what would go, or remove it."""
    if options.verdicts < 1 or options.older_than_days < YOUNGEST_DAYS:
        raise BadInput(
            f"Nothing was removed: --verdicts is 1 at least, and --older-than-days {YOUNGEST_DAYS}: a run that goes on "
            "may need what is younger."
        )
    use_stack_settings()
    try:
        use_connections()
        _collect(options)
    except RunError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


def _collect(options: argparse.Namespace) -> None:
    """:raises RunError: nobody can tell what is needed; nothing was removed."""
    from training.keys import locked

    older_than = timedelta(days=options.older_than_days)
    unneeded = _look(options.verdicts, older_than).unneeded()
    requests = list(_old_requests(older_than))
    print(_told(unneeded, requests, removed=options.yes))
    if not options.yes:
        return
    try:
        with locked(settings.work_directory() / "forget", wait_seconds=0):  # both rewrite what the store keeps
            _remove(unneeded, options.verdicts, older_than)
    except TimeoutError as error:
        raise RunError(f"Nothing was removed: ratchet forget, or another gc, is at work. {error}") from error
    for directory in requests:
        shutil.rmtree(directory, ignore_errors=True)


def _remove(unneeded: Sequence[Object], verdicts: int, older_than: timedelta) -> None:
    """Look again first: what a run has begun to use meanwhile stays."""
    again = _look(verdicts, older_than)
    still = {one.key for one in again.unneeded()}
    for one in unneeded:
        if one.key in still:
            again.remove(one)


def _look(verdicts: int, older_than: timedelta) -> Retention:
    """:raises RunError: MLflow or the endpoint host does not answer."""
    import httpx
    from mlflow.exceptions import MlflowException

    from ratchet.hooks.endpoint_host import EndpointHostHook  # Airflow takes a second to import
    from ratchet.hooks.model_registry import ModelRegistryHook
    from ratchet.retention import Retention
    from training.store import Store

    registry = ModelRegistryHook()
    try:
        models = [registry.list_versions(name) for name in registry.list_models()]
        endpoints = EndpointHostHook().list_endpoints()
    except (MlflowException, httpx.HTTPError) as error:
        raise RunError(
            f"Nothing was removed: nobody can tell what is needed: {error}. Are MLflow and the endpoint host up? (make "
            "up)"
        ) from error
    return Retention(Store(settings.store_uri()), models, endpoints, verdicts, older_than)


def _old_requests(older_than: timedelta) -> Iterator[Path]:
    """:return: directories that stages left when they failed: the command that repeats one works there."""
    for directory in sorted((settings.work_directory() / "requests").glob("*")):
        if datetime.now(UTC) - datetime.fromtimestamp(directory.stat().st_mtime, UTC) > older_than:
            yield directory


def _told(unneeded: Sequence[Object], requests: Sequence[Path], *, removed: bool) -> str:
    if not unneeded and not requests:
        return f"Nothing to remove.\n{LEFT}"
    total = sum(one.bytes for one in unneeded)
    verb = "Removing" if removed else "Would remove"
    rows = [(f"{one.kind}/{one.name[:12]}", _size(one.bytes), f"{one.newest:%Y-%m-%d}") for one in unneeded]
    lines = [f"{verb} {len(unneeded):,} objects, {_size(total)}:"]
    lines += [table(rows, indent="  ")] if rows else []
    if requests:
        lines.append(f"{verb} what {len(requests):,} failed stages left in {requests[0].parent}")
    return "\n".join([*lines, LEFT, *([] if removed else ["To remove it: ratchet gc --yes"])])


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
