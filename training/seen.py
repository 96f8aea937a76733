"""Say which model versions saw an object or a text: a version names its snapshot, the snapshot its rows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from training.contract import BadInput, SeenRequest, SeenResult, Tracking
from training.damage import Damage
from training.forgotten import Forgotten
from training.layout import Layout, database, is_damage, quoted
from training.patience import all_pages, connect, patiently
from training.snapshot import read_manifest
from training.store import Store
from training.tags import SNAPSHOT_TAG
from training.traces import (
    BatchRead,
    count_in_snapshot,
    create_found,
    create_wanted,
    names_like,
    read_batches,
    require_known,
)

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

AT_ONCE = 1000  # versions in one answer of MLflow


@dataclass(frozen=True)
class Sighting:
    """What a snapshot has of what was looked for."""

    snapshot: str  # digest
    objects: Sequence[str]  # names, of those that were looked for by name
    rows: dict[str, dict[str, int]]  # by split, and then by ``kept`` or the reason for which they were left out
    refused: dict[str, int]  # rows of these objects that could not be used, by reason


@dataclass(frozen=True)
class Version:
    version: str
    aliases: Sequence[str]
    snapshot: str
    trained: str  # ISO 8601, UTC


def seen(request: SeenRequest) -> SeenResult:
    """
    Look into the snapshot of every model version. Writes nothing.

    :raises BadInput: no object was ever called so.
    """
    store, versions = Store(request.store), versions_of(request.tracking)
    batches, forgotten = read_batches(store), Forgotten.read(store)
    require_known(batches, request.objects, forgotten.objects, "Nobody was asked about it.")
    names = names_like(batches, request.objects)
    with database(store) as db:
        create_wanted(db, batches, request.texts, names)
        damage = Damage()
        batches = create_found(db, store, batches, damage)
        for told in damage.told:
            log.warning("%s", told)
        asked = [*(one.snapshot for one in versions), *filter(None, [request.snapshot])]
        sightings = look(db, store, asked, batches, names)
    now = sightings.get(request.snapshot) if request.snapshot else None
    return SeenResult(
        versions=[{**asdict(one), **asdict(found)} for one in versions if (found := sightings.get(one.snapshot))],
        in_force=asdict(now) if now else None,
        unknown=[one.version for one in versions if one.snapshot not in sightings],
        forgotten=len(forgotten.texts & set(request.texts)) + len(forgotten.objects & {*names, *request.objects}),
    )


def look(
    db: duckdb.DuckDBPyConnection,
    store: Store,
    digests: Iterable[str],
    batches: Sequence[BatchRead],
    names: Collection[str],
) -> dict[str, Sighting | None]:
    """
    :param db: knows ``found`` (training.traces).
    :return: by snapshot what it has of what is looked for; None: nothing. One that is gone or damaged is left out.
    """
    import duckdb

    sightings: dict[str, Sighting | None] = {}
    for digest in dict.fromkeys(digests):
        try:
            sightings[digest] = _look(db, store, digest, batches, names)
        except BadInput as error:
            log.warning("%s", error)
        except duckdb.Error as error:
            if not is_damage(error):
                raise
            log.warning("%s: %s", store.uri(f"snapshots/{digest}"), str(error).splitlines()[0])
    return sightings


def versions_of(tracking: Tracking) -> list[Version]:
    """:return: the versions that name a snapshot, oldest first; none where MLflow knows no such model."""
    from mlflow.exceptions import MlflowException

    client, name = connect(tracking), tracking.model_name

    def ask() -> list[Version]:
        aliases: dict[str, list[str]] = {}
        for alias, version in client.get_registered_model(name).aliases.items():
            aliases.setdefault(str(version), []).append(alias)
        named = "name = '{}'".format(name.replace("'", "\\'"))
        found = [
            Version(
                str(one.version),
                sorted(aliases.get(str(one.version), [])),
                one.tags[SNAPSHOT_TAG],
                datetime.fromtimestamp(one.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
            )
            for one in all_pages(lambda token: client.search_model_versions(named, AT_ONCE, None, token))
            if SNAPSHOT_TAG in one.tags
        ]
        return sorted(found, key=lambda one: int(one.version))

    try:
        return patiently(ask, outage_seconds=30)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        log.info("MLflow knows no model %s: nothing was trained yet.", name)
        return []


def _look(
    db: duckdb.DuckDBPyConnection, store: Store, digest: str, batches: Sequence[BatchRead], names: Collection[str]
) -> Sighting | None:
    """:raises BadInput: the snapshot is gone or damaged."""
    layout = Layout(**read_manifest(store, f"snapshots/{digest}")["layout"])
    dead = {one["number"]: set(one.get("dead", ())) for one in layout.batches}
    if damaged := [batch.place for batch in batches if batch.damaged and batch.number in dead]:
        raise BadInput(f"{store.uri(damaged[0])}, which {store.uri(f'snapshots/{digest}')} draws on, is damaged.")
    objects: set[str] = set()
    refused: Counter[str] = Counter()
    for batch in batches:
        for index in batch.named(names) if batch.number in dead else ():
            if index not in dead[batch.number]:
                objects.add(batch.objects[index]["name"])
                refused.update(batch.objects[index]["refused"])
    deletions = f"read_parquet({quoted(store.duckdb_path(layout.deletions))})" if layout.deletions else None
    rows: dict[str, Any] = count_in_snapshot(db, layout, deletions)
    return Sighting(digest, sorted(objects), rows, dict(refused)) if objects or rows else None
