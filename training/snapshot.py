"""An immutable selection of rows: what it is called, and how it lies in the store (docs/architecture.md, "Store")."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from training.contract import SPLITS, BadInput, Split
from training.layout import Layout, create_every, create_kept, database, identifier, is_damage, quoted
from training.sources.part import KEPT
from training.store import MANIFEST, Store

if TYPE_CHECKING:
    import duckdb
    import pyarrow

# test_percent and validation_percent; None: the split has a source of its own. And keep: columns, if there are any
Settings = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """The rows of one label in one split: how many, and the sum of their digests modulo 2**64."""

    rows: int
    digest: int

    def __add__(self, other: Cell) -> Cell:
        return Cell(self.rows + other.rows, (self.digest + other.digest) % 2**64)


@dataclass(frozen=True)
class Snapshot:
    cells: Mapping[Split, Mapping[str, Cell]]
    settings: Settings
    layout: Layout
    name: str | None = None  # the digest that it got when it was made; rows that are forgotten later do not rename it

    @classmethod
    def load(cls, manifest: Mapping[str, Any]) -> Snapshot:
        cells = {split: {label: Cell(*cell) for label, cell in manifest["cells"][split].items()} for split in SPLITS}
        return cls(cells, manifest["settings"], Layout(**manifest["layout"]), manifest["digest"])

    @cached_property
    def labels(self) -> list[str]:
        return sorted(self.cells["train"])

    @property
    def counts(self) -> dict[str, int]:
        return {split: sum(cell.rows for cell in self.cells[split].values()) for split in SPLITS}

    @property
    def label_counts(self) -> dict[str, dict[str, int]]:
        """:return: rows by split and label."""
        return {split: {label: cell.rows for label, cell in sorted(self.cells[split].items())} for split in SPLITS}

    @cached_property
    def digest(self) -> str:
        """
        The same rows in the same splits are the same snapshot, wherever they came from and however they are laid out:
        sums do not depend on an order, and no text is twice in a split.
        """
        content = json.dumps([self._cells(), self.settings], sort_keys=True)
        return self.name or hashlib.sha256(content.encode()).hexdigest()

    def _cells(self) -> dict[str, dict[str, list[int]]]:
        return {
            split: {label: [cell.rows, cell.digest] for label, cell in sorted(self.cells[split].items())}
            for split in SPLITS
        }

    @property
    def key(self) -> str:
        return f"snapshots/{self.digest}"

    def put(self, store: Store, described: Mapping[str, Any]) -> str:
        """
        Write the manifest: the rows are in the store already. Safe to repeat.

        :param described: what the manifest tells beside digest, labels, rows, settings and layout.
        :return: its URI.
        """
        store.write_json(f"{self.key}/{MANIFEST}", {**self.to_json(), **described})
        return store.uri(self.key)

    def to_json(self) -> dict[str, Any]:
        """:return: what the manifest tells of the snapshot itself."""
        return {
            "digest": self.digest,
            "labels": self.labels,
            "rows": self.counts,
            "label_rows": self.label_counts,
            "cells": self._cells(),
            "settings": self.settings,
            "layout": self.layout.to_json(),
        }


def open_snapshot(uri: str) -> tuple[Store, str]:
    """:return: the store that the snapshot is in, and its key. :raises BadInput: ``uri`` cannot name a snapshot."""
    root, _, digest = uri.rstrip("/").rpartition("/snapshots/")
    if not root:
        raise BadInput(f"{uri} is no snapshot (STORE/snapshots/DIGEST). Run ingest, or give what it returned.")
    return Store(root), f"snapshots/{digest}"


def read_manifest(store: Store, key: str) -> dict[str, Any]:
    """:param key: of the snapshot. :raises BadInput: it is not there, or not whole."""
    try:
        found = store.read_json(f"{key}/{MANIFEST}")
        Layout(**found["layout"])
    except FileNotFoundError as error:
        raise BadInput(f"{store.uri(key)} is no complete snapshot: it has no {MANIFEST}. Run ingest again.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{store.uri(key)}/{MANIFEST} is damaged ({type(error).__name__}: {error}). Ingest again with a run that "
            "recomputes."
        ) from error
    return found


def read_table(
    store: Store, key: str, *splits: Split, columns: str = "split, text, label", keep: Sequence[str] = ()
) -> pyarrow.Table:
    """
    :param key: of the snapshot.
    :param columns: also h0 and h1, which identify the text.
    :param keep: columns that the snapshot keeps; they are called ``kept:NAME``.
    :return: the rows ordered by the hash of the text, so that the order says nothing about the source.
    :raises BadInput: the snapshot, or a batch it draws on, is not whole.
    """
    import duckdb

    manifest = read_manifest(store, key)
    layout = Layout(**manifest["layout"])
    with database(store) as db:
        try:
            show_rows(db, store, layout, keep)
            columns = ", ".join([columns, *(identifier(KEPT + name) for name in keep)])
            chosen = ", ".join(map(quoted, splits))
            table = db.sql(
                f"SELECT {columns} FROM kept WHERE split IN ({chosen}) ORDER BY rank DESC, h0, h1"
            ).to_arrow_table()
        except duckdb.Error as error:
            if not is_damage(error):
                raise
            raise BadInput(
                f"{store.uri(key)}: its rows cannot be read ({error}). Ingest again with a run that recomputes."
            ) from error
    found = Counter(table["split"].to_pylist())
    for split in splits:
        if found[split] != manifest["rows"][split]:
            raise BadInput(
                f"{store.uri(key)}: {split} has {found[split]:,} rows, its manifest says {manifest['rows'][split]:,}. "
                "Ingest again with a run that recomputes."
            )
    return table


def read_split(store: Store, key: str, split: Split) -> list[tuple[str, str]]:
    """:param key: of the snapshot. :return: texts and labels."""
    table = read_table(store, key, split)
    return list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))


def show_rows(db: duckdb.DuckDBPyConnection, store: Store, layout: Layout, keep: Sequence[str] = ()) -> None:
    """Make the snapshot's rows known to ``db``, ``kept``, and those of all its batches, ``every``."""
    create_every(db, store, layout.batches, keep=keep)
    deletions = f"read_parquet({quoted(store.duckdb_path(layout.deletions))})" if layout.deletions else None
    create_kept(db, layout, deletions)
