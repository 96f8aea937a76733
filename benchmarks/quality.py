"""
Accuracy of the default training arguments.

``--choose`` repeats how they were chosen: a small grid on the validation splits of three data sets, no test set read.
Without it: several seeds with the defaults on banking77, and the test accuracy of each.

    .venv-training/bin/python -m benchmarks.quality --base-model DIR --data ../shared/data [--choose --sentences DIR]

Finished runs are found again under ``--work``, so an interrupted benchmark continues.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from training.classifier import load_classifier
from training.contract import IngestRequest, IngestResult, Reading, TrainRequest, TrainResult
from training.ingest import ingest
from training.metrics import measure
from training.snapshot import read_split
from training.stage import log_to_stdout
from training.store import MANIFEST, Store
from training.train import train

VALIDATION_PERCENT = 10
RATES: list[dict[str, Any]] = [{}, {"learning_rate": 5e-4}, {"learning_rate": 1.5e-4}]  # the default is 3e-4
CHOICES = {
    "banking77": RATES,
    "trec": [*RATES, {"num_train_epochs": 4}],
    "sentiment": [*RATES, {"num_train_epochs": 3}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default=os.environ.get("RATCHET_SAMPLE_MODEL"), help="all-MiniLM-L6-v2")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds banking77 and trec")
    parser.add_argument("--sentences", type=Path, help="holds the four *_GroundTruth.txt of vaderSentiment 3.3.2")
    parser.add_argument("--work", type=Path, default=Path(".ratchet/benchmarks/quality"))
    parser.add_argument("--choose", nargs="*", choices=sorted(CHOICES), help="these data sets; none named: all")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if not options.base_model:
        sys.exit("Say where all-MiniLM-L6-v2 is: --base-model, or RATCHET_SAMPLE_MODEL.")
    log_to_stdout()
    if options.choose is not None:
        choose(options, options.choose or sorted(CHOICES))
    else:
        final(options)


def choose(options: argparse.Namespace, names: list[str]) -> None:
    rows = []
    for name in names:
        snapshot = take(options, name)
        for arguments in CHOICES[name]:
            result = fit(options, snapshot, {**arguments, "seed": 1})
            rows += [(name, arguments, epoch) for epoch in epochs(options, result)]
    print(f"\n{'data':<10} {'argument':<28} epoch  loss    accuracy  macro F1   (+ least loss, * best F1)")
    for name, arguments, epoch in rows:
        said = ", ".join(f"{key}={value:g}" for key, value in arguments.items()) or "defaults"
        print(
            f"{name:<10} {said:<28} {epoch['number']:>5}  {epoch['eval_loss']:.4f}  {epoch['eval_accuracy']:.4f}    "
            f"{epoch['eval_f1_macro']:.4f}  {epoch['marks']}"
        )


def final(options: argparse.Namespace) -> None:
    snapshot = take(options, "banking77")
    found = []
    for seed in range(1, options.seeds + 1):
        result = fit(options, snapshot, {"seed": seed})
        accuracy = test_accuracy(options, snapshot, result)
        found.append(accuracy)
        print(
            f"banking77 seed {seed}: test accuracy {accuracy:.4f} "
            f"(validation {result.metrics['eval_accuracy']:.4f}, {result.epochs:g} epochs, {result.seconds:.0f} s)"
        )
    print(f"banking77 mean of {len(found)} seeds: {statistics.mean(found):.4f}, rows {snapshot.rows}")


def take(options: argparse.Namespace, name: str) -> IngestResult:
    """:return: the snapshot of a data set."""
    store = str(options.work / "store")
    if name == "sentiment":
        if options.sentences is None:
            sys.exit("Say where the rated sentences are: --sentences.")
        path = options.work / "sentiment.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rated_sentences(options.sentences)])
        reading = Reading(source=str(path), text="text", label="label", validation_percent=VALIDATION_PERCENT)
        return ingest(IngestRequest(pipeline=name, store=store, reading=reading))
    source, label = options.data / name, {"banking77": "category", "trec": "label"}[name]
    reading = Reading(
        source=str(source / "train.csv"),
        test=str(source / "test.csv"),
        text="text",
        label=label,
        validation_percent=VALIDATION_PERCENT,
    )
    return ingest(IngestRequest(pipeline=name, store=store, reading=reading))


def rated_sentences(folder: Path) -> Iterator[tuple[str, str]]:
    """Sentences whose mean rating is clear: at least 1, at most -1, or within half a point of 0."""
    for path in sorted(folder.glob("*_GroundTruth.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            _, rating, text = line.split("\t", 2)
            if float(rating) >= 1:
                yield text, "positive"
            elif float(rating) <= -1:
                yield text, "negative"
            elif abs(float(rating)) <= 0.5:
                yield text, "neutral"


def fit(options: argparse.Namespace, snapshot: IngestResult, arguments: dict[str, Any]) -> TrainResult:
    return train(
        TrainRequest(
            pipeline="quality",
            store=str(options.work / "store"),
            work=str(options.work / "work"),
            snapshot=snapshot.snapshot,
            base_model=options.base_model,
            arguments=arguments,
        )
    )


def epochs(options: argparse.Namespace, result: TrainResult) -> list[dict[str, Any]]:
    """:return: the validation metrics of each epoch of a run."""
    store = Store(str(options.work / "store"))
    history = store.read_json(f"{store.key(result.model)}/{MANIFEST}")["training"]["history"]
    by_step: dict[int, dict[str, Any]] = {}
    for name, value, step, _time in history:
        if name.startswith("eval_"):
            by_step.setdefault(step, {})[name] = value
    found = [{"number": number, **by_step[step], "marks": ""} for number, step in enumerate(sorted(by_step), 1)]
    min(found, key=lambda epoch: epoch["eval_loss"])["marks"] += "+"
    max(found, key=lambda epoch: epoch["eval_f1_macro"])["marks"] += "*"
    return found


def test_accuracy(options: argparse.Namespace, snapshot: IngestResult, result: TrainResult) -> float:
    import numpy as np

    store = Store(str(options.work / "store"))
    rows = read_split(store, store.key(snapshot.snapshot), "test")
    classifier = load_classifier(store.local_directory(store.key(result.model), options.work), result.model)
    scores = classifier.score([text for text, _ in rows], 128)
    truth = np.array([classifier.labels.index(label) for _, label in rows])
    metrics: dict[str, float] = measure(truth, scores.argmax(axis=1), scores, classifier.labels)["metrics"]
    return metrics["accuracy"]


if __name__ == "__main__":
    main()
