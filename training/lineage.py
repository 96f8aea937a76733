"""Say which objects of a source the rows of a snapshot came from, and what a model was made of."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, Split
from training.data_report import REPORT
from training.keys import Records
from training.layout import BATCHES, Batch, Layout
from training.snapshot import read_manifest
from training.store import MANIFEST

if TYPE_CHECKING:
    from training.store import Store


TOLD_OBJECTS = 100


@dataclass(frozen=True)
class SourceObject:
    """A file, an object of a bucket, a split of a hub data set or the answer to a query, as it was read."""

    name: str
    version: str  # size and time of change, ETag, commit
    split: Split | None  # the one that it was named for; None: its rows were split by the hash of their texts
    rows: int  # read of it, also those that the snapshot leaves out
    batch: str  # key of the batch that has its rows


def objects_of_snapshot(store: Store, key: str) -> list[SourceObject]:
    """
    Ask the snapshot's layout: an object whose rows are not in force any more is not among them.

    :param key: of the snapshot.
    :return: sorted by name and version.
    :raises BadInput: the snapshot, or a batch it draws on, is not whole.
    """
    layout = Layout(**read_manifest(store, key)["layout"])
    found = []
    for drawn in layout.batches:
        objects = objects_of_batch(store, key, drawn)
        dead = set(drawn["dead"])
        found += [
            SourceObject(one["name"], one["version"], one["split"], one["rows"], drawn["key"])
            for index, one in enumerate(objects)
            if index not in dead
        ]
    return sorted(found, key=lambda one: (one.name, one.version, one.split or ""))


def objects_of_batch(store: Store, key: str, drawn: Batch) -> list[dict[str, Any]]:
    """
    :param key: of the snapshot. :param drawn: a batch of its layout.
    :return: as the batch's manifest has them.
    :raises BadInput: the batch is not whole.
    """
    place = f"{BATCHES}/{drawn['key']}/{MANIFEST}"
    try:
        return list(store.read_json(place)["objects"])
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{store.uri(place)}, which {store.uri(key)} draws on, is gone or damaged ({type(error).__name__}: "
            f"{error}), so that nobody can say where the snapshot's rows came from. Put the store back."
        ) from error


def making_of(store: Store, digest: str) -> dict[str, Any]:
    """
    :param digest: of a model.
    :return: what the store still knows of its training: ``key``, ``base_model``, ``rows`` by split, ``snapshot``,
        ``run_id`` of MLflow, ``object_count`` and ``objects`` of the source, the largest first, and ``found``, what the
        checks said of the data. Of a model that was imported, from where: ``imported``. Of any other from elsewhere
        nothing.
    """
    try:
        told = store.read_json(f"models/{digest}/{MANIFEST}")
        if "imported" in told:
            return {"imported": told["imported"]["from"]}
        found = {"key": told["key"], "base_model": told["training"]["base_model"], "rows": told["training"]["rows"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    record = Records(store, "train").record(found["key"]) or {}
    snapshot = record.get("parts", {}).get("snapshot")
    found |= {"snapshot": snapshot, "run_id": record.get("result", {}).get("run_id"), "object_count": 0, "objects": []}
    if snapshot:
        found["found"] = _found_in(store, snapshot)
        with suppress(BadInput):  # the snapshot is gone, while the model that was made of it is not
            objects = objects_of_snapshot(store, f"snapshots/{snapshot}")
            found["object_count"] = len(objects)
            found["objects"] = [
                {"name": one.name, "version": one.version, "rows": one.rows}
                for one in sorted(objects, key=lambda one: -one.rows)[:TOLD_OBJECTS]
            ]
    return found


def _found_in(store: Store, snapshot: str) -> list[str]:
    """:return: a sentence for each finding of the report that came with the snapshot; none where it is gone."""
    try:
        report = read_manifest(store, f"snapshots/{snapshot}").get("report")
        told = store.read_json(f"{store.key(report)}/{REPORT}") if report else {}
    except (BadInput, OSError, ValueError):
        return []
    return [one["sentence"] for one in told.get("findings", ())]
