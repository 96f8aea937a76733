"""An immutable copy of a data set: what it is called, and how it lies in the store (docs/architecture.md, "Store")."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from training.contract import SPLITS, Split
from training.store import Store

Settings = dict[str, int | None]  # test_percent and validation_percent; None: the split has a source of its own


@dataclass(frozen=True)
class Snapshot:
    rows: Mapping[Split, Sequence[tuple[str, str]]]  # text and label, sorted by the hash of the text
    settings: Settings

    @cached_property
    def labels(self) -> list[str]:
        return sorted({label for _text, label in self.rows["train"]})

    @property
    def counts(self) -> dict[str, int]:
        return {split: len(self.rows[split]) for split in SPLITS}

    @cached_property
    def label_counts(self) -> dict[str, dict[str, int]]:
        """:return: rows by split and label."""
        return {split: dict(sorted(Counter(label for _, label in self.rows[split]).items())) for split in SPLITS}

    @cached_property
    def digest(self) -> str:
        """The same rows in the same splits are the same snapshot, wherever they came from."""
        digest = hashlib.sha256(json.dumps([self.labels, self.settings], sort_keys=True).encode())
        for split in SPLITS:
            digest.update(f"\0\0{split}\0".encode())
            for text, label in self.rows[split]:
                digest.update(f"{text}\0{label}\0".encode())  # neither holds a NUL: training.rows drops those
        return digest.hexdigest()

    @property
    def key(self) -> str:
        return f"snapshots/{self.digest}"

    def put(self, store: Store, described: Mapping[str, Any], *, overwrite: bool = False) -> str:
        """
        Copy the snapshot into the store, files first. Safe to repeat after an unfinished attempt.

        :param described: what the manifest tells beside digest, labels, rows and settings.
        :return: its URI.
        """
        import pyarrow
        from pyarrow import parquet

        manifest = {
            "digest": self.digest,
            "labels": self.labels,
            "rows": self.counts,
            "label_rows": self.label_counts,
            "settings": self.settings,
            **described,
        }
        schema = pyarrow.schema([("text", pyarrow.string()), ("label", pyarrow.string())])
        with tempfile.TemporaryDirectory(prefix="ratchet-snapshot-") as folder:
            for split in SPLITS:
                texts, labels = zip(*self.rows[split], strict=True) if self.rows[split] else ((), ())
                table = pyarrow.table({"text": texts, "label": labels}, schema=schema)
                parquet.write_table(table, Path(folder) / f"{split}.parquet", compression="zstd")
            return store.put_directory(Path(folder), self.key, manifest, overwrite=overwrite)


def read_split(store: Store, key: str, split: Split) -> list[tuple[str, str]]:
    """:param key: of the snapshot. :return: texts and labels."""
    from pyarrow import parquet

    with store.open(f"{key}/{split}.parquet") as file:
        table = parquet.read_table(file, columns=["text", "label"])
    return list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
