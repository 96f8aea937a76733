"""
Take texts and objects out of everything that a store keeps: the stage ``forget``.

First they go on the list of what must not come in again (training.forgotten), then everything is looked through for
what is on the list. So a forgetting that was killed is finished by looking through everything once more, and each file
is the old one or the new one. What was made of rows comes before the rows, which tell what to look for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from training.contract import BadInput, ForgetRequest, ForgetResult
from training.damage import Damage
from training.data_report import REPORTS
from training.forget_copies import DATA_REPORT, VERDICT_REPORT, Copies, Shown, create_going
from training.forget_rows import Rows
from training.forgotten import Forgotten
from training.keys import Records, locked
from training.layout import BATCHES, database
from training.near_copies import NearCopies, find_near_copies
from training.seen import Version, look, versions_of
from training.snapshot import read_manifest
from training.store import Store
from training.traces import BatchRead, create_found, create_wanted, read_batches, require_known
from training.watermark import Watermark
from training.writing import wait_for_writers

if TYPE_CHECKING:
    import duckdb

EXAMPLES = 20
KINDS = (
    BATCHES,
    "evaluations",
    "watermarks",
    REPORTS,
    "verdicts",
    "signatures",
)  # of directories with rows or examples, and a manifest


def forget(request: ForgetRequest) -> ForgetResult:
    """
    Take what the request names, and all that was forgotten before, out of the store. Safe to repeat.

    :raises BadInput: no object has such a name, or there is nothing to go on with; nothing was changed.
    """
    store, damage = Store(request.store, read_only=request.dry_run), Damage()
    with _alone(request), store.scratch("forget-") as scratch, database(store) as db:
        before = Forgotten.read(store)
        if request.resume and not before.unfinished:
            raise BadInput(
                "There is nothing to go on with: what was begun is finished, or it ended before it was noted. Nothing "
                "was changed. If it was not noted, give the texts or objects again."
            )
        batches = read_batches(store)
        require_known(batches, request.objects, before.objects, "Nothing was changed.")
        forgotten = before.with_more(request.texts, request.objects)
        batches = _look(db, store, batches, forgotten, damage)
        near = find_near_copies(db, store, batches, scratch, damage, all_rows=request.near)
        if request.near and near.texts:
            forgotten = forgotten.with_more(near.texts, ())
            batches = _look(db, store, batches, forgotten, damage)
        versions, unknown = _versions(request, db, store, batches, forgotten)
        in_source, examples = _in_source(request, db, store, damage)
        if not request.dry_run:
            replace(forgotten, unfinished=True).write(store)
            wait_for_writers(store)
            if batches != (now := read_batches(store)):
                batches = _look(db, store, now, forgotten, damage)
                versions, unknown = _versions(request, db, store, batches, forgotten)
        copies = Copies(db, scratch, set(_places(db, batches)), forgotten.objects, damage)
        rows = Rows(db, store, scratch, forgotten, batches, damage)
        counts = _take_out(request, store, rows, copies, everything=before.unfinished)
        if not request.dry_run:
            replace(forgotten, unfinished=False).write(store)
    return ForgetResult(
        counts=counts,
        versions=versions,
        unknown=unknown,
        in_source=in_source,
        examples=examples,
        near=len(near.texts),
        near_examples=list(near.examples),
        left=[*damage.told, *copies.left, *_unlooked(near)],
    )


@contextmanager
def _alone(request: ForgetRequest) -> Iterator[None]:
    if request.dry_run:
        yield
        return
    with locked(Path(request.work) / "forget"):
        yield


def _look(
    db: duckdb.DuckDBPyConnection, store: Store, batches: Sequence[BatchRead], forgotten: Forgotten, damage: Damage
) -> list[BatchRead]:
    """:return: the batches with the files that can be read."""
    create_wanted(db, batches, forgotten.texts, forgotten.objects)
    found = create_found(db, store, batches, damage)
    create_going(db)
    return found


def _take_out(request: ForgetRequest, store: Store, rows: Rows, copies: Copies, *, everything: bool) -> dict[str, int]:
    """:param everything: an earlier look was broken off, so that nobody knows what was corrected."""

    def complete(kind: str) -> list[str]:
        return [place for place in store.list(kind) if store.is_complete(place)]

    counts: Counter[str] = Counter()
    damage = copies.damage
    for place in store.list("predictions"):
        with damage.passed_over(store.uri(place)):
            counts["kept answers of models"] += copies.take_out_of_predictions(store, place)
    for place in complete("evaluations"):
        with damage.passed_over(store.uri(place)):
            counts["evaluations"] += copies.take_out_of_evaluation(store, place)
    for kind in ("evaluations", "releases"):
        for place in store.list(kind):
            with damage.passed_over(store.uri(place)):
                counts[f"golden examples of {kind}"] += copies.take_out_of_golden(store, place)
    for place in complete(REPORTS):
        with damage.passed_over(store.uri(place)):
            counts["data reports"] += copies.take_out_of_report(store, place)
    for place in complete("verdicts"):
        with damage.passed_over(store.uri(place)):
            counts["verdicts"] += copies.take_out_of_verdict(store, place)
    if request.tracking is not None:
        counts["data reports in MLflow"] += _take_out_of_runs(request, copies, DATA_REPORT)
        counts["verdicts in MLflow"] += _take_out_of_runs(request, copies, VERDICT_REPORT)
    if request.endpoints is not None:
        host = Store(request.endpoints, read_only=request.dry_run)
        for place in host.list("releases"):
            with damage.passed_over(host.uri(place)):
                counts["golden examples of endpoints"] += copies.take_out_of_golden(host, place)

    numbers = rows.batches_with_rows()
    touched = {one.number for one in rows.batches} if everything else numbers
    rows = replace(rows, batches=[rows.count_in_batch(one) if one.number in touched else one for one in rows.batches])
    lost: set[str] = set()
    for place in complete("snapshots"):
        with damage.passed_over(store.uri(place)):
            if rows.correct_snapshot(place, touched, copies.scrub):
                counts["snapshots"] += 1
                lost.add(place.rpartition("/")[2])
            elif everything and read_manifest(store, place).get("forgotten"):
                lost.add(place.rpartition("/")[2])
    for place in complete("watermarks"):
        with damage.passed_over(store.uri(place)):
            counts["watermarks"] += rows.correct_watermark(place, lost, copies.scrub)
    for place in complete("signatures"):
        counts["signatures"] += sum(
            rows.take_out_of_index(key) for key in store.list(place) if key.endswith(".parquet")
        )
    if lost and not request.dry_run:
        _drop_unfinished(Path(request.work))  # first, which waits for a training that goes on
    counts["records of trainings"] += _drop_records(store, lost)

    for batch in rows.batches:
        taken, emptied = rows.take_out_of_batch(batch, has_rows=batch.number in numbers)
        counts["rows"] += taken
        counts["refused rows"] += emptied
    counts["files that killed runs left"] = _drop_incomplete(store)
    store.remove_abandoned_parts()
    return {what: count for what, count in counts.items() if count}


def _pipelines(store: Store) -> list[str]:
    return [place.rpartition("/")[2] for place in store.list("ledger")]


def _take_out_of_runs(request: ForgetRequest, copies: Copies, shown: Shown) -> int:
    from training.patience import connect, patiently

    assert request.tracking is not None
    client = connect(request.tracking)
    return patiently(lambda: copies.take_out_of_runs(client, shown, dry_run=request.dry_run))


def _drop_records(store: Store, snapshots: set[str]) -> int:
    """Have a training on a snapshot that lost rows train, instead of finding what was made with them."""
    from training.train import STAGE

    records = Records(store, STAGE)
    made = [key for key, parts in records.parts() if parts.get("snapshot") in snapshots]
    for key in made:
        records.remove(key)
    return len(made)


def _drop_incomplete(store: Store) -> int:
    """Remove directories without a manifest: nobody reads them, and nobody knows what they hold."""
    places = [place for kind in KINDS for place in store.list(kind) if not store.is_complete(place)]
    files = [file for place in places for file in store.list(place)]
    for file in files:
        store.remove(file)
    return len(files)


def _drop_unfinished(work: Path) -> None:
    """Remove what killed trainings left to go on with: it may know what is forgotten."""
    from training.train import STAGE, clear

    for directory in (work / STAGE).glob("*"):
        with locked(directory):
            clear(directory)


def _versions(
    request: ForgetRequest,
    db: duckdb.DuckDBPyConnection,
    store: Store,
    batches: Sequence[BatchRead],
    forgotten: Forgotten,
) -> tuple[list[str], list[str]]:
    """:return: the model versions that saw it, of all pipelines of the store, and those of which nobody can tell."""
    if request.tracking is None:
        return [], []
    made = [
        (pipeline, version)
        for pipeline in _pipelines(store)
        for version in versions_of(replace(request.tracking, model_name=pipeline))
    ]
    sightings = look(db, store, [version.snapshot for _pipeline, version in made], batches, forgotten.objects)
    kept = {digest for digest, one in sightings.items() if one and any("kept" in rows for rows in one.rows.values())}
    seen = [_spoken(*one) for one in made if one[1].snapshot in kept]
    return seen, [_spoken(*one) for one in made if one[1].snapshot not in sightings]


def _spoken(pipeline: str, version: Version) -> str:
    return f"models:/{pipeline}/{version.version}" + "".join(f" @{alias}" for alias in version.aliases)


def _places(db: duckdb.DuckDBPyConnection, batches: Sequence[BatchRead]) -> Iterator[tuple[str, int]]:
    """:return: object and row of each row with a forgotten text."""
    names = {(one.number, index): item["name"] for one in batches for index, item in enumerate(one.objects)}
    for number, index, row in db.sql(
        "SELECT batch, object, row FROM found SEMI JOIN wanted_texts USING (h0, h1) ORDER BY ALL"
    ).fetchall():
        yield names[number, index], row


def _in_source(
    request: ForgetRequest, db: duckdb.DuckDBPyConnection, store: Store, damage: Damage
) -> tuple[int, list[str]]:
    """:return: how many of the rows are in objects that a source had when it was last read, and the first of them."""
    names: dict[tuple[int, int], str] = {}
    for uri in request.watermarks:
        with damage.passed_over(uri):
            names |= {(one.batch, one.index): one.name for one in Watermark.load(store, uri).objects}
    found = {
        (names[number, index], row)
        for number, index, row in db.sql("SELECT batch, object, row FROM found").fetchall()
        if (number, index) in names
    }
    return len(found), [f"{name}, row {row}" for name, row in sorted(found)[:EXAMPLES]]


def _unlooked(near: NearCopies) -> list[str]:
    if not near.unlooked:
        return []
    return [
        f"Texts that are nearly the forgotten ones, if any, among {near.unlooked:,} rows. Comparing so many takes "
        "long; --near does it, also with --dry-run, as long as what is to be forgotten is still there."
    ]
