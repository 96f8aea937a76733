"""``ratchet replay``: say what a gate would have made of the last versions, from the answers that were kept."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from ratchet import settings
from ratchet.cli.history import minute
from ratchet.cli.registry import use_connections
from ratchet.cli.retrain import EXIT_DONE, EXIT_FAILED, RunError
from ratchet.cli.specs import load
from ratchet.cli.stage import run_stage
from ratchet.cli.table import table
from ratchet.hooks.stage import StageFailed
from training.contract import BadInput
from training.rules import Rules
from training.tags import SNAPSHOT_TAG, VERDICT_TAG

if TYPE_CHECKING:
    from ratchet.hooks.model_registry import ListedVersion

LAST = 10  # as many as ratchet gc keeps the answers of


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="say what the gate would have made of the last versions",
        description="Judge the last versions of a pipeline by the gate that its spec has now, oldest first, each "
        "against the one that this gate would have made champion by then. Only answers that were kept are looked at: "
        "nothing is scored, and nothing changes. Exit status: 0 done, 1 MLflow does not answer, 2 wrong usage.",
    )
    parser.add_argument("spec", metavar="NAME", help="path of a spec, or a pipeline's name")
    parser.add_argument(
        "--last", type=int, default=LAST, metavar="N", help="the newest N versions (default: %(default)s)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="another rule than the spec's: no_worse_by=0.01, approval=always, minimum.accuracy=0.9; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(execute=replay)


def replay(options: argparse.Namespace) -> int:
    """Print a table. :return: the exit status."""
    if options.last < 1:
        raise BadInput(f"--last {options.last} is no number of versions; nothing was asked.")
    spec = load(options.spec)
    rules = changed(spec.gate_rules(), options.set)
    try:
        use_connections()
        told = _ask(spec.name, rules, options.last)
    except (RunError, StageFailed) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    if options.json:
        print(json.dumps(told, indent=2))
    else:
        print(_told(told, rules["metric"]) if told else f"{spec.name} has no version: nothing was trained yet.")
    return EXIT_DONE


def changed(rules: dict[str, Any], given: Sequence[str]) -> dict[str, Any]:
    """
    :param given: ``KEY=VALUE``, the value in YAML; a dot leads into ``minimum`` and ``maximum``.
    :return: the rules with these changed.
    :raises BadInput: there is no such rule, or it takes no such value.
    """
    rules = {name: dict(value) if isinstance(value, dict) else value for name, value in rules.items()}
    for setting in given:
        key, separator, text = setting.partition("=")
        section, dot, name = key.partition(".")
        inner = rules.get(section)
        if not separator or section not in rules or (dot and not isinstance(inner, dict)):
            raise BadInput(f"--set {setting}: expected KEY=VALUE with a KEY of {', '.join(rules)}. Nothing was asked.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BadInput(f"--set {setting}: the value cannot be read ({error}). Nothing was asked.") from None
        if dot and isinstance(inner, dict):
            inner[name] = value
        else:
            rules[section] = value
    Rules.from_dict(rules)
    return rules


def _ask(pipeline: str, rules: dict[str, Any], last: int) -> list[dict[str, Any]]:
    """
    :return: of each version what the stage says of it, and what there is to know beside, newest first.
    :raises RunError: MLflow does not answer. :raises BadInput: there never was such a pipeline.
    """
    from mlflow.exceptions import MlflowException

    from ratchet.hooks.model_registry import ModelRegistryHook
    from ratchet.ledger import Ledger, require_known
    from ratchet.replay import replay_request
    from training.store import Store

    store = Store(settings.store_uri())
    require_known(store, pipeline)
    try:
        versions = ModelRegistryHook().list_versions(pipeline)
    except MlflowException as error:
        raise RunError(f"MLflow does not answer: {error}. Is it up? (make up)") from error
    request = replay_request(versions, Ledger(store, pipeline), rules, last)
    if not versions:
        return []
    said = {one["version"]: one for one in run_stage("replay", request, lambda _line: None)["versions"]}
    promoted = {one["version"]: one["promoted"] for one in request.versions}

    def told(one: ListedVersion) -> dict[str, Any]:
        return {
            **said[one.version],
            "made": one.made.isoformat(timespec="seconds") if one.made else None,
            "snapshot": one.tags.get(SNAPSHOT_TAG),
            "verdict": one.tags.get(VERDICT_TAG),
            "promoted": promoted[one.version],
        }

    return [told(one) for one in versions[:last]]


def _told(versions: Sequence[Mapping[str, Any]], metric: str) -> str:
    head = ("VERSION", "MADE", "DATA", "HAPPENED", "THIS GATE", metric.upper(), "AGAINST", "DIFFERENCE", "ROWS", "WHY")
    return "\n".join([table([head, *map(_row, versions)]), _summary(versions)])


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        one["version"],
        minute(one["made"]) if one["made"] else "-",
        (one["snapshot"] or "-")[:12],
        _happened(one),
        one["decision"],
        "-" if one["value"] is None else f"{one['value']:.4f}",
        one["against"] or "-",
        _difference(one),
        _rows(one),
        one["reason"],
    )


def _happened(one: Mapping[str, Any]) -> str:
    return "promoted" if one["promoted"] else one["verdict"] or "-"


def _difference(one: Mapping[str, Any]) -> str:
    if one["low"] is None:
        return "-"
    return f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"


def _rows(one: Mapping[str, Any]) -> str:
    if one["rows"] is None:
        return "-"
    whole = one["rows"] == one["test_rows"]
    return f"{one['rows']:,}" if whole else f"{one['rows']:,} of {one['test_rows']:,}"


def _summary(versions: Sequence[Mapping[str, Any]]) -> str:
    counts = [
        f"{count} {words}"
        for decision, words in (
            ("promote", "promoted"),
            ("hold", "held"),
            ("ask", "put before a person"),
            ("unknown", "unknown"),
        )
        if (count := sum(one["decision"] == decision for one in versions))
    ]
    other = [one["version"] for one in versions if one["decision"] == ("hold" if one["promoted"] else "promote")]
    changes = f"otherwise than what happened: version {', '.join(other)}" if other else "as it happened"
    return f"{', '.join(counts)}; {changes}."
