"""Turn the texts of a snapshot into token ids, cut to one length that training, evaluation and serving share."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from training.contract import BadInput

log = logging.getLogger(__name__)

LENGTH_PERCENTILE = 99.9  # assumed: what lies beyond is mostly pasted mail, and would slow down every batch it is in
LENGTH_MULTIPLE = 8  # a rounder length costs nothing and spares a few texts the cut
NO_LIMIT = 1_000_000  # a tokenizer without a known limit says 1e30
LIMIT_OF_RELATIVE_POSITIONS = 512  # assumed: such a model takes any length, at a cost that grows with it
CHUNK = 2_000  # texts between two looks at the progress


@dataclass(frozen=True)
class Examples:
    """One split, tokenised: a map-style dataset for a DataLoader."""

    items: list[dict[str, Any]]
    tokens: int  # after the cut
    truncated: int  # rows that lost their end

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]

    @property
    def lengths(self) -> list[int]:
        return [len(item["input_ids"]) for item in self.items]

    @property
    def labels(self) -> list[int]:
        return [item["labels"] for item in self.items]


def token_limit(tokenizer: Any, model: Any) -> int:
    """:return: the longest input, special tokens included, that both tokenizer and model take."""
    positions = getattr(model.config, "max_position_embeddings", None) or 0
    padding_index = getattr(getattr(model.base_model, "embeddings", None), "padding_idx", None)
    if padding_index is not None:  # RoBERTa and its kin number positions from padding_idx + 1
        positions -= padding_index + 1
    return smallest_limit(tokenizer.model_max_length, positions)


def smallest_limit(*limits: float | None) -> int:
    """:return: tokens. :param limits: what each part of a model takes; None, 0 or very much: it does not say."""
    said = [limit for limit in limits if limit and 0 < limit < NO_LIMIT]
    return int(min(said, default=LIMIT_OF_RELATIVE_POSITIONS))


def choose_length(lengths: Sequence[int], limit: int) -> int:
    """:return: tokens that hold nearly all training texts whole, at most ``limit``."""
    ranked = sorted(lengths)
    percentile = ranked[max(0, math.ceil(len(ranked) * LENGTH_PERCENTILE / 100) - 1)]
    return min(limit, math.ceil(percentile / LENGTH_MULTIPLE) * LENGTH_MULTIPLE)


def count_tokens(
    tokenizer: Any, texts: Sequence[str], limit: int, said: Callable[[int], None]
) -> list[dict[str, list[int]]]:
    """
    Tokenise, and keep one token more than ``limit`` of what is longer: enough to see that it is.

    :param said: called with the number of texts done so far.
    """
    encoded: list[dict[str, list[int]]] = []
    for start in range(0, len(texts), CHUNK):
        batch = tokenizer(list(texts[start : start + CHUNK]), truncation=True, max_length=limit + 1, verbose=False)
        encoded += [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]
        said(len(encoded))
    return encoded


def make_examples(
    tokenizer: Any, texts: Sequence[str], encoded: list[dict[str, list[int]]], labels: Sequence[int], max_length: int
) -> Examples:
    """Cut what is longer than ``max_length``, keeping the special tokens at its end."""
    items: list[dict[str, Any]] = []
    truncated = 0
    for text, whole, label in zip(texts, encoded, labels, strict=True):
        row = whole
        if len(whole["input_ids"]) > max_length:
            truncated += 1
            row = dict(tokenizer(text, truncation=True, max_length=max_length))
        items.append({**row, "labels": label})
    return Examples(items, sum(len(item["input_ids"]) for item in items), truncated)


def require_pad_token(tokenizer: Any, config: Any, name: str) -> None:
    """
    Make padding possible: a decoder's tokenizer often has none, and its end-of-text token serves as well.

    :raises BadInput: there is no token that could.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise BadInput(
                f"{name}: its tokenizer has neither a padding nor an end-of-text token, so texts of different length "
                "cannot share a batch. Add one (tokenizer.add_special_tokens) and save the model again."
            )
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
