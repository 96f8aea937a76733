"""Turn texts into logits with the release's tokenizer and OpenVINO on the CPU."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from serving.processor import has_fast_bf16
from serving.release import BadRelease, Golden, Release

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

Encoding = Mapping[str, list[int]]
Precision = Literal["bf16", "f32"]

BF16_SCORE_TOLERANCE = 0.02  # assumed: labels can differ only where the top two scores are closer than twice this
CHARACTERS_PER_TOKEN = 100  # assumed: written language has three to six; keeps megabytes away from the tokenizer
PAD_TO_MULTIPLE_OF = 8  # fewer distinct shapes: OpenVINO prepares its kernels once per shape


class Model:
    """The compiled network and its tokenizer. Neither may be used by two threads at once."""

    def __init__(self, release: Release, precision: Precision) -> None:
        """:raises BadRelease: tokenizer or network cannot be loaded, or they do not fit the labels."""
        import openvino as ov
        from transformers import AutoTokenizer

        self.release, self.precision = release, precision
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(
                release.model_directory, local_files_only=True, trust_remote_code=False
            )
            self.network = ov.Core().compile_model(
                release.model_xml, "CPU", {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise BadRelease(f"{release.directory} cannot be loaded: {type(error).__name__}: {error}") from error
        self.inputs = [port.get_any_name() for port in self.network.inputs]
        unknown = sorted(set(self.inputs) - {"input_ids", "attention_mask", "token_type_ids"})
        if unknown:
            raise BadRelease(f"{release.model_xml}: unknown inputs {unknown}.")
        self._request = self.network.create_infer_request()

    def tokenize(self, texts: Sequence[str], *, truncation: bool = True) -> list[Encoding]:
        """:return: what the network needs of each text, not padded."""
        if truncation:
            characters = self.release.max_length * CHARACTERS_PER_TOKEN
            texts = [text[:characters] for text in texts]
        encoded = self.tokenizer(
            list(texts),
            truncation=truncation,
            max_length=self.release.max_length if truncation else None,
            return_token_type_ids="token_type_ids" in self.inputs,
            return_attention_mask=True,
            verbose=False,
        )
        return [{name: encoded[name][i] for name in self.inputs} for i in range(len(texts))]

    def logits(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        """:return: (n_texts, n_labels)"""
        batch = self.tokenizer.pad(
            {name: [encoding[name] for encoding in encodings] for name in self.inputs},
            pad_to_multiple_of=PAD_TO_MULTIPLE_OF,
            return_tensors="np",
            verbose=False,
        )
        result = self._request.infer({name: batch[name] for name in self.inputs}, share_inputs=True)
        return np.array(result["logits"], dtype=np.float32)  # a copy: the request's buffer is used again

    def warm_up(self) -> None:
        """
        Answer one text.

        :raises BadRelease: the network does not run, or does not score the release's labels.
        """
        try:
            shape = self.logits(self.tokenize(["ready"])).shape
        except (KeyError, ValueError, RuntimeError) as error:
            raise BadRelease(f"{self.release.directory} does not run: {type(error).__name__}: {error}") from error
        if shape != (1, len(self.release.labels)):
            raise BadRelease(
                f"{self.release.model_xml} scores {shape[-1]} labels, release.json lists {len(self.release.labels)}."
            )


def load_model(release: Release) -> Model:
    """
    Compile and warm up in the fastest precision that answers as recorded.

    bf16 is taken where the processor multiplies matrices of it and the golden examples keep their scores; measured on a
    22M-parameter BERT with AMX: 3,000 texts/s of 16 tokens against 824 in f32.

    :raises BadRelease: the release does not load or does not run.
    """
    import openvino as ov

    if has_fast_bf16() and "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        model = Model(release, "bf16")
        model.warm_up()
        golden = release.golden()
        difference = _largest_difference(model, golden) if golden.texts else math.inf
        if difference <= BF16_SCORE_TOLERANCE:
            return model
        log.warning("bf16 moves a golden score by %.3f (at most %.3f): f32.", difference, BF16_SCORE_TOLERANCE)
    model = Model(release, "f32")
    model.warm_up()
    return model


def _largest_difference(model: Model, golden: Golden) -> float:
    function = default_function(model.release)
    logits = np.concatenate([model.logits([encoding]) for encoding in model.tokenize(golden.texts)])
    return float(np.abs(apply_function(function, logits) - np.array(golden.scores)).max())


ScoreFunction = Literal["softmax", "sigmoid", "none"]


def default_function(release: Release) -> ScoreFunction:
    """:return: what transformers' text-classification pipeline applies to the logits of this model."""
    config: dict[str, Any] = json.loads((release.model_directory / "config.json").read_text(encoding="utf-8"))
    if config.get("problem_type") == "regression":
        return "none"
    if config.get("problem_type") == "multi_label_classification" or len(release.labels) == 1:
        return "sigmoid"
    return "softmax"


def apply_function(function: ScoreFunction, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """:param logits: (n_texts, n_labels) :return: scores of the same shape."""
    if function == "none":
        return logits
    if function == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)
