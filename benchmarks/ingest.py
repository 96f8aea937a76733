"""
Rows per second and memory of ingest, and of what one would otherwise write: ``load_dataset`` and ``train_test_split``.

Both read the same JSONL file of about 260 bytes a row, each in a fresh process with an empty cache, in alternating
pairs; their time is that of the process from start to end. Ingest checks, compares, splits and hashes every row; the
other one only parses and splits by position. Then one per cent more rows arrive in a second file, and ingest goes on
from its watermark.

    .venv-training/bin/python -m benchmarks.ingest --directory DIR [--rows 4000000] [--pairs 3]

``DIR`` gets the file, and needs about four times its size in all; the file is kept for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import psutil

from training.contract import IngestRequest, Reading

ROOT = Path(__file__).resolve().parents[1]
LABELS = [f"label-{number}" for number in range(20)]
WORDS = 30  # of a text
VOCABULARY = 20_000
SAMPLE_SECONDS = 0.1

OTHERWISE = """
import sys
from datasets import load_dataset
rows = load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2])
print({name: len(split) for name, split in rows.train_test_split(test_size=0.15, seed=1).items()})
"""


@dataclass(frozen=True)
class Seen:
    seconds: float
    processor_seconds: float
    peak_mib: float  # resident memory of the process and its children together


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--ours-only", action="store_true", help="for sizes that the other way has no memory for")
    options = parser.parse_args()
    directory: Path = options.directory
    directory.mkdir(parents=True, exist_ok=True)
    first = written(directory / f"rows-{options.rows}.jsonl", options.rows, seed=1)
    more = written(directory / f"more-{options.rows}.jsonl", options.rows // 100, seed=2)
    size = first.stat().st_size
    print(f"{options.rows:,} rows, {size / 2**30:.2f} GiB, {size / options.rows:.0f} bytes each")

    ours: list[Seen] = []
    theirs: list[Seen] = []
    appended: list[Seen] = []
    for _ in range(options.pairs):
        ours.append(ingested(directory, first))
        told("ingest", ours[-1], options.rows)
        appended.append(ingested(directory, first, more))
        told("one per cent more", appended[-1], options.rows // 100)
        if not options.ours_only:
            theirs.append(otherwise(directory, first))
            told("load_dataset", theirs[-1], options.rows)

    print("medians")
    told("ingest", median(ours), options.rows)
    told("one per cent more", median(appended), options.rows // 100)
    if theirs:
        told("load_dataset", median(theirs), options.rows)
        ratios = [their.seconds / our.seconds for our, their in zip(ours, theirs, strict=True)]
        print(f"ratio of the times: {statistics.median(ratios):.2f} ({', '.join(f'{ratio:.2f}' for ratio in ratios)})")


def written(path: Path, rows: int, seed: int) -> Path:
    """Words are as frequent as in a language; 2 per cent of the texts are there before, 3 per cent are not ASCII."""
    if path.exists():
        return path
    words = random.Random(0)
    vocabulary = ["".join(words.choices("etaoinshrdlcumwfgypbvk", k=words.randint(2, 9))) for _ in range(VOCABULARY)]
    weights = list(accumulate(1 / (rank + 10) for rank in range(VOCABULARY)))
    drawn = random.Random(seed)
    text = "nothing yet"
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if drawn.random() > 0.02:
                text = " ".join(drawn.choices(vocabulary, cum_weights=weights, k=WORDS)).capitalize()
                text += " ça va?" if drawn.random() < 0.03 else "."
            row = {"id": number, "text": text, "label": LABELS[len(text) % len(LABELS)], "source": "mail"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    unfinished.rename(path)
    return path


def ingested(directory: Path, first: Path, more: Path | None = None) -> Seen:
    """:param more: arrives after ``first``, which was ingested just before."""
    source, store = directory / "source", directory / "store"
    result = directory / "result.json"
    watermark = None
    if more is None:
        shutil.rmtree(store, ignore_errors=True)
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        (source / first.name).hardlink_to(first)
    else:
        watermark = json.loads(result.read_text())["watermark"]
        (source / more.name).hardlink_to(more)
    request = IngestRequest(
        pipeline="benchmark",
        store=store.as_uri(),
        reading=Reading(source=str(source), text="text", label="label"),
        watermark=watermark,
    )
    (directory / "request.json").write_text(request.to_json())
    stage = ["-m", "training", "ingest", "--in", str(directory / "request.json"), "--out", str(result)]
    return measured([sys.executable, *stage])


def otherwise(directory: Path, file: Path) -> Seen:
    cache = directory / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    try:
        return measured([sys.executable, "-c", OTHERWISE, str(file), str(cache)])
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def measured(command: list[str]) -> Seen:
    """:raises SystemExit: the command failed."""
    peak = 0
    before = os.times()
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, resident(watched))
            time.sleep(SAMPLE_SECONDS)
    seconds = time.perf_counter() - began
    after = os.times()
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Seen(seconds, spent, peak / 2**20)


def resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_info().rss
    except psutil.Error:
        pass  # it has just ended
    return total


def median(seen: list[Seen]) -> Seen:
    return Seen(*(statistics.median(values) for values in zip(*(vars(one).values() for one in seen), strict=True)))


def told(name: str, seen: Seen, rows: int) -> None:
    print(
        f"{name:18} {seen.seconds:7.1f} s {seen.processor_seconds:7.1f} processor seconds "
        f"{rows / seen.seconds:11,.0f} rows/s {seen.peak_mib:7,.0f} MiB",
        flush=True,
    )


if __name__ == "__main__":
    main()
