"""Run the texts of concurrent requests through the model together, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from serving.model import Encoding

log = logging.getLogger(__name__)


class Scorer(Protocol):
    """What the batcher needs of a model; called from one thread only."""

    def tokenize(self, texts: Sequence[str], *, truncation: bool = True) -> list[Encoding]: ...

    def logits(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much is taken in and how much runs at once."""

    queued_texts: int = 4096  # assumed: at 1,000 texts/s nobody waits longer than 4 s
    round_texts: int = 64  # taken from the queue at once; new requests wait for this much at most
    batch_texts: int = 32
    batch_tokens: int = 4096  # padding included; bounds the memory of one inference
    padding: float = 1.5  # longest of a batch over its shortest; measured: beyond it two batches are faster


class Overloaded(Exception):
    """The queue is full; nothing of the request was taken."""


class TooLong(Exception):
    """A text exceeds the model's length and the request forbids cutting it."""

    def __init__(self, index: int, tokens: int) -> None:
        super().__init__(f"text {index} has {tokens} tokens")
        self.index, self.tokens = index, tokens


@dataclass(eq=False)
class _Job:
    texts: Sequence[str]
    truncation: bool
    max_length: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[NDArray[np.float32]]
    deadline: float  # time.monotonic()
    taken: int = 0
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def abandoned(self) -> bool:
        return self.future.done() or time.monotonic() > self.deadline


class Batcher:
    """
    A queue in front of the model.

    An idle model starts at once on whatever is there; while it runs, arriving requests gather and go together in the
    next round. A round takes texts from the waiting requests in turn, so that a request of a thousand texts does not
    hold up one of a single text, and cuts them into batches of similar length.
    """

    def __init__(self, scorer: Scorer, *, max_length: int, limits: Limits | None = None) -> None:
        self.scorer, self.max_length, self.limits = scorer, max_length, limits or Limits()
        self._jobs: deque[_Job] = deque()
        self._queued = 0
        self._ready = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    async def logits(
        self, texts: Sequence[str], *, deadline_seconds: float, truncation: bool = True
    ) -> NDArray[np.float32]:
        """
        :return: (n_texts, n_labels)
        :raises Overloaded: the queue is full.
        :raises TimeoutError: the deadline passed first; texts that did not start are dropped.
        :raises TooLong: ``truncation`` is off and a text needs it.
        """
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + deadline_seconds
        job = _Job(texts, truncation, self.max_length, loop, loop.create_future(), deadline)
        with self._ready:
            if self._queued and self._queued + len(texts) > self.limits.queued_texts:
                raise Overloaded
            self._jobs.append(job)
            self._queued += len(texts)
            self._ready.notify()
        return await asyncio.wait_for(job.future, deadline_seconds)

    @property
    def alive(self) -> bool:
        """Whether there is a thread that answers what is asked."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread after the batch it is in."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._jobs and not self._stopping:
                    self._ready.wait()
                if self._stopping:
                    return
                taken = self._take()
            for truncation in (True, False):
                self._score([(job, i) for job, i in taken if job.truncation is truncation], truncation)

    def _take(self) -> list[tuple[_Job, int]]:
        """:return: the texts of the next round, as (job, index); one share from each waiting job in turn."""
        taken: list[tuple[_Job, int]] = []
        share = max(1, self.limits.round_texts // len(self._jobs))
        while self._jobs and len(taken) < self.limits.round_texts:
            job = self._jobs.popleft()
            if job.abandoned:
                self._queued -= len(job.texts) - job.taken
                continue
            count = min(share, len(job.texts) - job.taken, self.limits.round_texts - len(taken))
            taken += [(job, job.taken + i) for i in range(count)]
            job.taken += count
            self._queued -= count
            if job.taken < len(job.texts):
                self._jobs.append(job)
        return taken

    def _score(self, taken: list[tuple[_Job, int]], truncation: bool) -> None:
        """Answer a round. If the model fails on it, ask again for each request alone and fail those it fails on."""
        if not taken:
            return
        try:
            self._answer(taken, truncation)
        except BaseException as error:  # a panic of the tokenizer is no Exception; the thread lives on
            log.error("A round of %d texts failed: %s", len(taken), type(error).__name__)
            jobs = dict.fromkeys(job for job, _ in taken)
            for job in jobs:
                if len(jobs) == 1:
                    _finish(job, RuntimeError(f"the model failed: {type(error).__name__}"))
                else:
                    self._score([(j, i) for j, i in taken if j is job and i not in j.rows], truncation)

    def _answer(self, taken: list[tuple[_Job, int]], truncation: bool) -> None:
        encodings = self.scorer.tokenize([job.texts[i] for job, i in taken], truncation=truncation)
        work = []
        for (job, i), encoding in zip(taken, encodings, strict=True):
            if (tokens := _length(encoding)) > job.max_length:
                _finish(job, TooLong(i, tokens))
            else:
                work.append((job, i, encoding))
        for batch in self._batches(work):
            batch = [entry for entry in batch if not entry[0].abandoned]
            if not batch:
                continue
            rows = self.scorer.logits([encoding for _, _, encoding in batch])
            for (job, i, _), row in zip(batch, rows, strict=True):
                job.rows[i] = row
            for job in {job for job, _, _ in batch}:
                if len(job.rows) == len(job.texts):
                    _finish(job, np.stack([job.rows[i] for i in range(len(job.texts))]))

    def _batches(self, work: list[tuple[_Job, int, Encoding]]) -> Iterator[list[tuple[_Job, int, Encoding]]]:
        batch: list[tuple[_Job, int, Encoding]] = []
        for entry in sorted(work, key=lambda entry: _length(entry[2])):
            length = _length(entry[2])
            if batch and (
                len(batch) == self.limits.batch_texts
                or (len(batch) + 1) * length > self.limits.batch_tokens
                or length > self.limits.padding * _length(batch[0][2]) + 8
            ):
                yield batch
                batch = []
            batch.append(entry)
        if batch:
            yield batch


def _length(encoding: Encoding) -> int:
    return len(encoding["input_ids"])


def _finish(job: _Job, outcome: NDArray[np.float32] | Exception) -> None:
    def settle() -> None:
        if job.future.done():  # the request gave up meanwhile
            return
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)

    job.loop.call_soon_threadsafe(settle)
