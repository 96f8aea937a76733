"""
What a verdict costs: 100,000 test rows, 77 labels, a champion and a best version beside the candidate, 50 slices.

    .venv-training/bin/python -m benchmarks.judge --directory DIR

Answers are drawn: nine in ten are right, and six in a hundred differ between two models. Beside it
``scipy.stats.bootstrap`` on the same rows with accuracy, the cheapest metric, and a hundredth of the resamples.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats

from benchmarks.ingest import measured
from training.bootstrap import RESAMPLES
from training.contract import JudgeRequest
from training.metrics import measure
from training.slices import NEW, TEXT
from training.store import local_path
from training.text import text_hash

ROWS, LABELS, SLICES = 100_000, 77, 50
RIGHT, DIFFERENT = 0.9, 0.06
NEW_ROWS = 0.1  # that joined since the champion was judged
OTHERWISE = 100  # resamples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    place: Path = parser.parse_args().directory
    place.mkdir(parents=True, exist_ok=True)
    truth, answers = drawn()
    report = kept(place, truth, answers)
    (place / "report.json").write_text(json.dumps(report))
    request = JudgeRequest(
        pipeline="benchmark",
        store=(place / "store").as_uri(),
        report=(place / "report.json").as_uri(),
        force=True,
    )
    (place / "request.json").write_text(request.to_json())
    stage = ["judge", "--in", str(place / "request.json"), "--out", str(place / "result.json")]
    seen = measured([sys.executable, "-m", "training", *stage])
    result = json.loads((place / "result.json").read_text())
    decision = result["verdict"]["decision"]
    print(f"{ROWS:,} rows, {LABELS} labels, {SLICES} slices, {RESAMPLES:,} resamples: {decision}")
    print(
        f"judge      {seen.seconds:5.1f} s  {seen.processor_seconds:5.1f} processor seconds  {seen.peak_mib:,.0f} MiB"
    )
    print(f"its page   {local_path(result['page']).stat().st_size / 1024:,.0f} KiB")
    right = [(said == truth).astype(float) for said in (answers["candidate"], answers["champion"])]
    began = time.perf_counter()
    stats.bootstrap(right, better, paired=True, n_resamples=OTHERWISE, batch=10, method="percentile")
    seconds = (time.perf_counter() - began) * RESAMPLES / OTHERWISE
    print(f"bootstrap  {seconds:5.1f} s for {RESAMPLES:,} resamples of one accuracy, from {OTHERWISE}")


def better(one: NDArray[np.float64], other: NDArray[np.float64], axis: int = -1) -> Any:
    return one.mean(axis=axis) - other.mean(axis=axis)


def drawn() -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    random = np.random.default_rng(0)
    truth = random.integers(0, LABELS, ROWS)

    def answer(where: NDArray[np.bool_], given: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(where, given, np.where(random.random(ROWS) < RIGHT, truth, random.integers(0, LABELS, ROWS)))

    candidate = answer(np.zeros(ROWS, bool), truth)
    same = [random.random(ROWS) > DIFFERENT for _ in range(2)]
    return truth, {
        "candidate": candidate,
        "champion": answer(same[0], candidate),
        "best": answer(same[1], candidate),
    }


def kept(place: Path, truth: NDArray[np.int64], answers: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Write what an evaluation keeps. :return: its report."""
    labels = [f"label {number:02}" for number in range(LABELS)]
    names = np.array(labels)
    texts = [f"what the text of the row with the number {row} says" for row in range(ROWS)]
    hashes = [text_hash(text) for text in texts]
    pq.write_table(pa.table({"text": texts, "label": names[truth]}), place / "test.parquet")
    random = np.random.default_rng(1)
    slices = {f"slice {number}": random.random(ROWS) < random.random() for number in range(SLICES)}
    new = random.random(ROWS) < NEW_ROWS
    pq.write_table(pa.table({TEXT: hashes, NEW: new, **slices}), place / "membership.parquet")
    report: dict[str, Any] = {
        "test_set": {
            "uri": (place / "test.parquet").as_uri(),
            "text_column": "text",
            "digest": "7" * 64,
            "rows": ROWS,
            "labels": labels,
            "new_rows": int(new.sum()),
        },
        "baseline": None,
        "predictions": {"baseline": None},
        "slices": [{"name": name, "rows": int(member.sum()), "description": name} for name, member in slices.items()],
        "membership": (place / "membership.parquet").as_uri(),
        "behaviour": None,
    }
    for role, said in answers.items():
        scores = np.full((ROWS, LABELS), 0.2 / (LABELS - 1))
        scores[np.arange(ROWS), said] = 0.8
        file = place / f"{role}.parquet"
        table = pa.table(
            {
                "text_sha256": hashes,
                "label": names[truth],
                "prediction": names[said],
                "scores": pa.FixedSizeListArray.from_arrays(scores.ravel(), LABELS).cast(pa.list_(pa.float64())),
            }
        )
        pq.write_table(table.replace_schema_metadata({"labels": json.dumps(labels)}), file)
        report["predictions"][role] = file.as_uri()
        report[role] = {
            "model": f"models:/benchmark/{len(role)}",
            "digest": f"{len(role):064x}",
            **measure(truth, said, scores, labels),
            "unknown_labels": [],
            "serving": SERVING,
        }
    return report


SERVING = {
    "release": "file:///nowhere",
    "precision": "f32",
    "latency_ms": {"p50": 1.0, "p95": 1.0, "p99": 1.0},
    "throughput": 1.0,
    "disk_bytes": 1,
    "memory_bytes": 1,
    "agreement": {"labels": 1.0, "largest_difference": 0.0, "rows_beyond_tolerance": 0, "tolerance": 0.001},
}

if __name__ == "__main__":
    main()
