"""Ask a release as its server does, and measure what serving it costs: time, disk and memory."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import serving  # before OpenVINO: keeps its telemetry out
from serving.environment import without_secrets
from serving.release import GOLDEN, MANIFEST, read_release
from training.answers import Answers

if TYPE_CHECKING:
    import numpy as np

    from serving.model import Model

REQUEST_TEXTS = 256  # sent together; the server cuts them into batches of its own
REQUEST_SECONDS = 3600.0  # assumed: 256 of the longest texts on one busy core, many times over
THROUGHPUT_ROWS = 4 * REQUEST_TEXTS  # assumed: a second or so of a small model, on a small machine
LATENCY_ROWS = 500  # assumed: five of them lie beyond p99
LATENCIES = (50, 95, 99)  # percentiles
MEMORY_SECONDS = 600.0  # assumed: longest start of a server that is still making progress


def ask_release(directory: Path, texts: Sequence[str], name: str) -> tuple[Answers, dict[str, Any]]:
    """
    Answer the texts in the server's own batches, and some of them one at a time.

    :param name: how messages call the model.
    :return: the answers, and the report's ``serving`` as far as the release alone decides it.
    """
    from serving.model import load_model

    release = read_release(directory)
    model = load_model(release)
    scores = answer_together(model, texts, name)
    latency = _answer_alone(model, texts)
    figures = {
        "precision": model.precision,
        "latency_ms": _percentiles(latency),
        "throughput": _throughput(model, texts[:THROUGHPUT_ROWS], name),
        "disk_bytes": sum(
            path.stat().st_size
            for path in directory.rglob("*")
            if path.is_file() and path.name not in (MANIFEST, GOLDEN)
        ),
        "memory_bytes": memory_of(directory),
    }
    return Answers(tuple(release.labels), scores, latency), figures


def memory_of(directory: Path) -> int:
    """
    :return: bytes by which a process grows that loads the release and answers one text.
    :raises RuntimeError: it does not load in a process of its own, or not in time.
    """
    code = Path(serving.__file__).parent.parent  # not resolved: a stage sees our packages through links
    environment = {**without_secrets(os.environ), "PYTHONPATH": str(code)}
    command = [sys.executable, "-m", "serving.memory", "--release", str(directory)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=MEMORY_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"{directory} was not loaded within {MEMORY_SECONDS:g} s by a process of its own, so nobody knows its "
            "memory; it was not evaluated. Retry when the machine is less busy."
        ) from error
    if done.returncode != 0:
        raise RuntimeError(
            f"{directory} does not load in a process of its own (exit status {done.returncode}), so it was not "
            f"evaluated: {done.stderr.strip()[-500:]}"
        )
    return int(done.stdout.split()[-1])


def answer_together(model: Model, texts: Sequence[str], name: str) -> np.ndarray:
    """:return: (n_texts, n_labels)"""
    import numpy as np

    from serving.batching import Batcher
    from serving.model import apply_function, default_function
    from training.classifier import Progress

    progress = Progress(name, len(texts))
    batcher = Batcher(model, max_length=model.release.max_length)

    async def ask() -> list[np.ndarray]:
        answered = []
        for start in range(0, len(texts), REQUEST_TEXTS):
            request = texts[start : start + REQUEST_TEXTS]
            answered.append(await batcher.logits(request, deadline_seconds=REQUEST_SECONDS))
            progress.advance(len(request))
        return answered

    try:
        logits = np.concatenate(asyncio.run(ask()))
    finally:
        batcher.stop()
    progress.finish()
    # in doubles, as the checkpoint's: rounded to floats the scores of a text add up to nearly one
    return apply_function(default_function(model.release), logits.astype(np.float64))


def _answer_alone(model: Model, texts: Sequence[str]) -> np.ndarray:
    """
    Ask some of the texts, evenly taken, one after the other.

    The first text of each length is asked twice and counted once: OpenVINO prepares its kernels once per shape, which
    a server that has been up for a while did long ago.

    :return: (n_texts,), ms; NaN: not asked.
    """
    import numpy as np

    from serving.model import PAD_TO_MULTIPLE_OF

    latency = np.full(len(texts), np.nan)
    count = min(LATENCY_ROWS, len(texts))
    prepared: set[int] = set()
    for row in (i * len(texts) // count for i in range(count)):
        text = [texts[row]]
        began = time.perf_counter()
        encodings = model.tokenize(text)
        model.logits(encodings)
        shape = -(-len(encodings[0]["input_ids"]) // PAD_TO_MULTIPLE_OF)
        if shape not in prepared:
            prepared.add(shape)
            began = time.perf_counter()
            model.logits(model.tokenize(text))
        latency[row] = 1000 * (time.perf_counter() - began)
    return latency


def _throughput(model: Model, texts: Sequence[str], name: str) -> float:
    """:return: texts/s, where texts of such lengths were answered together before: as for the latency."""
    began = time.perf_counter()
    answer_together(model, texts, f"{name}, once more for its throughput")
    return len(texts) / (time.perf_counter() - began)


def _percentiles(latency: np.ndarray) -> dict[str, float]:
    import numpy as np

    return {f"p{which}": float(np.nanpercentile(latency, which)) for which in LATENCIES}
