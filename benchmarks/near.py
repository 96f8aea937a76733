"""
Cost and recall of the search for texts that are nearly the same, and the same of datasketch where it is installed.

    .venv-training/bin/python -m benchmarks.near --data ../shared/data --rows 1000000 --pairs 1
    .venv-training/bin/python -m pip install --target DIR --no-deps datasketch==2.0.0
    PYTHONPATH=DIR .venv-training/bin/python -m benchmarks.near --data ../shared/data --rows 20000 --beside-datasketch

Looked for are the pairs whose runs of three characters have a Jaccard similarity of 0.7 or more. Ours: signatures on
disk and the search itself, as an ingest does it. Theirs: MinHashLSH with as many minima and bands, one query and one
insertion for each text, every candidate verified as ours are. The texts are those of go_emotions and banking77, more of
the same words when more are wanted, and a tenth of them once more with one edit. Recall is measured on these edits, and
on fewer texts where all can be compared with all.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet
from scipy.sparse import csr_matrix

from training.layout import create_every, database
from training.near import find_near
from training.shingles import ALIKE, BAND_SLOTS, BANDS, shingles, similarities
from training.signatures import SIGNATURES, sign
from training.store import Store
from training.text import identity, normalised

ROWS_FILE = "rows.parquet"
ALL_PAIRS = 20_000  # texts of which all are compared with all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds banking77 and go_emotions")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--beside-datasketch", action="store_true")
    options = parser.parse_args()
    texts, edits = read(options.data, options.rows)
    print(f"{len(texts):,} texts, {statistics.mean(map(len, texts)):.0f} characters each; {len(edits):,} alike edits")
    measured = {"ours": ours, **({"datasketch": theirs} if options.beside_datasketch else {})}
    costs: dict[str, list[float]] = {name: [] for name in measured}
    for pair in range(1, options.pairs + 1):
        for name, find in measured.items():
            began = time.process_time()
            found = find(texts)
            costs[name].append((time.process_time() - began) / len(texts) * 1e6)
            recall = sum(place in found for place in edits) / len(edits)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            print(
                f"pair {pair} {name:<10} {costs[name][-1]:7.1f} microseconds of a processor for a row; {len(found):,} "
                f"texts are nearly another; {recall:.4f} of the edits found; {peak:,} MiB at most so far",
                flush=True,
            )
    print("medians:", {name: round(statistics.median(values), 1) for name, values in costs.items()})
    few = texts[:ALL_PAIRS]
    truth = compared_with_all(few)
    for name, find in measured.items():
        found = find(few)
        print(
            f"recall of {name} on {len(few):,} texts: {len(found & truth) / len(truth):.4f} of {len(truth):,}; "
            f"{len(found - truth)} that are not"
        )


def read(data: Path, rows: int) -> tuple[list[str], list[int]]:
    """:return: texts in the order of their identities, and of each text and its edit, if alike, the later place."""
    texts = [json.loads(line)["text"] for line in (data / "go_emotions" / "train.jsonl").open()]
    with (data / "banking77" / "train.csv").open(newline="") as file:
        texts += [row["text"] for row in csv.DictReader(file)]
    draw = random.Random(0)
    words = [word for text in texts for word in text.split()]
    while len(texts) < rows:  # a text of as many words as a real one, of words that are as frequent
        texts.append(" ".join(draw.choices(words, k=len(draw.choice(texts).split()))))
    draw.shuffle(texts)
    texts = texts[: rows * 10 // 11]
    originals = draw.sample(texts, len(texts) // 10)
    edits = [edited(text, draw, words) for text in originals]
    different = {identity(text): text for text in [*texts, *edits] if normalised(text)}
    order = {key: place for place, key in enumerate(sorted(different))}
    places = set()
    for start in range(0, len(edits), 2048):
        some, others = originals[start : start + 2048], edits[start : start + 2048]
        for text, other, alike in zip(some, others, similarities(some, others) >= ALIKE, strict=True):
            first, second = identity(text), identity(other)
            if alike and first != second and normalised(other):
                places.add(max(order[first], order[second]))
    return [different[key] for key in order], sorted(places)


def edited(text: str, draw: random.Random, words: list[str]) -> str:
    """:return: the text with a character replaced or left out, or a word replaced or left out."""
    way = draw.randrange(4)
    parts: list[str] = list(text) if way < 2 else text.split()
    place = draw.randrange(len(parts))
    parts[place : place + 1] = [] if way % 2 else [draw.choice("aeinorst") if way == 0 else draw.choice(words)]
    return ("" if way < 2 else " ").join(parts)


def ours(texts: list[str]) -> set[int]:
    """:return: places of the texts that are nearly one that comes before."""
    identities = np.frombuffer(b"".join(identity(text)[:16] for text in texts), ">u8").reshape(-1, 2).astype(np.uint64)
    count = len(texts)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        rows = {
            "row": pyarrow.array(range(count), pyarrow.int64()),
            "label": pyarrow.array(["label"] * count),
            "text": pyarrow.array(texts),
            "time": pyarrow.nulls(count, pyarrow.timestamp("us", "UTC")),
            "split": pyarrow.array(["train"] * count),
            "h0": identities[:, 0],
            "h1": identities[:, 1],
            "digest": identities[:, 0],
            "object": pyarrow.array([0] * count, pyarrow.int32()),
            "batch": pyarrow.array([1] * count, pyarrow.int64()),
        }
        (place / "batch").mkdir()
        parquet.write_table(pyarrow.table(rows), place / "batch" / ROWS_FILE)
        batch = {"key": "one", "number": 1, "objects": 1, "rows": count, "files": [ROWS_FILE], "dead": []}
        store = Store(str(place / "store"))
        with database(store) as db:
            places = {"one": place / "batch"}
            create_every(db, store, [batch], places)
            db.execute("CREATE TEMP TABLE settled (batch BIGINT, object INTEGER, row BIGINT, reason VARCHAR)")
            signatures = sign(db, store, [batch], places, place / SIGNATURES, force=False)
            assert signatures is not None
            find_near(db, signatures, None)
            return {row for (row,) in db.sql("SELECT row FROM near").fetchall()}


def theirs(texts: list[str]) -> set[int]:
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=BANDS * BAND_SLOTS, params=(BANDS, BAND_SLOTS))
    near: set[int] = set()
    runs, counts = shingles(texts)
    starts = np.cumsum(counts) - counts
    tokens = [runs[start : start + count].tobytes() for start, count in zip(starts, counts, strict=True)]
    first, second = [], []
    for place, token in enumerate(tokens):
        minima = MinHash(num_perm=BANDS * BAND_SLOTS)
        minima.update_batch([token[start : start + 8] for start in range(0, len(token), 8)])
        for other in index.query(minima):
            first.append(place)
            second.append(int(other))
        index.insert(place, minima, check_duplication=False)
    for start in range(0, len(first), 2048):
        chunk, others = first[start : start + 2048], second[start : start + 2048]
        alike = similarities([texts[i] for i in chunk], [texts[i] for i in others]) >= ALIKE
        near.update(place for place, is_alike in zip(chunk, alike, strict=True) if is_alike)
    return near


def compared_with_all(texts: list[str]) -> set[int]:
    runs, counts = shingles(texts)
    columns = pyarrow.array(runs).dictionary_encode()
    starts = np.concatenate([[0], np.cumsum(counts)])
    matrix = csr_matrix(
        (np.ones(len(runs), np.int32), columns.indices.to_numpy(), starts),
        (len(texts), len(columns.dictionary)),
        copy=True,
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1
    sizes = np.diff(matrix.indptr)
    near: set[int] = set()
    for start in range(0, len(texts), 500):
        both = (matrix[start : start + 500] @ matrix.T).tocoo()
        rows = both.row + start
        alike = (both.col < rows) & (both.data >= ALIKE * (sizes[rows] + sizes[both.col] - both.data))
        near.update(rows[alike].tolist())
    return near


if __name__ == "__main__":
    main()
