"""
Know what a pipeline has read: the objects with their versions, and the batches their rows went to.

``watermarks/KEY/manifest.json``, and ``deletions.parquet`` beside it. Never changed: a run that read something writes
another, and the ledger says which is in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from training.contract import BadInput, Checks, Reading, Split
from training.keys import key_of
from training.personal import scan_of
from training.store import MANIFEST, Store

# kept: the object is gone, its rows stay by the spec's wish. missed: it is gone, and a check refused that its rows go
State = Literal["read", "kept", "missed", "quarantined"]


@dataclass(frozen=True)
class ObjectRead:
    """What was read of one object."""

    name: str
    version: str
    split: Split | None
    bytes: int | None
    modified: str | None  # ISO 8601
    rows: int
    refused: Mapping[str, int]  # by reason
    examples: Mapping[str, Sequence[int]]  # by reason, the first rows
    batch: int  # number of the batch, and the object's index in it
    index: int
    state: State = "read"
    lengths: Mapping[str, int] = field(default_factory=dict)  # of usable rows, as training.columns has it


@dataclass(frozen=True)
class Watermark:
    reads: Mapping[str, Any] = field(default_factory=dict)  # what the rows depend on beside the objects
    objects: Sequence[ObjectRead] = ()
    batches: Sequence[Mapping[str, Any]] = ()  # all that ever were: key, number, files, objects and rows (how many)
    deletions: str | None = None  # key of a Parquet file (training.layout)
    near: str | None = None  # key of a Parquet file (training.near); its name tells by which method it was made
    selection: Mapping[str, Any] = field(default_factory=dict)  # which of the rows the snapshot takes
    snapshot: str | None = None  # digest of the one that was made of it
    test_split: Mapping[str, Any] | None = None  # which version of it the snapshot has (training.exam)
    unsettled: bool = False  # rows were forgotten since: which of the others stay has to be decided anew

    @classmethod
    def load(cls, store: Store, uri: str | None) -> Watermark:
        """:raises BadInput: it is gone or damaged."""
        if uri is None:
            return cls()
        try:
            values = store.read_json(f"{store.key(uri)}/{MANIFEST}")
            objects = [ObjectRead(**one) for one in values["objects"]]
            return cls(**{**values, "objects": objects})
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{uri}: what this pipeline has read so far is gone or damaged ({type(error).__name__}: {error}). "
                "Nothing was read. Put the store back, or start anew with a run that recomputes."
            ) from error

    def to_json(self) -> dict[str, Any]:
        return {
            "reads": dict(self.reads),
            "objects": [asdict(one) for one in self.objects],
            "batches": [dict(one) for one in self.batches],
            "deletions": self.deletions,
            "near": self.near,
            "selection": dict(self.selection),
            "snapshot": self.snapshot,
            "test_split": None if self.test_split is None else dict(self.test_split),
            **({"unsettled": True} if self.unsettled else {}),
        }

    @property
    def key(self) -> str:
        near = self.near and self.near.rpartition("/")[2]
        return f"watermarks/{key_of({**self.to_json(), 'deletions': bool(self.deletions), 'near': near})}"

    def in_force(self) -> list[ObjectRead]:
        return [one for one in self.objects if one.state != "quarantined"]

    def dead(self) -> dict[int, list[int]]:
        """:return: by batch the objects whose rows are not in force any more."""
        live: dict[int, set[int]] = {}
        for one in self.in_force():
            live.setdefault(one.batch, set()).add(one.index)
        return {
            batch["number"]: [i for i in range(batch["objects"]) if i not in live.get(batch["number"], ())]
            for batch in self.batches
        }


def reads_of(reading: Reading, checks: Checks) -> dict[str, Any]:
    """:return: what two runs must agree on for one to go on from what the other has read."""
    scan = scan_of(checks)
    read = asdict(reading)
    if not read["keep"]:
        del read["keep"]  # as it was before columns could be kept: nothing is read again
    return {
        **read,
        "labels": None if checks.labels is None else sorted(checks.labels),
        "personal": scan.identity if scan and scan.changes_rows else None,
    }
