"""
Rows per second of the checks that look into texts: for personal data, and for their length in tokens. Beside them what
share of order numbers is taken for phone numbers.

    .venv-training/bin/python -m benchmarks.text_checks --data ../shared/data [--base-model DIR] [--presidio PYTHON]

Personal data: the scan of ingest against the plain way, the same search in every text, and against presidio's patterns
where PYTHON is an interpreter that has it. Seconds are the processor's, so that what else runs matters little; rounds
alternate.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow

from training.personal import Scan
from training.redact import redacted
from training.sources.part import Batch
from training.token_lengths import SAMPLE_ROWS, _count, _tokenizer

SEED = 1
PERSONAL_SHARE = 0.005  # assumed: of the rows
PERSONAL = ("jo@example.org", "+49 30 901820", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00")

ORDER_NUMBERS = 1000  # of each shape, of random digits
SHAPES = (
    "########",
    "##########",
    "############",
    "0#########",
    "#### ######",
    "#####/#####",
    "###-###-####",
    "###.###.###",
)

# Its patterns for the same four kinds, without a language model
PRESIDIO = """
import json, sys, time
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer, EmailRecognizer, IbanRecognizer, PhoneRecognizer
)
texts = json.load(open(sys.argv[1]))
recognizers = [kind() for kind in (CreditCardRecognizer, EmailRecognizer, IbanRecognizer, PhoneRecognizer)]
started = time.process_time()
found = sum(any(one.analyze(text, one.supported_entities, None) for one in recognizers) for text in texts)
print(json.dumps([time.process_time() - started, found]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds banking77 and go_emotions")
    parser.add_argument("--base-model", type=Path, default=os.environ.get("RATCHET_SAMPLE_MODEL"))
    parser.add_argument("--presidio", type=Path, help="interpreter of an environment with presidio-analyzer")
    parser.add_argument("--presidio-rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    texts = read(options.data)
    for region in ("DE", "US"):
        rows = sum(bool(redacted(text, region)[1]) for text in texts)
        print(f"region {region}: {rows:,} rows with personal data in the texts as they are")
    texts = with_personal_data(texts)
    print(f"{len(texts):,} texts, {sum(map(len, texts)) / len(texts):.0f} characters each")
    for known in (None, "US"):
        seconds, found = time_scans(texts, known, options.rounds)
        for name, one in seconds.items():
            print(f"region {known}: {name}: {len(texts) / one:,.0f} rows/s, {found[name]:,} rows with personal data")
    for region in ("DE", "GB", "US"):
        for said in ("Wo ist", "Bestellung"):
            print(f"region {region}: after {said!r} {taken_for_phones(said, region):.2%} of order numbers are found")
    if options.presidio:
        few = texts[: options.presidio_rows]
        one, rows = time_presidio(options.presidio, few)
        print(f"presidio's patterns: {len(few) / one:,.0f} rows/s, {rows:,} of {len(few):,} rows with personal data")
    if options.base_model:
        tokenizer = _tokenizer(options.base_model)
        sample = texts[:SAMPLE_ROWS]
        one = statistics.median(timed(lambda: _count(tokenizer, sample)) for _ in range(options.rounds))
        print(f"tokens: {len(sample) / one:,.0f} rows/s, {one:.2f} s for the sample of {len(sample):,}")


def read(data: Path) -> list[str]:
    with (data / "banking77" / "train.csv").open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    for name in ("train", "validation", "test"):
        lines = (data / "go_emotions" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["text"] for line in lines]
    random.Random(SEED).shuffle(texts)
    return texts


def with_personal_data(texts: list[str]) -> list[str]:
    draw = random.Random(SEED)
    return [f"{text} {draw.choice(PERSONAL)}" if draw.random() < PERSONAL_SHARE else text for text in texts]


def time_scans(texts: list[str], region: str | None, rounds: int) -> tuple[dict[str, float], dict[str, int]]:
    """:return: processor seconds and rows that were found, by the way of looking."""
    large = pyarrow.large_string()
    rows = pyarrow.table(
        {
            "row": pyarrow.array(range(len(texts)), pyarrow.int64()),
            "text": pyarrow.array(texts, large),
            "label": pyarrow.array([""] * len(texts), large),
        }
    )
    scan, found = Scan("redact", region), {}

    def ours() -> None:
        found["ingest's scan"] = len(scan.look(Batch(rows))[1])

    def plain() -> None:
        found["every text"] = sum(bool(redacted(text, region)[1]) for text in texts)

    ways: dict[str, Callable[[], None]] = {"ingest's scan": ours, "every text": plain}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():  # what is known of countries is loaded at first use
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(timed(way))
    return {name: statistics.median(each) for name, each in seconds.items()}, found


def taken_for_phones(said: str, region: str) -> float:
    """:return: the share of order numbers, all shapes alike, that are taken for phone numbers."""
    draw = random.Random(SEED)
    found = 0
    for shape in SHAPES * ORDER_NUMBERS:
        number = "".join(draw.choice("0123456789") if one == "#" else one for one in shape)
        found += bool(redacted(f"{said} {number} geblieben?", region)[1])
    return found / (len(SHAPES) * ORDER_NUMBERS)


def time_presidio(python: Path, texts: list[str]) -> tuple[float, int]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(texts, file)
        file.flush()
        command = [str(python), "-c", PRESIDIO, file.name]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, found = json.loads(answer.splitlines()[-1])
    return seconds, found


def timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
