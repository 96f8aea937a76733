"""``ratchet seen``: say which model versions saw an object or a text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ratchet import settings
from ratchet.cli.registry import tracking_of
from ratchet.cli.retrain import RunError
from ratchet.cli.specs import load
from ratchet.cli.stage import run_stage
from ratchet.cli.table import table
from ratchet.cli.what import add_texts, identities, object_name
from ratchet.hooks.stage import StageFailed
from ratchet.ledger import FORGOTTEN, INGESTED, Ledger
from training.contract import BadInput, SeenRequest

EXIT_SEEN, EXIT_UNSEEN, EXIT_UNKNOWN = 0, 1, 3


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "seen",
        help="say which model versions saw an object or a text",
        description="Ask the snapshot of every version of the pipeline's model. Exit status: 0 a version saw it, 1 "
        "none did, 2 wrong usage, 3 nobody can tell: it was forgotten, MLflow or the store was away, or a snapshot is "
        "gone or damaged.",
    )
    parser.add_argument("pipeline", metavar="PIPELINE")
    parser.add_argument(
        "objects", metavar="OBJECT", nargs="*", help="a file, an object of a bucket, or a glob in quotes"
    )
    add_texts(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=seen)


def seen(options: argparse.Namespace) -> int:
    texts = identities(options)
    if not options.objects and not texts:
        raise BadInput("Nothing to look for: name an object, or give a text with --text or --texts.")
    spec = load(options.pipeline)
    try:
        result = _ask(spec.name, [object_name(one) for one in options.objects], texts)
    except (RunError, StageFailed) as error:
        print(error, file=sys.stderr)
        return EXIT_UNKNOWN
    print(json.dumps(result, indent=2) if options.json else _told(spec.name, result))
    if result["versions"]:
        return EXIT_SEEN
    return EXIT_UNKNOWN if result["unknown"] or result["forgotten"] else EXIT_UNSEEN


def _ask(pipeline: str, objects: list[str], texts: list[str]) -> dict[str, Any]:
    from training.store import Store

    store = settings.store_uri()
    ledger = Ledger(Store(store), pipeline)
    last = ledger.last(INGESTED)
    tracking, access = tracking_of(pipeline)
    request = SeenRequest(
        store=store, tracking=tracking, objects=objects, texts=texts, snapshot=last["digest"] if last else None
    )
    result = run_stage("seen", request, lambda _line: None, env=access)
    told = [version for record in ledger.records(FORGOTTEN) for version in record["versions"]]
    return {**result, "forgotten_by": list(dict.fromkeys(told))}


def _told(pipeline: str, result: Mapping[str, Any]) -> str:
    lines = []
    if result["versions"]:
        rows = [_row(one) for one in result["versions"]]
        lines.append(table([("VERSION", "ALIASES", "TRAINED", "SNAPSHOT", "ROWS"), *rows]))
    else:
        lines.append(
            f"No version of {pipeline} saw it{', as far as can still be told' if result['forgotten'] else ''}."
        )
    if now := result["in_force"]:
        lines.append(f"The next training sees it, in snapshot {now['snapshot'][:12]}: {_rows(now)}")
    if result["forgotten"]:
        lines.append(
            f"Forgotten: {result['forgotten']:,} of what was looked for, so nobody can tell of it any more. Of all "
            f"that was ever forgotten, these had seen something: {', '.join(result['forgotten_by']) or 'no version'}."
        )
    if result["unknown"]:
        lines.append(f"Nobody can tell of version {', '.join(result['unknown'])}: the snapshot is gone or damaged.")
    return "\n".join(lines)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    trained = datetime.fromisoformat(one["trained"]).astimezone(UTC)
    aliases = ", ".join(one["aliases"]) or "-"
    return one["version"], aliases, f"{trained:%Y-%m-%d %H:%M}", one["snapshot"][:12], _rows(one)


def _rows(sighting: Mapping[str, Any]) -> str:
    parts = [f"{split} {_counts(counts)}" for split, counts in sighting["rows"].items()]
    if sighting["refused"]:
        parts.append(f"refused {_counts(sighting['refused'])}")
    return "; ".join(parts) or "none"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())
