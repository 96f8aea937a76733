"""Evaluation reports that add up, built from confusion matrices."""

from __future__ import annotations

from typing import Any

from training.report import computed_metrics, label_score

CANDIDATE, CHAMPION, TEST_SET = "c" * 64, "a" * 64, "7" * 64


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
        "best": None,
        "baseline": None,
        "predictions": {
            "candidate": "file:///store/predictions/1/predictions.parquet",
            "champion": None if champion is None else "file:///store/predictions/2/predictions.parquet",
            "best": None,
            "baseline": None,
        },
        "slices": [],
        "membership": None,
        "behaviour": None,
    }


def binary(right: int, champion_right: int | None = None, rows: int = 1000, **more: Any) -> dict[str, Any]:
    """:return: a report whose accuracy is ``right / rows``; mistakes are shared evenly between two labels."""

    def confusion(correct: int) -> list[list[int]]:
        wrong, half = rows - correct, rows // 2
        first = wrong // 2
        return [[half - first, first], [wrong - first, rows - half - (wrong - first)]]

    return report(confusion(right), None if champion_right is None else confusion(champion_right), **more)
