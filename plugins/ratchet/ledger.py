"""Remember what changed over time: numbered records in the store, created once and never rewritten."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.store import Store

ATTEMPTS = 100  # writers that beat us to a number, one after the other


class Ledger:
    """The history of one pipeline, ``ledger/PIPELINE/NNNNNN.json``, oldest first."""

    def __init__(self, store: Store, pipeline: str) -> None:
        self.store, self.prefix = store, f"ledger/{pipeline}"

    def append(self, event: str, **values: Any) -> int:
        """
        Write one record; of two writers at once both succeed, one after the other.

        :param event: what happened, such as ``alias-intent`` or ``alias-done``.
        :return: its number.
        """
        record = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **values}
        for _attempt in range(ATTEMPTS):
            number = self._last_number() + 1
            try:
                self.store.create_json(f"{self.prefix}/{number:06d}.json", {"number": number, **record})
            except FileExistsError:
                continue
            return number
        raise RuntimeError(
            f"{self.store.uri(self.prefix)}: no free number after {ATTEMPTS} attempts; nothing was written."
        )

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        found = [self.store.read_json(key) for key in self.store.list(self.prefix)]
        return [record for record in found if event is None or record["event"] == event]

    def _last_number(self) -> int:
        keys = self.store.list(self.prefix)
        return int(keys[-1].rsplit("/", 1)[1].removesuffix(".json")) if keys else 0
