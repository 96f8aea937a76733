"""Score texts with a saved transformers classifier exactly as it was trained: fp32, its own tokenizer and length."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.contract import BadInput
from training.examples import token_limit
from training.text import some

if TYPE_CHECKING:
    import numpy as np
    import torch

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0
HEAD = "ForSequenceClassification"


@dataclass(frozen=True)
class Classifier:
    """A loaded model: texts in, one probability for each label out."""

    name: str
    model: Any
    tokenizer: Any
    labels: tuple[str, ...]  # in the order of the ids
    max_length: int  # tokens; longer texts are cut, as in training

    def encode(self, texts: Sequence[str]) -> list[dict[str, list[int]]]:
        """:return: the inputs of each text, cut but not padded."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        return [{name: values[i] for name, values in encoded.items()} for i in range(len(texts))]

    def pad(self, inputs: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        return dict(self.tokenizer.pad(list(inputs), return_tensors="pt"))

    def score(self, texts: Sequence[str], batch_size: int) -> np.ndarray:
        """
        Score texts in batches of similar length; progress is logged every 5 s.

        :return: (n_texts, n_labels), float64 probabilities in the order of ``texts``.
        """
        import numpy as np
        import torch

        inputs = self.encode(texts)
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]["input_ids"]), reverse=True)
        scores = np.empty((len(texts), len(self.labels)), dtype=np.float64)
        progress = Progress(self.name, len(texts))
        device = next(self.model.parameters()).device
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = {name: tensor.to(device) for name, tensor in self.pad([inputs[i] for i in rows]).items()}
            with torch.inference_mode():
                logits = self.model(**batch).logits
            scores[rows] = torch.softmax(logits.double(), dim=-1).cpu().numpy()
            progress.advance(len(rows))
        progress.finish()
        return scores


def load_classifier(directory: Path, name: str) -> Classifier:
    """
    Load a checkpoint with a trained classification head.

    :param name: how messages call it.
    :raises BadInput: it cannot be loaded, has no such head, or a part of its weights is missing.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # it redraws a line, and a task log keeps every copy
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        _require_classifier(config, name)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            directory, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except BadInput:
        raise
    except Exception as error:  # damaged files surface as anything from KeyError to SafetensorError
        raise BadInput(f"{name} cannot be loaded: {type(error).__name__}: {error}") from error
    if missing := sorted(loading["missing_keys"]) + sorted(str(key) for key in loading["mismatched_keys"]):
        raise BadInput(f"{name}: its files lack {', '.join(missing[:5])}; with random numbers there it would guess.")
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes up an empty one
        raise BadInput(f"{name} has no tokenizer: every text would be unknown to it. Save the tokenizer beside it.")
    if set(config.id2label) != set(range(config.num_labels)):
        raise BadInput(f"{name}: id2label in config.json does not have the ids from 0 to {config.num_labels - 1}.")
    labels = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    if len(set(labels)) != len(labels):
        raise BadInput(f"{name}: config.json has the same name for two labels: {some(labels)}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Classifier(name, model.to(device).eval(), tokenizer, labels, token_limit(tokenizer, model))


def _require_classifier(config: Any, name: str) -> None:
    architectures = config.architectures or []
    if not any(architecture.endswith(HEAD) for architecture in architectures):
        raise BadInput(
            f"{name} has no classification head (config.json: architectures {architectures}). "
            "Give a checkpoint that was fine-tuned for sequence classification."
        )
    if config.num_labels < 2 or config.problem_type in ("regression", "multi_label_classification"):
        raise BadInput(
            f"{name} has {config.num_labels} label(s) and the problem type {config.problem_type!r}; "
            "only one label out of at least two can be judged."
        )


class Progress:
    """Say every few seconds how many rows are scored, and in the end how fast."""

    def __init__(self, name: str, rows: int) -> None:
        self.name, self.rows, self.done = name, rows, 0
        self.started = self.said = time.monotonic()

    def advance(self, rows: int) -> None:
        self.done += rows
        now = time.monotonic()
        if now - self.said >= PROGRESS_SECONDS:
            self.said = now
            elapsed = now - self.started
            left = elapsed * (self.rows - self.done) / self.done
            log.info(
                "progress: %d%% | %s | row %d/%d | elapsed %.0fs | left %.0fs | %.0f rows/s",
                100 * self.done // self.rows,
                self.name,
                self.done,
                self.rows,
                elapsed,
                left,
                self.done / elapsed,
            )

    def finish(self) -> None:
        elapsed = max(time.monotonic() - self.started, 1e-9)
        log.info("%s: %d rows scored in %.1f s, %.0f rows/s", self.name, self.rows, elapsed, self.rows / elapsed)
