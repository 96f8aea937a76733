"""``ratchet plan``: say what a run would do again, and why; nothing is written."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from ratchet import settings
from ratchet.arrivals import minute, too_early
from ratchet.cli.specs import load
from ratchet.cli.stage import run_stage
from ratchet.cli.table import dropped_rows, page_of, table
from ratchet.hooks.stage import StageFailed
from ratchet.ledger import INGESTED, Ledger
from training.contract import PlanRequest


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="say what a run would do again, and why",
        description="Read the data and say for each step whether its work is done (hit) or not (miss), and why.",
    )
    parser.add_argument("spec", metavar="SPEC", help="path or pipeline name")
    parser.set_defaults(execute=plan)


def plan(options: argparse.Namespace) -> int:
    spec = load(options.spec)
    store = settings.store_uri()
    ledger = _ledger(store, spec.name)
    last = ledger.last(INGESTED) or {}  # what the ledger says of the data that was read last
    request = PlanRequest(
        ingest=spec.ingest_request(store, watermark=last.get("watermark")),
        train=spec.train_request(store, str(settings.work_directory())),
        evaluate=spec.evidence(),
    )
    lines: list[str] = []
    try:
        result = run_stage("plan", request, lines.append, reads=spec)
    except StageFailed as error:
        before = [line for line in lines if line.partition(" ")[2] not in str(error)]  # the error itself is logged too
        print(*before, error, sep="\n", file=sys.stderr)
        return 1
    print(table([("STEP", "STATE", "WHY"), *((s["step"], s["state"], _reason(s)) for s in result["steps"])]))
    if result["dropped"]:
        print(f"Of the rows, ingest {dropped_rows(result['dropped'])}")
    for warning in result["warnings"]:
        print(f"Warning: {warning}")
    if early := too_early(ledger, spec.trigger.cooldown, datetime.now(UTC)):
        print(f"A run that is not forced is held off until {minute(early.until.isoformat())}: {early.reason}")
    if report := last.get("report"):
        print(f"The data that was read last: {page_of(report)}")
    return 0


def _ledger(store: str, pipeline: str) -> Ledger:
    from training.store import Store

    return Ledger(Store(store), pipeline)


def _reason(step: dict[str, str]) -> str:
    return step["why"].removeprefix(f"{step['state']}: ")
