"""Fine-tune one base model on one snapshot with ``transformers.Trainer``."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
    get_scheduler,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from serving.processor import has_fast_bf16
from training import checkpoints
from training.arguments import checked_arguments, trainer_class
from training.contract import BadInput, TrainRequest
from training.cores import cores
from training.defaults import SEED, default_arguments
from training.examples import choose_length, count_tokens, make_examples, require_pad_token, token_limit
from training.licenses import stated_license
from training.loop import Record, Watch, balanced_loss, stopped_early, validation_metrics, with_reproducible_order
from training.model import LocalModel, find_model
from training.progress import Progress
from training.snapshot import open_snapshot, read_manifest, read_split

log = logging.getLogger(__name__)

BEST_METRIC = "eval_loss"  # measured against macro F1: benchmarks/README.md, "Training quality"
REPORTED = ("eval_loss", "eval_accuracy", "eval_f1_macro", "eval_f1_weighted")


@dataclass(frozen=True)
class Job:
    """All that one training needs."""

    trainer: Trainer
    labels: list[str]
    rows: dict[str, int]
    base_model: str
    license: str | None  # of the base model, as its card states it
    parameters: dict[str, Any]  # for MLflow
    directory: Path  # of the checkpoints
    patience: int | None


@dataclass(frozen=True)
class Fitted:
    checkpoint: Path  # of the best epoch
    metrics: dict[str, float]
    epochs: float


def hardware_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """:param given: what the spec sets. :return: where to train, and in which precision."""
    use_cpu = bool(given.get("use_cpu", not torch.cuda.is_available()))
    bf16 = has_fast_bf16() if use_cpu else torch.cuda.is_bf16_supported(including_emulation=False)
    return {"use_cpu": use_cpu, "bf16": bf16 and not given.get("fp16", False)}


def logging_arguments(given: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """:return: about ten looks at the loss in an epoch; a loss that is not a number must show, see Watch."""
    steps = rows // (given["per_device_train_batch_size"] * given.get("gradient_accumulation_steps", 1))
    return {"logging_strategy": "steps", "logging_steps": max(1, min(25, steps // 10)), "logging_nan_inf_filter": False}


def owned_arguments(directory: Path, *, validated: bool) -> dict[str, Any]:
    """:return: the fields of TrainingArguments that keep a run resumable and tracked; a spec cannot set them."""
    return {
        "output_dir": str(directory),
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "epoch",
        "save_total_limit": None,  # Watch removes old ones, once the new one is known to be whole
        "eval_strategy": "epoch" if validated else "no",
        "metric_for_best_model": BEST_METRIC if validated else None,
        "greater_is_better": False if validated else None,
        "remove_unused_columns": False,
    }


def prepare(request: TrainRequest, work: Path, progress: Progress) -> Job:
    """
    Read the snapshot, load the base model and tokenise.

    :raises BadInput: the data, the model or an argument cannot be trained with.
    """
    progress.doing("loading the base model")
    labels, splits = _read(request.snapshot)
    base = find_model(request.base_model, request.work, request.tracking)
    given = checked_arguments(request.arguments)
    set_seed(given.get("seed", SEED))  # the new head is random
    tokenizer, model = load_base(base, labels)

    limit = token_limit(tokenizer, model)
    if request.max_length is not None and request.max_length > limit:
        raise BadInput(
            f"train.max_length is {request.max_length}, but {request.base_model} takes at most {limit} tokens."
        )
    encoded = {
        split: count_tokens(tokenizer, [text for text, _ in rows], limit, _sayer(progress, split, len(rows)))
        for split, rows in splits.items()
    }
    max_length = request.max_length or choose_length([len(row["input_ids"]) for row in encoded["train"]], limit)
    tokenizer.model_max_length = max_length  # saved with the model: whoever loads it cuts texts as training did
    ids = {label: i for i, label in enumerate(labels)}
    train, validation = (
        make_examples(
            tokenizer,
            [text for text, _ in splits[split]],
            encoded[split],
            [ids[label] for _, label in splits[split]],
            max_length,
        )
        for split in ("train", "validation")
    )
    log.info(
        "%d labels, %d training rows with %d tokens, %d validation rows; cut at %d tokens, %.2f%% of the rows",
        *(len(labels), len(train), train.tokens, len(validation), max_length, 100 * train.truncated / len(train)),
    )

    n_parameters = sum(weights.numel() for weights in model.parameters())
    chosen = {
        **default_arguments(parameters=n_parameters, rows=len(train), labels=len(labels)),
        **hardware_arguments(given),
        **given,
    }
    directory = work / "checkpoints"
    arguments = _training_arguments(
        {
            **logging_arguments(chosen, len(train)),
            **chosen,
            **owned_arguments(directory, validated=len(validation) > 0),
        },
        rows=len(train),
    )
    log.info("Training arguments: %s", ", ".join(f"{name}={value}" for name, value in sorted(chosen.items())))
    if not len(validation):
        log.warning("No validation rows: the last epoch is kept, and training is never stopped early.")

    balanced = request.class_weights == "balanced"
    loss = balanced_loss(train.labels, len(labels), arguments.label_smoothing_factor) if balanced else None
    return Job(
        trainer=with_reproducible_order(trainer_class(request.trainer) if request.trainer else Trainer)(
            model=model,
            args=arguments,
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=train,
            eval_dataset=validation if len(validation) else None,
            processing_class=tokenizer,
            compute_metrics=validation_metrics,
            compute_loss_func=loss,
        ),
        labels=labels,
        rows={"train": len(train), "validation": len(validation)},
        base_model=f"{request.base_model} ({base.digest[:12]})",
        license=stated_license(base.path),
        parameters={
            **chosen,
            "base_model": request.base_model,
            "class_weights": request.class_weights,
            "early_stopping_epochs": request.early_stopping_epochs,
            "labels": len(labels),
            "max_length": max_length,
            "model_parameters": n_parameters,
            "train_rows": len(train),
            "train_tokens": train.tokens,
            "trainer": request.trainer,
            "truncated_rows": train.truncated,
            "validation_rows": len(validation),
        },
        directory=directory,
        patience=request.early_stopping_epochs,
    )


def leave_a_core() -> None:
    """
    Compute on all cores but one, unless the user says on how many (OMP_NUM_THREADS).

    Threads wait for one another in each step: one that shares its core with anything else holds up all. Measured beside
    an idle stack on two cores, in the same training: 28 to 33 samples/s with two threads, 48 to 52 with one.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, cores() - 1))


def fit(job: Job, progress: Progress, record: Record) -> Fitted:
    """
    Train to the end, from the last whole checkpoint if there is one. A finished epoch is not trained again.

    :raises BadInput: training diverged.
    """
    leave_a_core()
    trainer = job.trainer
    trainer.remove_callback(PrinterCallback)  # it prints what the run's log already says
    trainer.add_callback(Watch(progress, record, job.patience))
    start = checkpoints.last_whole(job.directory)
    state = None
    if start is not None:
        state = TrainerState.load_from_json(str(start / checkpoints.STATE))
        log.info("Continuing from %s, epoch %.2f of %g", start.name, state.epoch or 0, state.num_train_epochs)
    if state is None or not (state.global_step >= state.max_steps or stopped_early(state, job.patience)):
        with checkpoints.none_half_saved(job.directory):
            trainer.train(resume_from_checkpoint=str(start) if start else None)
        state = trainer.state
    best = state.best_global_step or state.global_step
    if job.rows["validation"] and not state.best_global_step:
        raise BadInput("Training diverged: no epoch had a finite validation loss. Lower train.arguments.learning_rate.")
    metrics: dict[str, float] = next(
        (entry for entry in state.log_history if entry["step"] == best and "eval_loss" in entry), {}
    )
    return Fitted(
        job.directory / f"checkpoint-{best}",
        {name: value for name, value in metrics.items() if name in REPORTED},
        round(state.epoch or 0.0, 4),
    )


def load_base(base: LocalModel, labels: list[str]) -> tuple[Any, Any]:
    """
    Load tokenizer and model with a classification head for ``labels``, in fp32.

    :raises BadInput: there is no such head for this kind of model, or its files are no checkpoint.
    """
    transformers_logging.set_verbosity_error()  # the new head is no surprise
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(base.path, trust_remote_code=False)
        model = AutoModelForSequenceClassification.from_pretrained(
            base.path,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,  # the base may be a classifier with other labels
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise BadInput(
            f"train.base_model {base.name}: not a model that can be fine-tuned to classify texts: {error}"
        ) from error
    require_pad_token(tokenizer, model.config, base.name)
    return tokenizer, model


def _read(snapshot: str) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """:return: the labels in the order of their ids, and texts with labels by split."""
    store, key = open_snapshot(snapshot)
    labels = read_manifest(store, key)["labels"]
    splits = {split: read_split(store, key, split) for split in ("train", "validation")}
    if len(labels) < 2 or not splits["train"]:
        raise BadInput(
            f"{snapshot} has {len(splits['train'])} training rows and the labels {labels}; "
            "training needs rows, and at least two labels to tell apart."
        )
    return labels, splits


def _training_arguments(values: dict[str, Any], rows: int) -> TrainingArguments:
    try:
        arguments = TrainingArguments(**values)
        # a schedule that lacks one of its own arguments says so only when it is made
        get_scheduler(
            arguments.lr_scheduler_type,
            torch.optim.SGD([torch.zeros(1)], lr=arguments.learning_rate),
            num_warmup_steps=0,
            num_training_steps=1_000_000,
            scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
        )
    except (TypeError, ValueError) as error:
        raise BadInput(f"train.arguments: {error}") from error
    batch_size = arguments.train_batch_size
    if arguments.dataloader_drop_last and rows < batch_size:
        raise BadInput(
            f"train.arguments.dataloader_drop_last drops all {rows} training rows: a batch takes {batch_size}. "
            "Leave it out, or lower per_device_train_batch_size."
        )
    return arguments


def _sayer(progress: Progress, split: str, rows: int) -> Callable[[int], None]:
    return lambda done: progress.doing(f"tokenising {split}, {done}/{rows} texts")
