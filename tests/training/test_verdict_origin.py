"""What serving costs, and where data and models come from."""

from __future__ import annotations

import re

from tests.reports import binary
from tests.training.test_verdict_page import Page, in_order, page
from tests.training.verdicts import judged
from training.verdict_page import verdict_page


def test_what_serving_costs_and_what_else_was_compared_is_shown():
    evidence = binary(910, 884)
    evidence["best"] = {**evidence["champion"], "model": "models:/sentiment/2", "digest": "b" * 64}
    evidence["baseline"] = {**binary(500)["candidate"], "model": "majority", "digest": "d" * 64, "serving": None}
    for role in ("best", "baseline"):
        evidence["predictions"][role] = f"file:///store/predictions/{role}/predictions.parquet"
    text = page(evidence, no_worse_by=1.0).text
    assert re.search(
        r"metric candidate champion candidate is ← worse better → best ever baseline accuracy 0\.9100", text
    )
    assert re.search(r"calibration_error \(lower is better\) 0\.0500 0\.0500 0\.\d+ (better|worse)", text)
    assert "candidate champion best ever latency p50, ms 1.5 1.5 1.5" in text
    assert "on disk, MB 180.0" in text
    assert "same label as the checkpoint 100.00%" in text
    assert "best ever models:/sentiment/2" in text
    assert "baseline majority" in text


def test_where_it_comes_from_is_told():
    verdict, details = judged(binary(910))
    details["lineage"] |= {
        "key": "e" * 64,
        "base_model": "bert-tiny",
        "run_id": "run14",
        "snapshot": "f" * 64,
        "rows": {"train": 12345},
        "object_count": 500,
        "found": ["'neg' is 40% of the new rows, 10% before."],
        "objects": [{"name": f"day-{i}.csv", "version": "v1", "rows": 100 - i} for i in range(12)],
    }
    text = Page(verdict_page(verdict, details)).text
    for part in (
        "films-live",
        "e" * 64,
        "f" * 64,
        "bert-tiny",
        "run14",
        "train 12,345",
        "day-0.csv v1 100",
        "neg' is 40%",
    ):
        assert part in text
    assert in_order(text, "day-9.csv", "2 more objects", "day-11.csv", "and 488 smaller ones that are not shown")
