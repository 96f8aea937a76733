"""Say every few seconds how far the work is, whatever the main thread is busy with."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Self

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 3.0  # the contract says at least every 5: a busy machine may wake the thread late


class Progress:
    """A line on the log from a thread of its own: docs/architecture.md, "Stage", has its exact form."""

    def __init__(self, interval: float = INTERVAL_SECONDS) -> None:
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._activity = "starting"
        self._activity_began = time.monotonic()
        self._began: float | None = None  # of training
        self._first_step = self._step = self._steps = 0
        self._epoch = self._epochs = 0.0
        self._samples = 0
        self._loss: float | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stop.set()
        self._thread.join()

    def doing(self, activity: str) -> None:
        """Report ``activity`` and its duration; training, if it was under way, is over."""
        self._activity, self._activity_began, self._began = activity, time.monotonic(), None

    def begin_training(self, *, step: int, steps: int, epochs: float) -> None:
        self._first_step = self._step = step
        self._steps, self._epochs = steps, epochs
        self._began = time.monotonic()

    def advance(self, *, step: int, epoch: float, samples: int) -> None:
        """:param samples: trained in this step."""
        self._step, self._epoch = step, epoch
        self._samples += samples

    def set_loss(self, loss: float) -> None:
        self._loss = loss

    @property
    def samples_per_second(self) -> float:
        return self._samples / self._elapsed() if self._began is not None else 0.0

    def _elapsed(self) -> float:
        return max(time.monotonic() - (self._began or 0.0), 1e-6)

    def line(self) -> str:
        if self._began is None:
            return f"{self._activity}: {time.monotonic() - self._activity_began:.0f}s"
        elapsed = self._elapsed()
        done = self._step - self._first_step
        left = f"{elapsed / done * (self._steps - self._step):.0f}s" if done else "-"
        loss = "-" if self._loss is None else f"{self._loss:.4f}"
        return (
            f"progress: {100 * self._step // max(1, self._steps)}% | step {self._step}/{self._steps} "
            f"| epoch {self._epoch:.2f}/{self._epochs:g} | loss {loss} "
            f"| elapsed {elapsed:.0f}s | left {left} | {self.samples_per_second:.0f} samples/s"
        )

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            log.info("%s", self.line())
