"""What we hand to ``transformers.Trainer``: the order of rows, the loss, the metrics, and an eye on the run."""

# ruff: noqa: ARG002 (callbacks keep the signature of TrainerCallback)

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalPrediction

from training import checkpoints
from training.contract import BadInput
from training.progress import Progress

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 300.0  # assumed: what a kill within a long epoch may cost
MEGABATCH = 50  # batches that are sorted by length together, as transformers does

Record = Callable[[Mapping[str, float], int], None]  # metrics and their step


class LengthGrouped(torch.utils.data.Sampler[int]):
    """
    Rows of similar length side by side, in an order that depends on the seed and the epoch alone.

    So a run that continues within an epoch sees exactly the rows it had not seen. Batches of one megabatch are
    shuffled: sorted, they would lead from long texts to short ones over and over.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        rows = torch.randperm(len(self.lengths), generator=generator).tolist()
        size = self.batch_size * max(1, min(MEGABATCH, len(rows) // (self.batch_size * 4)))
        for start in range(0, len(rows), size):
            megabatch = sorted(rows[start : start + size], key=lambda row: self.lengths[row])
            batches = [megabatch[i : i + self.batch_size] for i in range(0, len(megabatch), self.batch_size)]
            # only the last batch of all may be smaller, or a batch would mix the rows of two
            last = [batches.pop()] if len(batches[-1]) < self.batch_size else []
            for i in torch.randperm(len(batches), generator=generator).tolist():
                yield from batches[i]
            for batch in last:
                yield from batch


def with_reproducible_order(trainer: type[Trainer]) -> type[Trainer]:
    """:return: ``trainer`` with the sampler above, unless the spec asks for another strategy."""

    class Reproducible(trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if self.args.train_sampling_strategy != "group_by_length":
                return super()._get_train_sampler(train_dataset)
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
            return LengthGrouped(self.train_dataset.lengths, batch_size, seed)

    Reproducible.__name__ = trainer.__name__
    return Reproducible


def balanced_loss(labels: Sequence[int], n_labels: int, smoothing: float) -> Callable[..., torch.Tensor]:
    """:return: cross-entropy in which every label has the same total weight."""
    counts = torch.bincount(torch.tensor(labels), minlength=n_labels).clamp(min=1)
    weights = len(labels) / (n_labels * counts.float())

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        total = torch.nn.functional.cross_entropy(
            outputs.logits.float(), labels, weights.to(labels.device), reduction="sum", label_smoothing=smoothing
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return loss


def validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    logits = prediction.predictions[0] if isinstance(prediction.predictions, tuple) else prediction.predictions
    predicted, truth = logits.argmax(axis=-1), prediction.label_ids
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "f1_macro": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        "f1_weighted": float(f1_score(truth, predicted, average="weighted", zero_division=0)),
    }


def stopped_early(state: TrainerState, patience: int | None) -> bool:
    """:return: whether the best epoch lies ``patience`` epochs back; from the log alone, so it survives a resume."""
    losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    if patience is None or not losses:
        return False
    best = min(range(len(losses)), key=lambda i: losses[i] if math.isfinite(losses[i]) else math.inf)
    return len(losses) - 1 - best >= patience


class Watch(TrainerCallback):
    """Reports, records, checkpoints within long epochs, and ends a run that has diverged or no longer improves."""

    def __init__(self, progress: Progress, record: Record, patience: int | None) -> None:
        self.progress, self.record, self.patience = progress, record, patience
        self.saved_at = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.saved_at = time.monotonic()
        self.progress.begin_training(step=state.global_step, steps=state.max_steps, epochs=state.num_train_epochs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        samples = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.progress.advance(step=state.global_step, epoch=state.epoch or 0.0, samples=samples)
        # the end of an epoch saves by itself, after its evaluation, which a resume from this step would pass over
        ends_epoch = state.global_step >= state.max_steps or float(state.epoch or 0.0).is_integer()
        if not ends_epoch and time.monotonic() - self.saved_at > CHECKPOINT_SECONDS:
            control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        if "loss" in numbers:
            if not math.isfinite(numbers["loss"]):
                raise BadInput(
                    f"Training diverged: the loss was {numbers['loss']} at step {state.global_step}; no model was "
                    f"kept. Lower train.arguments.learning_rate (it was {args.learning_rate:g})."
                )
            self.progress.set_loss(numbers["loss"])
            numbers["samples_per_second"] = self.progress.samples_per_second
        self.record({name: value for name, value in numbers.items() if math.isfinite(value)}, state.global_step)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        found = metrics or {}
        log.info(
            "epoch %.0f: validation loss %.4f, accuracy %.4f, macro F1 %.4f",
            state.epoch or 0,
            found.get("eval_loss", math.nan),
            found.get("eval_accuracy", math.nan),
            found.get("eval_f1_macro", math.nan),
        )

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        directory = Path(args.output_dir)
        checkpoints.mark_complete(directory / f"checkpoint-{state.global_step}")
        checkpoints.keep_two(directory)
        self.saved_at = time.monotonic()
        if stopped_early(state, self.patience) and state.global_step < state.max_steps:
            log.info(
                "No better validation loss in %s epochs: stopping after epoch %.0f.", self.patience, state.epoch or 0
            )
            control.should_training_stop = True
