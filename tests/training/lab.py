"""A small data set with a rule that a tiny model can learn, and Trainers that are watched or break down."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from transformers import Trainer

from training.contract import IngestRequest, Reading, TrainRequest
from training.ingest import ingest
from training.store import Store

SIGNS = {"negative": "bad", "positive": "good"}
STEPS = 6  # of an epoch: 48 rows in batches of 8
LOG, CRASH, SLOW = "LAB_TRAINER_LOG", "LAB_TRAINER_CRASH", "LAB_TRAINER_SLOW"


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    fillers = ["the", "film", "is", "a", "my", "book", "it", "was"]
    return [
        (" ".join([*draw.choices(fillers, k=draw.randint(2, 9)), sign, str(i)]), label)
        for i in range(count)
        for label, sign in [draw.choice(sorted(SIGNS.items()))]
    ]


def put_snapshot(store: Store, train: int = 48, validation: int = 20) -> str:
    splits = {"train": rows(train, 1), "validation": rows(validation, 2), "test": rows(10, 3)}
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for split, content in splits.items():
            file = files[split] = Path(folder, f"{split}.jsonl")
            # the split's name as well, since no text may be in two of them
            lines = (json.dumps({"text": f"{text} {split}", "label": label}) for text, label in content)
            file.write_text("\n".join(lines))
        reading = Reading(
            source=str(files["train"]),
            validation=str(files["validation"]),
            test=str(files["test"]),
            text="text",
            label="label",
        )
        with mock.patch("training.intake._check_usable"):  # it would refuse an empty split; training must cope with one
            return ingest(IngestRequest(pipeline="lab", store=store.root, reading=reading)).snapshot


def request_for(directory: Path, base_model: Path, **changes: Any) -> TrainRequest:
    """:return: a request with everything below ``directory``: 3 epochs of 6 steps."""
    store = Store(str(directory / "store"))
    arguments = {"num_train_epochs": 3, "per_device_train_batch_size": 8, "learning_rate": 3e-3}
    values: dict[str, Any] = {
        "pipeline": "lab",
        "store": store.root,
        "work": str(directory / "work"),
        "snapshot": changes.pop("snapshot", None) or put_snapshot(store),
        "base_model": str(base_model),
        "arguments": {**arguments, **changes.pop("arguments", {})},
        "early_stopping_epochs": None,
    }
    return TrainRequest(**{**values, **changes})


class WatchedTrainer(Trainer):
    """Writes down each step that it trains; breaks down at the one that ``LAB_TRAINER_CRASH`` names."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        step = self.state.global_step
        if os.environ.get(CRASH) == str(step):
            raise OSError("the disk is full")
        time.sleep(float(os.environ.get(SLOW, 0)))
        loss = super().training_step(*args, **kwargs)
        with Path(os.environ[LOG]).open("a") as log:
            log.write(f"{step}\n")
        return loss


def steps_trained() -> list[int]:
    return [int(line) for line in Path(os.environ[LOG]).read_text().split()]


WATCHED = f"{WatchedTrainer.__module__}:{WatchedTrainer.__name__}"
