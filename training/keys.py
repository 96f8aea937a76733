"""Know what was made from what: content keys, the record of finished work, and the reason for doing it again."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from training.store import Store, digest_of_files, sha256_file

log = logging.getLogger(__name__)

ABANDONED_SECONDS = 7 * 24 * 3600.0  # assumed: whoever means to continue what was killed does so within a week
LOG_SECONDS = 5.0  # between two lines that say for how long something has been waited for


def key_of(parts: Mapping[str, Any]) -> str:
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


@cache
def code_version(*packages: str) -> str:
    """:return: digest of the ``.py`` files of our packages (default ``training``): any edit makes a new version."""
    root = Path(__file__).resolve().parent.parent
    files = {
        path.relative_to(root).as_posix(): sha256_file(path)
        for package in packages or ("training",)
        for path in (root / package).resolve().rglob("*.py")
        if "__pycache__" not in path.parts
    }
    return digest_of_files(files)


def explain(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """
    :return: one phrase per part that differs, ``name old -> new``, digests cut to eight characters; of a part that is
        new or gone as a whole, its name.
    """
    phrases = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            phrases += explain(before, after, f"{prefix}{name}.")
        else:
            phrases.append(f"{prefix}{name} {_short(before)} -> {_short(after)}")
    return phrases


def _short(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("name") or value.get("digest") or f"{len(value)} values"
    text = "unset" if value is None else str(value)
    is_digest = len(text) == 64 and all(c in "0123456789abcdef" for c in text)
    return text[:8] if is_digest else text if len(text) <= 60 else text[:57] + "..."


class Records:
    """The finished work of one stage, by key, in the store."""

    def __init__(self, store: Store, stage: str) -> None:
        self.store, self.stage = store, stage

    def find(self, key: str) -> dict[str, Any] | None:
        """:return: the recorded result, or None. A record that cannot be read counts as none."""
        return (self.record(key) or {}).get("result")

    def record(self, key: str) -> dict[str, Any] | None:
        """:return: parts, result, made and pipeline. A record that cannot be read counts as none."""
        return self._read(f"keys/{self.stage}/{key}.json")

    def look_up(
        self,
        key: str,
        parts: Mapping[str, Any],
        pipeline: str,
        is_whole: Callable[[dict[str, Any]], bool],
        *,
        force: bool = False,
    ) -> tuple[dict[str, Any] | None, str]:
        """
        Find finished work, and say why it is used or made again. A hit is noted as what the pipeline used last.

        :param is_whole: whether what a result names is still there.
        """
        found = None if force else self.find(key)
        if found is None or not is_whole(found):
            return None, self.why_miss(parts, pipeline, force=force)
        self.note_last(key, parts, pipeline)
        return found, self.why_hit(key)

    def why_hit(self, key: str) -> str:
        return f"hit: the same inputs, configuration and code made this on {self.made(key) or 'an unknown date'}"

    def why_miss(self, parts: Mapping[str, Any], pipeline: str, *, force: bool = False) -> str:
        if force:
            return "forced"
        last = self.last_parts(pipeline)
        if last is None:
            return "miss: first run"
        differences = explain(last, parts)
        return "miss: " + ("; ".join(differences) or "the earlier work was never finished or is gone")

    def write(self, key: str, parts: Mapping[str, Any], result: Mapping[str, Any], pipeline: str) -> None:
        """Record finished work; everything it names must already be in place."""
        made = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"parts": dict(parts), "result": dict(result), "made": made, "pipeline": pipeline}
        self.store.write_json(f"keys/{self.stage}/{key}.json", record)
        self.note_last(key, parts, pipeline)

    def note_last(self, key: str, parts: Mapping[str, Any], pipeline: str) -> None:
        """Say what the pipeline used last, hit or made: what its next miss is explained against."""
        self.store.write_json(f"keys/{self.stage}/last/{pipeline}.json", {"key": key, "parts": dict(parts)})

    def last_parts(self, pipeline: str) -> dict[str, Any] | None:
        return (self._read(f"keys/{self.stage}/last/{pipeline}.json") or {}).get("parts")

    def parts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """:return: of all records that can be read, the key and the parts."""
        for file in self.store.list(f"keys/{self.stage}"):
            if file.endswith(".json") and (record := self._read(file)):
                yield Path(file).stem, record.get("parts", {})

    def remove(self, key: str) -> None:
        """Have the work be done again."""
        self.store.remove(f"keys/{self.stage}/{key}.json")

    def made(self, key: str) -> str | None:
        """:return: when, in ISO 8601 and UTC."""
        return (self.record(key) or {}).get("made")

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            return self.store.read_json(key)
        except FileNotFoundError:
            return None
        except ValueError as error:
            log.warning("%s is unreadable (%s); treated as absent.", self.store.uri(key), error)
            return None


@contextmanager
def locked(
    directory: Path, wait_seconds: float = math.inf, poll: Callable[[float], None] | None = None
) -> Iterator[Path]:
    """
    Hold ``directory`` for this process alone; an older process of the same key is waited for, and the log says so.

    The lock belongs to the open file, so it goes with the process however that ends.

    :raises TimeoutError: another process still holds it after ``wait_seconds``.
    """
    import fcntl
    import time

    directory.mkdir(parents=True, exist_ok=True)
    started = said = time.monotonic()
    with (directory / "lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                now = time.monotonic()
                if now - started > wait_seconds:
                    raise TimeoutError(
                        f"{directory} is still in use by another process after {wait_seconds:.0f} s; "
                        "nothing was done. Wait for it or stop it, then retry."
                    ) from None
                if now - said > LOG_SECONDS:
                    said = now
                    log.info("Another process is at the same work; waiting for it for %.0f s so far.", now - started)
                (poll or time.sleep)(0.2)
        yield directory
