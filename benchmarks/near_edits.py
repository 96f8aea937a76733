"""
Of real texts with one edit each, the share that counts as nearly the same.

    .venv-training/bin/python -m benchmarks.near_edits --data ../shared/data

One character replaced, one word left out, one word replaced by another of the same data set, in texts of so many words.
The last column is of pairs of texts with different labels.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from pathlib import Path

from training.shingles import ALIKE, similarities
from training.text import normalised

TEXTS = 2000  # of each length; fewer where there are fewer
LENGTHS = ((5, 7), (8, 12), (13, 20))  # words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds banking77, trec, go_emotions")
    folder = parser.parse_args().data
    print(f"{'':<34}character  word left out  word replaced  another label")
    for name, rows in read(folder).items():
        draw = random.Random(0)
        words = [word for text, _ in rows for word in text.split()]
        for low, high in LENGTHS:
            chosen = [row for row in rows if low <= len(row[0].split()) <= high]
            chosen = draw.sample(chosen, min(TEXTS, len(chosen)))
            texts = [text for text, _ in chosen]
            shares = [
                share_alike(texts, [edit(text, draw, words) for text in texts])
                for edit in (character_replaced, word_left_out, word_replaced)
            ]
            pairs = [draw.sample(chosen, 2) for _ in range(20 * TEXTS)]
            others = [(a, b) for (a, label), (b, other) in pairs if label != other]
            shares.append(share_alike([a for a, _ in others], [b for _, b in others]))
            title = f"{name}, {low} to {high} words ({len(texts):,})"
            print(f"{title:<34}{shares[0]:>9.1%}{shares[1]:>15.1%}{shares[2]:>15.1%}{shares[3]:>15.3%}", flush=True)


def read(data: Path) -> dict[str, list[tuple[str, str]]]:
    """:return: texts and labels of each data set."""
    sets = {}
    for name, label in (("banking77", "category"), ("trec", "label")):
        with (data / name / "train.csv").open(newline="") as file:
            sets[name] = [(row["text"], row[label]) for row in csv.DictReader(file)]
    comments = map(json.loads, (data / "go_emotions" / "train.jsonl").open())
    sets["go_emotions"] = [(one["text"], str(one["labels"])) for one in comments]
    return sets


def share_alike(texts: list[str], others: list[str]) -> float:
    """:return: of the pairs whose texts differ, the share that counts as nearly the same."""
    differ = [(text, other) for text, other in zip(texts, others, strict=True) if normalised(text) != normalised(other)]
    return float((similarities([a for a, _ in differ], [b for _, b in differ]) >= ALIKE).mean())


def character_replaced(text: str, draw: random.Random, _words: list[str]) -> str:
    place = draw.randrange(len(text))
    return text[:place] + draw.choice("aeinorst") + text[place + 1 :]


def word_left_out(text: str, draw: random.Random, _words: list[str]) -> str:
    parts = text.split()
    del parts[draw.randrange(len(parts))]
    return " ".join(parts)


def word_replaced(text: str, draw: random.Random, words: list[str]) -> str:
    parts = text.split()
    parts[draw.randrange(len(parts))] = draw.choice(words)
    return " ".join(parts)


if __name__ == "__main__":
    main()
