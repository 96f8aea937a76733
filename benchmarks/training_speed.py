"""
Samples per second of our training against the usual one: every text padded to 128 tokens, fp32, batches of 32.

    .venv-training/bin/python -m benchmarks.training_speed --base-model DIR --data ../shared/data [--no-bf16]

Both train the same model on banking77, in turn, in one process; the first steps of each turn are not counted.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

from serving.processor import has_fast_bf16
from training.defaults import default_arguments
from training.examples import Examples, count_tokens, make_examples
from training.fit import load_base
from training.loop import with_reproducible_order
from training.model import LocalModel

BASELINE_BATCH, BASELINE_LENGTH = 32, 128
WARM_UP_STEPS = 3


class Stopwatch(TrainerCallback):
    """The rate of one turn, without its first steps."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0
        self.cpu_started = self.cpu_ended = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if state.global_step == WARM_UP_STEPS:
            self.started, self.cpu_started = time.monotonic(), time.process_time()
        self.ended, self.cpu_ended = time.monotonic(), time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default=os.environ.get("RATCHET_SAMPLE_MODEL"), help="all-MiniLM-L6-v2")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds banking77")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--no-bf16", action="store_true", help="dynamic padding and length grouping alone")
    options = parser.parse_args()
    if not options.base_model:
        sys.exit("Say where all-MiniLM-L6-v2 is: --base-model, or RATCHET_SAMPLE_MODEL.")
    bf16 = has_fast_bf16() and not options.no_bf16
    rows = read(options.data)
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "baseline": []}
    with tempfile.TemporaryDirectory() as scratch:
        for pair in range(1, options.pairs + 1):
            found["baseline"].append(baseline(options.base_model, rows, Path(scratch)))
            found["ours"].append(ours(options.base_model, rows, Path(scratch), bf16))
            for name, rates in found.items():
                print(
                    f"pair {pair} {name:<9} {rates[-1][0]:6.1f} samples/s, {rates[-1][1]:6.1f} per second of processor"
                )
    for i, unit in enumerate(("samples/s", "samples per processor second")):
        medians = {name: statistics.median(rate[i] for rate in rates) for name, rates in found.items()}
        ratios = [a[i] / b[i] for a, b in zip(found["ours"], found["baseline"], strict=True)]
        print(
            f"median {unit}: ours {medians['ours']:.1f} (bf16 {'on' if bf16 else 'off'}), "
            f"baseline {medians['baseline']:.1f}; ratio, median of pairs: {statistics.median(ratios):.1f}"
        )


def read(data: Path) -> list[tuple[str, str]]:
    with (data / "banking77" / "train.csv").open(newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    return rows


def ours(base_model: str, rows: list[tuple[str, str]], scratch: Path, bf16: bool) -> tuple[float, float]:
    labels = sorted({label for _, label in rows})
    tokenizer, model = load_base(LocalModel(Path(base_model), "", base_model), labels)
    texts, ids = [text for text, _ in rows], [labels.index(label) for _, label in rows]
    examples = make_examples(tokenizer, texts, count_tokens(tokenizer, texts, 128, lambda _: None), ids, 128)
    chosen = default_arguments(
        parameters=sum(weights.numel() for weights in model.parameters()), rows=len(rows), labels=len(labels)
    )
    arguments = TrainingArguments(
        **{**chosen, "max_steps": 60, "bf16": bf16},
        output_dir=str(scratch),
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        remove_unused_columns=False,
    )
    return rate(with_reproducible_order(Trainer), model, tokenizer, arguments, examples)


def baseline(base_model: str, rows: list[tuple[str, str]], scratch: Path) -> tuple[float, float]:
    labels = sorted({label for _, label in rows})
    tokenizer, model = load_base(LocalModel(Path(base_model), "", base_model), labels)
    encoded = tokenizer([text for text, _ in rows], padding="max_length", max_length=BASELINE_LENGTH, truncation=True)
    items = [
        {**dict(zip(encoded, values, strict=True)), "labels": labels.index(label)}
        for values, (_, label) in zip(zip(*encoded.values(), strict=True), rows, strict=True)
    ]
    arguments = TrainingArguments(
        output_dir=str(scratch),
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_strategy="no",
        max_steps=12,
        per_device_train_batch_size=BASELINE_BATCH,
        remove_unused_columns=False,
    )
    return rate(Trainer, model, tokenizer, arguments, Examples(items, 0, 0))


def rate(
    trainer: type[Trainer], model: Any, tokenizer: Any, arguments: TrainingArguments, examples: Examples
) -> tuple[float, float]:
    """:return: samples per second, and per second of processor time: the latter hardly depends on other load."""
    watch = Stopwatch()
    trainer(
        model=model,
        args=arguments,
        data_collator=DataCollatorWithPadding(tokenizer),
        train_dataset=examples,
        processing_class=tokenizer,
        callbacks=[watch],
    ).train()
    samples = (arguments.max_steps - WARM_UP_STEPS) * arguments.per_device_train_batch_size
    return samples / (watch.ended - watch.started), samples / (watch.cpu_ended - watch.cpu_started)


if __name__ == "__main__":
    main()
