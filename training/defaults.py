"""Training arguments that suit the model's size and the amount of data, chosen on validation splits alone."""

from __future__ import annotations

import math
from typing import Any

# Learning rate by the number of parameters, for AdamW with batches of 64. The first row was measured on three
# validation sets (benchmarks/README.md, "Training quality"); the others are assumed, from the ranges that the authors
# of BERT and RoBERTa searched (arXiv:1810.04805, appendix A.3; arXiv:1907.11692, table 10).
LEARNING_RATES = ((40_000_000, 3e-4), (150_000_000, 5e-5), (math.inf, 2e-5))

WARMUP_SHARE = 0.1  # of all steps; measured with the learning rate
WEIGHT_DECAY = 0.01  # assumed: the fine-tuning value of BERT

# Few rows for each label need many passes, many rows few: epochs = EPOCH_SCALE / sqrt(training rows per label).
EPOCH_SCALE = 65.0  # measured: 6 epochs on 77 intents of 117 rows, 2 on 6 labels of 800 and on 3 of 5,100
FEWEST_EPOCHS, MOST_EPOCHS = 2, 20

# A batch of 64 keeps two cores busy (measured); a small data set needs more steps than that leaves it (assumed).
BATCH_SIZES = ((500, 8), (2_000, 32), (math.inf, 64))
EVAL_BATCH_SIZE = 128
SEED = 42


def default_arguments(*, parameters: int, rows: int, labels: int) -> dict[str, Any]:
    """
    :param parameters: weights of the model.
    :param rows: of the training split.
    :return: fields of ``TrainingArguments``; whatever the spec gives takes precedence.
    """
    return {
        "learning_rate": _first(LEARNING_RATES, parameters),
        "lr_scheduler_type": "linear",
        "warmup_steps": WARMUP_SHARE,  # below 1 it is a share
        "weight_decay": WEIGHT_DECAY,
        "num_train_epochs": default_epochs(rows, labels),
        "per_device_train_batch_size": _first(BATCH_SIZES, rows),
        "per_device_eval_batch_size": EVAL_BATCH_SIZE,
        "train_sampling_strategy": "group_by_length",
        "seed": SEED,
    }


def default_epochs(rows: int, labels: int) -> int:
    rows_per_label = max(1.0, rows / max(1, labels))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(EPOCH_SCALE / math.sqrt(rows_per_label))))


def _first(table: tuple[tuple[float, Any], ...], value: float) -> Any:
    return next(result for limit, result in table if value <= limit)
