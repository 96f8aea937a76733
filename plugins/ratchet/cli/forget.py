"""``ratchet forget``: take objects or texts out of all that Ratchet keeps, and out of the next training."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ratchet import settings
from ratchet.cli.active import active_runs, add_airflow
from ratchet.cli.home import has_stack, ratchet_home
from ratchet.cli.registry import tracking_of
from ratchet.cli.retrain import EXIT_DONE, EXIT_FAILED, RunError
from ratchet.cli.specs import load
from ratchet.cli.stage import run_stage
from ratchet.cli.table import table
from ratchet.cli.what import add_texts, identities, object_name
from ratchet.hooks.stage import StageFailed
from ratchet.ledger import FORGET, FORGET_REFUSED, FORGOTTEN, INGESTED, Ledger, pipelines
from training.contract import BadInput, ForgetRequest

NOT_REACHED = (
    "Copies of the source, backups of the store, logs, and what killed processes left in the directory for temporary "
    "files (ratchet-*).",
    "Runs in MLflow that Ratchet did not write, and deleted ones until mlflow gc.",
    "Labels of the forgotten rows: in models, evaluations, verdicts and releases, in manifests of snapshots, in "
    "data-reports, keys and the ledger, in MLflow, and in the database and the logs of Airflow.",
    "Names of objects: in forgotten.json, which keeps them out, in manifests of batches and snapshots, in "
    "data-reports, keys and the ledger, and in the database and the logs of Airflow.",
    "Golden examples in releases on the endpoint hosts of other machines and in a cloud.",
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "forget",
        help="take objects or texts out of all that Ratchet keeps",
        description="Take objects or texts out of batches, snapshots, kept answers, golden examples and reports, for "
        "all pipelines of the store; they do not come in again. Says what it cannot reach. Exit status: 0 done, 1 not "
        "done or not finished (then go on with --resume), 2 wrong usage.",
    )
    parser.add_argument("pipeline", metavar="PIPELINE")
    parser.add_argument("--object", action="append", default=[], metavar="NAME", dest="objects", help="may be repeated")
    add_texts(parser)
    parser.add_argument(
        "--near", action="store_true", help="also texts that are nearly these; --dry-run shows where they are"
    )
    parser.add_argument("--reason", help="why; kept in the ledger, so without the text")
    parser.add_argument("--dry-run", action="store_true", help="say what it would do, and change nothing")
    parser.add_argument("--resume", action="store_true", help="finish what was killed")
    add_airflow(parser)
    parser.set_defaults(execute=forget)


def forget(options: argparse.Namespace) -> int:
    texts, objects = identities(options), [object_name(one) for one in options.objects]
    if options.resume == bool(texts or objects) or (options.resume and options.near):
        raise BadInput("Name objects with --object, or texts with --text or --texts; or only --resume.")
    spec = load(options.pipeline)
    try:
        return _forget(options, spec.name, texts, objects)
    except (RunError, StageFailed) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED


def _forget(options: argparse.Namespace, pipeline: str, texts: list[str], objects: list[str]) -> int:
    from training.store import Store

    store = Store(settings.store_uri())
    ledger = Ledger(store, pipeline)
    names = sorted({pipeline, *pipelines(store)})
    last = [Ledger(store, name).last(INGESTED) for name in names]
    tracking, access = tracking_of(pipeline)
    request = ForgetRequest(
        store=store.root,
        work=str(settings.work_directory()),
        tracking=tracking,
        watermarks=[record["watermark"] for record in last if record],
        objects=objects,
        texts=texts,
        near=options.near,
        endpoints=str(ratchet_home() / "endpoints") if has_stack() else None,
        resume=options.resume,
        dry_run=options.dry_run,
    )
    if not options.dry_run:
        if active := active_runs(options, names):
            raise RunError(
                f"A run is active: {', '.join(active)}. Nothing was changed: it may hold what is to be forgotten. Wait "
                "for it, or end it, and repeat this command."
            )
        if not options.resume:
            told = {"objects": objects, "texts": len(texts), "near": options.near, "reason": options.reason}
            ledger.append(FORGET, who=getpass.getuser(), **told)
    try:
        result = run_stage("forget", request, _show, env=access)
    except BadInput as error:
        if not options.dry_run:
            ledger.append(FORGET_REFUSED, error=str(error))
        raise
    if not options.dry_run:
        told = {name: result[name] for name in ("counts", "versions", "unknown", "in_source", "near", "left")}
        ledger.append(FORGOTTEN, who=getpass.getuser(), **told)
    print(_told(result, near=options.near, dry_run=options.dry_run))
    return EXIT_DONE


def _show(line: str) -> None:
    if not line.startswith("ERROR"):  # which is told at the end
        print(line, file=sys.stderr, flush=True)


def _told(result: Mapping[str, Any], *, near: bool, dry_run: bool) -> str:
    counts = [(f"{count:,}", what) for what, count in result["counts"].items()]
    lines = ["Would take out or correct:" if dry_run else "Taken out or corrected:"]
    lines.append(table(counts, indent="  ") if counts else "  nothing: it is nowhere in the store")
    alike = [f"- {result['near']:,} texts that are nearly the forgotten ones:", *_places(result["near_examples"])]
    if result["near"] and near:
        lines += ["With them:", *alike]
    lines.append("Not reached:")
    if result["near"] and not near:
        how = "--near takes them out as well." if dry_run else "Forget those that should go with --text or --texts."
        lines += [*alike, f"    Look at them there. {how}"]
    if result["versions"]:
        lines.append(f"- Models that were trained or tested on it: {', '.join(result['versions'])}")
    if result["unknown"]:
        lines.append(f"- Models whose snapshot is gone, so that nobody can tell: {', '.join(result['unknown'])}")
    if result["in_source"]:
        more = result["in_source"] - len(result["examples"])
        lines.append(f"- {result['in_source']:,} rows in the source, which are not read again:")
        lines += [*_places(result["examples"]), *([f"    and {more:,} more"] if more else [])]
    lines += _items([*result["left"], *NOT_REACHED])
    return "\n".join(lines)


def _places(examples: Iterable[str]) -> list[str]:
    return [f"    {one}" for one in examples]


def _items(sentences: Iterable[str]) -> list[str]:
    return [f"- {sentence}" for sentence in sentences]
