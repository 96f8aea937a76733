"""Evaluation reports that add up, built from confusion matrices, and answers that give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from training.evidence import Evidence
from training.report import computed_metrics, label_score

CANDIDATE, CHAMPION, BEST, TEST_SET = "c" * 64, "a" * 64, "b" * 64, "7" * 64


def scored(
    confusion: list[list[int]],
    labels: list[str],
    digest: str,
    model: str = "models:/sentiment/4",
    log_loss: float = 0.3,
) -> dict[str, Any]:
    per_label = {label: vars(label_score(confusion, i)) for i, label in enumerate(labels)}
    return {
        "model": model,
        "digest": digest,
        "metrics": {**computed_metrics(confusion), "log_loss": log_loss, "calibration_error": 0.05},
        "labels": per_label,
        "confusion": confusion,
        "unknown_labels": [],
        "serving": serving(digest),
    }


def serving(digest: str, **changes: Any) -> dict[str, Any]:
    """:return: what serving the model costs; ``changes`` are of the parts."""
    return {
        "release": f"file:///store/releases/{digest}",
        "precision": "f32",
        "latency_ms": {"p50": 1.5, "p95": 2.5, "p99": 4.0},
        "throughput": 900.0,
        "disk_bytes": 180_000_000,
        "memory_bytes": 120_000_000,
        "agreement": {
            "labels": 1.0,
            "largest_difference": 1e-6,
            "rows_beyond_tolerance": 0,
            "tolerance": 1e-3,
        },
        **changes,
    }


def report(
    candidate: list[list[int]],
    champion: list[list[int]] | None = None,
    labels: list[str] | None = None,
    candidate_digest: str = CANDIDATE,
    champion_digest: str = CHAMPION,
    log_loss: tuple[float, float] = (0.3, 0.3),
    best: list[list[int]] | None = None,
) -> dict[str, Any]:
    """:param candidate: true label by predicted label; so is ``champion``."""
    labels = labels or [f"label {i}" for i in range(len(candidate))]
    rows = sum(map(sum, candidate))
    return {
        "test_set": {
            "uri": "file:///store/snapshots/7",
            "digest": TEST_SET,
            "rows": rows,
            "labels": labels,
            "new_rows": None,
        },
        "candidate": scored(candidate, labels, candidate_digest, log_loss=log_loss[0]),
        "champion": None
        if champion is None
        else scored(champion, labels, champion_digest, model="models:/sentiment/3", log_loss=log_loss[1]),
        "best": None if best is None else scored(best, labels, BEST, model="models:/sentiment/2", log_loss=log_loss[1]),
        "baseline": None,
        "predictions": {
            "candidate": "file:///store/predictions/1/predictions.parquet",
            "champion": None if champion is None else "file:///store/predictions/2/predictions.parquet",
            "best": None if best is None else "file:///store/predictions/3/predictions.parquet",
            "baseline": None,
        },
        "slices": [],
        "membership": None,
        "behaviour": None,
    }


def binary(right: int, champion_right: int | None = None, rows: int = 1000, **more: Any) -> dict[str, Any]:
    """:return: a report whose accuracy is ``right / rows``."""
    return report(two(right, rows), None if champion_right is None else two(champion_right, rows), **more)


def two(right: int, rows: int = 1000) -> list[list[int]]:
    """:return: a confusion matrix of two labels; mistakes are shared evenly between them."""
    wrong, half = rows - right, rows // 2
    first = wrong // 2
    return [[half - first, first], [wrong - first, rows - half - (wrong - first)]]


def answers(report: dict[str, Any], seed: int | None = None, slices: dict[str, Any] | None = None) -> Evidence:
    """
    :param seed: of who is right where. None: the models agree wherever their confusion matrices let them.
    :return: answers that give the confusion matrices and losses of the report.
    """
    scores = {role: report[role] for role in ("candidate", "champion", "best") if report.get(role)}
    random = np.random.default_rng(seed)
    support = [sum(row) for row in report["candidate"]["confusion"]]
    predicted = {role: [_row(each["confusion"], i) for i in range(len(support))] for role, each in scores.items()}
    if seed is not None:
        predicted = {role: [random.permutation(row) for row in rows] for role, rows in predicted.items()}
    rows = sum(support)
    return Evidence(
        truth=np.repeat(np.arange(len(support)), support),
        predicted={role: np.concatenate(rows) for role, rows in predicted.items()},
        losses={role: np.full(rows, each["metrics"]["log_loss"]) for role, each in scores.items()},
        slices=slices or {},
        sureness={role: random.uniform(0.5, 1.0, rows) for role in scores},
        hashes=pa.chunked_array([[f"{row:064x}" for row in range(rows)]]),
    )


def _row(confusion: list[list[int]], truth: int) -> Any:
    """:return: what a model said to the rows of one label, right answers first."""
    order = sorted(range(len(confusion)), key=lambda label: label != truth)
    return np.repeat(order, [confusion[truth][label] for label in order]).astype(np.int64)
