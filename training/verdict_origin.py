"""Show what serving each of the models costs, and where data and models come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.page import code, folded, table, text
from training.report import LATENCIES

FIRST_OBJECTS = 10
ROLES = {"candidate": "candidate", "champion": "champion", "best": "best ever", "baseline": "baseline"}


def serving(details: Mapping[str, Any]) -> str:
    served = {name: one["serving"] for name, one in _models(details) if one["serving"]}
    if not served:
        return ""
    lines = {
        **{f"latency {each}, ms": [f"{one['latency_ms'][each]:.1f}" for one in served.values()] for each in LATENCIES},
        "texts per second": [f"{one['throughput']:,.0f}" for one in served.values()],
        "on disk, MB": [f"{one['disk_bytes'] / 1e6:,.1f}" for one in served.values()],
        "in memory, MB": [f"{one['memory_bytes'] / 1e6:,.1f}" for one in served.values()],
        "precision": [text(one["precision"]) for one in served.values()],
        "same label as the checkpoint": [f"{one['agreement']['labels']:.2%}" for one in served.values()],
        "largest difference of a score": [f"{one['agreement']['largest_difference']:.1e}" for one in served.values()],
        "rows beyond the tolerance": [
            f"{one['agreement']['rows_beyond_tolerance']:,} (±{one['agreement']['tolerance']:g})"
            for one in served.values()
        ],
    }
    about = (
        "<p>Measured when each was evaluated, whatever else that machine did; the latency is of one text alone, "
        "without network. Half of the texts take p50 at most, 99 in a hundred p99.</p>"
    )
    return f"<h2>Serving</h2>{about}{table(['', *served], [[name, *cells] for name, cells in lines.items()])}"


def origin(details: Mapping[str, Any]) -> str:
    lineage = details["lineage"]
    rows = [[name, text(one["model"]), code(one["digest"])] for name, one in _models(details)]
    rows.append(["test set", text(details["test_set"]["uri"]), code(details["test_set"]["digest"])])
    compared = table(["", "name", "SHA-256"], rows, text_columns=3)
    facts = [[text(name), text(value)] for name, value in lineage["known"].items()]
    for name, key in (("imported from", "imported"), ("base model", "base_model"), ("MLflow run", "run_id")):
        if lineage.get(key):
            facts.append([name, text(lineage[key])])
    for name, key in (("key of the training", "key"), ("snapshot that it was trained on", "snapshot")):
        if lineage.get(key):
            facts.append([name, code(lineage[key])])
    if lineage.get("rows"):
        facts.append(["rows that it was trained on", ", ".join(f"{text(s)} {n:,}" for s, n in lineage["rows"].items())])
    for name, one in _models(details):
        if one["serving"]:
            facts.append([f"release of the {name}", text(one["serving"]["release"])])
    made = table(["", ""], facts, text_columns=2) if facts else ""
    data = _found(lineage) + _objects(lineage)
    return f'<section class="origin"><h2>Where it comes from</h2>{compared}{made}{data}</section>'


def _models(details: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, details["models"][role]) for role, name in ROLES.items() if role in details["models"]]


def _found(lineage: Mapping[str, Any]) -> str:
    told = "".join(f"<li>{text(one)}</li>" for one in lineage.get("found") or ())
    return f"<h3>What the checks found in the data that it was trained on</h3><ul>{told}</ul>" if told else ""


def _objects(lineage: Mapping[str, Any]) -> str:
    objects = lineage.get("objects") or []
    if not objects:
        return ""

    def listed(some: Sequence[Mapping[str, Any]]) -> str:
        rows = [[text(one["name"]), text(one["version"]), f"{one['rows']:,}"] for one in some]
        return table(["object of the source", "version", "rows read"], rows, text_columns=2)

    rest, untold = objects[FIRST_OBJECTS:], lineage["object_count"] - len(objects)
    left = f"<p>and {untold:,} smaller ones that are not shown</p>" if untold > 0 else ""
    more = folded(f"{len(rest):,} more objects", listed(rest)) if rest else ""
    return listed(objects[:FIRST_OBJECTS]) + more + left


STYLE = """
.origin td { max-width: none } .origin td:first-child { min-width: 9rem }
"""
