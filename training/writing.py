"""
Say in the store that something is being written, so that whoever takes things out looks when all of it is there.

``writing/ID.json``, a mark that its writer renews as long as it lives. Who writes sets the mark and then reads the list
of the forgotten; who forgets writes the list and then waits for the marks: one of them sees the other, on a disk and
in an object store.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.store import Store

log = logging.getLogger(__name__)

MARKS = "writing"
RENEWED_SECONDS = 5.0
SILENT_SECONDS = 60.0  # assumed: a living writer renews its mark more often, also where the store is slow


@contextmanager
def marked(store: Store) -> Iterator[None]:
    """Keep the mark for as long as what is inside takes; one of a process that was killed is not renewed any more."""
    key = f"{MARKS}/{uuid.uuid4().hex}.json"
    done = threading.Event()

    def renew() -> None:
        renewals = 0
        while not done.wait(RENEWED_SECONDS):
            renewals += 1
            with suppress(Exception):  # the store is away, perhaps: what is written meanwhile fails by itself
                store.write_json(key, {"renewed": renewals})

    store.write_json(key, {"renewed": 0})
    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        done.set()
        renewing.join()
        store.remove(key)


def wait_for_writers(
    store: Store, silent_seconds: float = SILENT_SECONDS, pause: Callable[[float], None] = time.sleep
) -> None:
    """Wait until every mark there is now is gone. One that is not renewed any more is removed."""
    changed: dict[str, tuple[object, float]] = {}  # by mark: what it said when it was last seen to change, and when
    marks = set(store.list(MARKS))
    if marks:
        log.info("A step is writing into the store; waiting until it has.")
    while marks:
        for mark in marks:
            try:
                told = store.read_json(mark)
            except FileNotFoundError:  # it is gone at this moment
                continue
            except ValueError:  # its next renewal mends it
                told = None
            now = time.monotonic()
            before, since = changed.get(mark, (None, now))
            if mark not in changed or told != before:
                changed[mark] = (told, now)
            elif now - since >= silent_seconds:
                log.info("%s: the step that wrote was killed; its mark is removed.", store.uri(mark))
                store.remove(mark)
        pause(0.2)
        marks &= set(store.list(MARKS))
