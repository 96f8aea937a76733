"""
What the gate decides about retrains of equal quality, and how often it is wrong about worse ones.

Several seeds of the default training are scored on a test split. Each two of them make a population: what was true and
what both said, and the same with the two exchanged, so that neither is better. Test sets of several sizes are
drawn from it and judged. A worse candidate is made by taking right answers away until the metric is lower by
exactly the margin.

    .venv-training/bin/python -m benchmarks.decisions --base-model DIR --data ../shared/data [--sets trec banking77]

Finished trainings are found again under ``--work``. ``--cells FILE`` writes down what the populations are, as counts;
``--kept FILE`` reads them from there, and nothing is trained:

    .venv-training/bin/python -m benchmarks.decisions --kept tests/training/predictions.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.populations import cells, drawn, equal, of_cells, worsened
from benchmarks.quality import fit, take
from training.classifier import load_classifier
from training.paired import Pairs
from training.snapshot import read_split
from training.stage import log_to_stdout
from training.store import Store

SIZES = (250, 500, 1000, 2000, 5000)
MARGINS = (0.01, 0.02, 0.03, 0.04)
METRICS = ("accuracy", "f1_macro")
CONFIDENCE = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default=os.environ.get("RATCHET_SAMPLE_MODEL"), help="all-MiniLM-L6-v2")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds banking77 and trec")
    parser.add_argument("--work", type=Path, default=Path(".ratchet/benchmarks/quality"))
    parser.add_argument("--sets", nargs="+", choices=("trec", "banking77"), default=["trec", "banking77"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--replays", type=int, default=300, help="test sets of each size for the table")
    parser.add_argument("--wrong", type=int, default=2000, help="test sets of 1,000 rows of a worse candidate")
    parser.add_argument("--cells", type=Path, help="write the populations to this JSON file")
    parser.add_argument("--kept", type=Path, help="read the populations from this JSON file")
    options = parser.parse_args()
    if options.kept:
        kept = json.loads(options.kept.read_text())
        found = {name: [of_cells(one) for one in pairs] for name, pairs in kept.items()}
    elif options.base_model:
        found = trained(options)
    else:
        sys.exit("Say where all-MiniLM-L6-v2 is: --base-model, or RATCHET_SAMPLE_MODEL.")
    if options.cells:
        options.cells.write_text(json.dumps({name: [cells(one) for one in pairs] for name, pairs in found.items()}))
    for name, populations in found.items():
        rarest = min(np.bincount(one.truth, weights=one.counts / one.rows).min() for one in populations)
        print(f"\n{name}: {populations[0].rows // 2:,} test rows, {rarest:.1%} of them of the rarest label")
        told_apart = [(population.only_one + population.only_other) / population.rows for population in populations]
        print(f"rows that one of two seeds alone gets right: {min(told_apart):.1%} to {max(told_apart):.1%}")
        for metric in METRICS:
            table(populations, metric, options.replays)
            wrong(populations, metric, options.wrong)


def trained(options: argparse.Namespace) -> dict[str, list[Pairs]]:
    """:return: by data set what each two seeds say to the test split."""
    log_to_stdout()
    found = {}
    for name in options.sets:
        truth, *models = answers(options, name)
        found[name] = [equal(truth, one, other) for one, other in itertools.combinations(models, 2)]
    return found


def answers(options: argparse.Namespace, name: str) -> Iterator[NDArray[np.int64]]:
    """Yield what is true of the test split, then what each seed says: (n_rows,) indices of labels."""
    snapshot = take(options, name)
    store = Store(str(options.work / "store"))
    rows = read_split(store, store.key(snapshot.snapshot), "test")
    labels = sorted({label for _, label in rows} | set(snapshot.labels))
    yield np.array([labels.index(label) for _, label in rows])
    for seed in range(1, options.seeds + 1):
        trained = fit(options, snapshot, {"seed": seed})
        classifier = load_classifier(store.local_directory(store.key(trained.model), options.work), trained.model)
        said = classifier.score([text for text, _ in rows], 128).argmax(axis=1)
        yield np.array([labels.index(label) for label in classifier.labels])[said]


def table(populations: list[Pairs], metric: str, replays: int) -> None:
    """Print which share of retrains of equal quality is promoted, left undecided and held, by test rows and margin."""
    random = np.random.default_rng(0)
    print(
        f"\n{metric}: promoted / undecided / held, per cent, by margin\n{'rows':>6}  "
        + "".join(f"{m:>16}" for m in MARGINS)
    )
    for rows in SIZES:
        bounds = []
        for replay in range(replays):
            found = drawn(populations[replay % len(populations)], rows, random).difference(metric, seed=replay)
            bounds.append((found.at_least(CONFIDENCE), found.at_most(CONFIDENCE)))
        low, high = np.array(bounds).T
        shown = []
        for margin in MARGINS:
            promoted, held = float((low >= -margin).mean()), float((high < -margin).mean())
            shown.append(f"{promoted:>6.0%} {1 - promoted - held:>4.0%} {held:>4.0%}")
        print(f"{rows:>6,}  " + "".join(each.rjust(16) for each in shown).replace("%", ""), flush=True)


def wrong(populations: list[Pairs], metric: str, replays: int, rows: int = 1000) -> None:
    """Print how often a candidate that is worse by the margin is promoted, and an equal one called worse."""
    random = np.random.default_rng(1)
    for margin in MARGINS:
        worse = [worsened(population, metric, margin) for population in populations]
        promoted = 0
        for replay in range(replays):
            found = drawn(worse[replay % len(worse)], rows, random).difference(metric, seed=replay)
            promoted += found.at_least(CONFIDENCE) >= -margin
        print(
            f"{metric}, {rows:,} rows: worse by {margin}: promoted in {promoted / replays:.1%} of {replays:,}",
            flush=True,
        )
    called = 0
    for replay in range(replays):
        found = drawn(populations[replay % len(populations)], rows, random).difference(metric, seed=replay)
        called += found.at_most(CONFIDENCE) < 0
    print(
        f"{metric}, {rows:,} rows: of equal quality: shown to be worse in {called / replays:.1%} of {replays:,}",
        flush=True,
    )


if __name__ == "__main__":
    main()
