"""
What it costs to say which rows of a large test split are in which slice.

    .venv-training/bin/python -m benchmarks.slices --directory DIR

100,000 test rows with two kept columns and times, 50 slices of all kinds. DIR keeps the snapshot for the next time.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from training.contract import IngestRequest, Reading
from training.ingest import ingest
from training.slices import cut, write_membership
from training.testset import read_test_set

ROWS = 100_000
REGIONS = [f"region {number}" for number in range(12)]
SLICES: dict[str, dict[str, Any]] = {
    "region": {"column": "region"},  # 12 slices
    **{f"regions {at}": {"column": "region", "values": REGIONS[at : at + 3]} for at in range(8)},
    **{f"length {low}": {"text_length": [low, low + 20]} for low in range(0, 160, 20)},
    **{f"label {number}": {"label": [f"label {number}"]} for number in range(6)},
    **{f"source {number}": {"source": f"*/part-{number}.jsonl"} for number in range(4)},
    **{f"week {week}": {"age_days": [7 * week, 7 * week + 7]} for week in range(4)},
    **{f"above {price}": {"where": f"try_cast(price AS DOUBLE) > {price} AND length(text) > 30"} for price in range(4)},
    **{f"words {count}": {"where": f"len(string_split(text, ' ')) > {count}"} for count in (4, 8, 12, 16)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    place = parser.parse_args().directory
    snapshot = prepare(place)
    read = time.process_time()
    test_set = read_test_set(snapshot, "text", "label")
    began = time.process_time()
    groups = cut(test_set, SLICES)
    cut_in = time.process_time() - began
    write_membership(place / "membership.parquet", test_set, groups)
    written_in = time.process_time() - began - cut_in
    print(f"{len(test_set.texts):,} rows, {len(groups)} slices; seconds of the processor:")
    print(f"reading the test split {began - read:.2f}, cutting {cut_in:.2f}, writing {written_in:.2f}")


def prepare(place: Path) -> str:
    """:return: a snapshot whose test split has ``ROWS`` rows."""
    newest = datetime(2026, 3, 31, tzinfo=UTC)
    for split, count in (("train", 20_000), ("test", ROWS)):
        (place / split).mkdir(parents=True, exist_ok=True)
        for part in range(4):
            with (place / split / f"part-{part}.jsonl").open("w") as file:
                for number in range(part, count, 4):
                    row = {
                        "text": f"{split} text number {number} " + "word " * (number % 20),
                        "label": f"label {number % 20}",
                        "region": REGIONS[number % len(REGIONS)],
                        "price": number % 7,
                        "at": (newest - timedelta(minutes=number)).isoformat(),
                    }
                    file.write(json.dumps(row) + "\n")
    reading = Reading(
        source=str(place / "train"),
        test=str(place / "test"),
        text="text",
        label="label",
        time="at",
        keep=["region", "price"],
    )
    return ingest(IngestRequest(pipeline="slices", store=str(place / "store"), reading=reading)).snapshot


if __name__ == "__main__":
    main()
