"""
Find what nobody needs any more of what a store keeps, and remove it.

What is needed is found by following digests: from the versions, endpoints and records that are kept to the objects that
these name, and on to what those name. An object that is younger than the limit is needed whoever names it, so that a
run may go on beside this: what it makes is young, and what it found made already is named by ``keys/STAGE/last``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ratchet.alias import last_move, mark
from ratchet.ledger import ALIAS_DONE, INGESTED, Ledger, pipelines
from training.store import MANIFEST
from training.tags import MODEL_TAG, VERDICT_TAG

if TYPE_CHECKING:
    from ratchet.hooks.model_registry import ListedVersion
    from training.store import Store, StoredFile


RELEASE_MANIFEST = "release.json"

# Kind of object to what of the store it names: what is followed, and no further, or the report on one snapshot, which
# tells of the one before, would keep all there ever were
NAMES: Mapping[str, tuple[str, ...]] = {
    "snapshots": ("watermarks", "batches", "data-reports"),
    "watermarks": ("snapshots", "batches"),
    "batches": (),
    "data-reports": (),
    "models": (),
    "releases": (),
    "evaluations": ("predictions", "releases"),
    "predictions": (),
    "verdicts": ("evaluations", "predictions"),
}
KINDS = tuple(NAMES)
FOLLOWED = (MANIFEST, "report.json")
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")

Place = tuple[str, str]  # kind and name


@dataclass(frozen=True)
class Object:
    """A directory of the store."""

    kind: str
    name: str
    bytes: int
    newest: datetime  # when its youngest file was written

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class Retention:
    """
    :param models: the versions of all registered models, newest first.
    :param endpoints: what the endpoint host says of each of its endpoints.
    :param verdicts: how many of the newest verdicts, and of the newest snapshots, of each pipeline stay.
    :param older_than: an object is left alone until all of its files are older.
    """

    store: Store
    models: Sequence[Sequence[ListedVersion]]
    endpoints: Sequence[Mapping[str, Any]]
    verdicts: int
    older_than: timedelta
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def unneeded(self) -> list[Object]:
        """:return: what may go, the largest first."""
        objects = {(one.kind, one.name): one for one in self._objects()}
        needed = self._needed(objects)
        return sorted((one for place, one in objects.items() if place not in needed), key=lambda one: -one.bytes)

    def remove(self, object: Object) -> None:
        """Remove it; its manifest first, so that what a killed removal leaves counts as absent. Safe to repeat."""
        manifest = RELEASE_MANIFEST if object.kind == "releases" else MANIFEST
        self.store.remove_directory(object.key, manifest)

    def _objects(self) -> Iterator[Object]:
        for kind in KINDS:
            files: dict[str, list[StoredFile]] = {}
            for file in self.store.files(kind):
                files.setdefault(file.key.split("/")[1], []).append(file)
            for name, found in files.items():
                yield Object(kind, name, sum(one.bytes for one in found), max(one.modified for one in found))

    # -- what is needed --------------------------------------------------------------------------------------------

    def _needed(self, objects: Mapping[Place, Object]) -> set[Place]:
        needed: set[Place] = set()
        waiting = [place for place, one in objects.items() if self.now - one.newest < self.older_than]
        waiting += self._named(self._roots(), KINDS, objects)
        waiting += self._judgements(objects)
        while waiting:
            place = waiting.pop()
            if place not in needed:
                needed.add(place)
                kind, name = place
                texts = (self._text(f"{kind}/{name}/{file}") for file in FOLLOWED if NAMES[kind])
                waiting += self._named(texts, NAMES[kind], objects)
        return needed

    def _named(self, texts: Iterable[str], kinds: Sequence[str], objects: Mapping[Place, Object]) -> list[Place]:
        """:return: the objects of these kinds whose digests are in the texts."""
        digests = {digest for text in texts for digest in DIGEST.findall(text)}
        return [(kind, digest) for kind in kinds for digest in digests if (kind, digest) in objects]

    def _roots(self) -> Iterator[str]:
        """:return: what names objects and is none itself: versions, endpoints, the ledger, the last use of keys."""
        for version in self._kept():
            yield json.dumps(version.tags)
        yield json.dumps(list(self.endpoints))
        for pipeline in pipelines(self.store):
            ledger = Ledger(self.store, pipeline)
            yield json.dumps([*ledger.records(INGESTED)[-self.verdicts :], last_move(ledger), ledger.last(ALIAS_DONE)])
        for stage in self.store.list("keys"):
            for last in self.store.list(f"{stage}/last"):
                used = self._text(last)
                yield used
                for digest in DIGEST.findall(used):
                    yield self._text(f"{stage}/{digest}.json")

    def _kept(self) -> Iterator[ListedVersion]:
        """:return: the versions that have an alias or one of the last verdicts, and the best ever promoted."""
        marks = {self._mark(pipeline) for pipeline in pipelines(self.store)}
        for versions in self.models:
            yield from (version for version in versions if version.aliases or version.uri in marks)
            yield from [version for version in versions if VERDICT_TAG in version.tags][: self.verdicts]

    def _mark(self, pipeline: str) -> str | None:
        ledger = Ledger(self.store, pipeline)
        last, best = last_move(ledger), mark(ledger)
        return f"models:/{last['model']}/{best}" if last and best else None

    def _judgements(self, objects: Mapping[Place, Object]) -> Iterator[Place]:
        """:return: answers, evaluations and verdicts that are about a version that is kept; it does not name them."""
        kept = {version.tags.get(MODEL_TAG) for version in self._kept()} - {None}
        for kind, name in objects:
            if kind in ("predictions", "evaluations", "verdicts") and _judged(self._manifest(kind, name)) in kept:
                yield kind, name

    def _manifest(self, kind: str, name: str) -> str:
        return self._text(f"{kind}/{name}/{MANIFEST}")

    def _text(self, key: str) -> str:
        """:return: the file as text; nothing if there is none, or it is damaged."""
        try:
            with self.store.open(key) as file:
                return file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def _judged(manifest: str) -> str | None:
    """:param manifest: of answers, an evaluation or a verdict. :return: digest of the model that it is about."""
    try:
        told = json.loads(manifest)
        model = told["model"] if "model" in told else told.get("evidence", told)["candidate"]
        return model["digest"] if isinstance(model, dict) else model
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
