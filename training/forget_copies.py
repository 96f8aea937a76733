"""
Take forgotten texts out of what was made of rows: kept answers, golden examples, and JSON that shows examples.

Each is found by the identity of its texts, so that this may be repeated for as long as the rows themselves are there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.release import GOLDEN, MANIFEST, digest_of_golden
from training.answers import PREDICTIONS
from training.damage import Damage
from training.data_page import data_page
from training.data_report import PAGE, REPORT
from training.patience import all_pages
from training.slices import MEMBERSHIP
from training.store import Store
from training.tags import DATA_REPORT_TAG, VERDICT_TAG
from training.text import IDENTITY_DIGITS, identity_of
from training.verdict import DETAILS, VERDICT
from training.verdict import PAGE as VERDICT_PAGE
from training.verdict_page import verdict_page

if TYPE_CHECKING:
    import duckdb
    from mlflow import MlflowClient
    from mlflow.entities import Run

Place = tuple[str, int]  # object and row
Read = Callable[[str], Any]  # a JSON file beside, by its name
Write = Callable[[str, str], object]


class Shown(NamedTuple):
    """A JSON document with examples, and the page that shows it."""

    tag: str  # of the runs in MLflow that have both
    document: str
    page: str
    make: Callable[[Any, Read], str]  # the page, of the document and of what is beside it


DATA_REPORT = Shown(DATA_REPORT_TAG, REPORT, PAGE, lambda report, _read: data_page(report))
VERDICT_REPORT = Shown(VERDICT_TAG, DETAILS, VERDICT_PAGE, lambda details, read: verdict_page(read(VERDICT), details))


def create_going(db: duckdb.DuckDBPyConnection) -> None:
    """
    Make the texts known to ``db`` that nothing may show any more: ``going`` with h0 and h1. A text that an object
    took along is among them unless another object has it as well.

    :param db: knows what is wanted and found (training.traces).
    """
    db.execute(
        "CREATE OR REPLACE TEMP TABLE taken AS "
        "SELECT DISTINCT h0, h1 FROM found SEMI JOIN wanted_objects USING (batch, object)"
    )
    db.execute(
        "CREATE OR REPLACE TEMP TABLE going AS FROM wanted_texts UNION "
        "FROM taken ANTI JOIN (FROM rows ANTI JOIN wanted_objects USING (batch, object)) USING (h0, h1)"
    )


@dataclass(frozen=True)
class Copies:
    """
    :param db: knows ``going``.
    :param places: where forgotten texts were read; an example from there goes even if it shows a part of its text.
    :param objects: names of forgotten objects.
    """

    db: duckdb.DuckDBPyConnection
    scratch: Path
    places: Collection[Place]
    objects: Collection[str]
    damage: Damage
    left: list[str] = field(default_factory=list)  # what could not be reached and is not damaged, a sentence each

    def going(self, identities: Iterable[str]) -> set[str]:
        """:return: those of texts that go; more than an identity's digits may be given."""
        import pyarrow

        given = sorted({identity[:IDENTITY_DIGITS] for identity in identities})
        words = [pyarrow.array([int(one[at : at + 16], 16) for one in given], pyarrow.uint64()) for at in (0, 16)]
        asked = pyarrow.table({"h0": words[0], "h1": words[1], "place": range(len(given))})
        self.db.register("asked", asked)
        found = self.db.sql("SELECT place FROM asked SEMI JOIN going USING (h0, h1)").fetchall()
        self.db.unregister("asked")
        return {given[place] for (place,) in found}

    def take_out_of_predictions(self, store: Store, place: str) -> int:
        """:return: rows that are gone, from wherever in the test set's order they were."""
        return self._take_out_of_rows(store, f"{place}/{PREDICTIONS}")

    def take_out_of_evaluation(self, store: Store, place: str) -> bool:
        """:return: whether its report showed a text that goes, or one was in its slices."""
        rows = self._take_out_of_rows(store, f"{place}/{MEMBERSHIP}")
        report = store.read_json(f"{place}/{REPORT}")
        rest = self.scrub(report)
        if rest != report:
            store.write_json(f"{place}/{REPORT}", rest)
        return rows > 0 or rest != report

    def _take_out_of_rows(self, store: Store, key: str) -> int:
        from pyarrow import array, parquet

        if not store.exists(key):
            return 0
        with store.open(key) as file:
            table = parquet.read_table(file)
        identities = [text[:IDENTITY_DIGITS] for text in table["text_sha256"].to_pylist()]
        going = self.going(identities)
        if not going:
            return 0
        kept = table.filter(array([one not in going for one in identities]))
        made = self.scratch / Path(key).name
        parquet.write_table(kept, made, compression="zstd")
        store.put_file(made, key)
        return table.num_rows - kept.num_rows

    def take_out_of_golden(self, store: Store, place: str) -> int:
        """:param place: of an evaluation or a release. :return: examples that are gone."""
        key = f"{place}/{GOLDEN}"
        if not store.exists(key):
            return 0
        golden = store.read_json(key)
        identities = [identity_of(text) for text in golden["texts"]]
        going = self.going(identities)
        if not going:
            return 0
        listed = store.read_json(f"{place}/{MANIFEST}")["files"] if store.exists(f"{place}/{MANIFEST}") else {}
        if GOLDEN in listed:
            self.left.append(
                f"{store.uri(place)} is from before golden examples could be taken out: deploy the model again, then "
                f"remove it. It holds {len(going)} of them."
            )
            return 0
        keep = [i for i, one in enumerate(identities) if one not in going]
        rest = {**golden, **{name: [golden[name][i] for i in keep] for name in ("texts", "labels", "scores")}}
        rest["forgotten"] = golden.get("forgotten", 0) + len(identities) - len(keep)
        if rest.pop("digest", None):
            rest["digest"] = digest_of_golden(rest)
        store.write_json(key, rest)
        return len(identities) - len(keep)

    def take_out_of_report(self, store: Store, place: str) -> bool:
        """:return: whether the data report showed a text that goes. Its page is made anew."""
        if "snapshot" not in store.read_json(f"{place}/{REPORT}"):
            raise ValueError("it is no data report, so that nobody knows what its page shows")
        return self._take_out_of_stored(store, place, DATA_REPORT)

    def take_out_of_verdict(self, store: Store, place: str) -> bool:
        """:return: whether the report of a verdict showed a text that goes. Its page is made anew."""
        if not store.exists(f"{place}/{DETAILS}"):
            return False  # an earlier version of Ratchet wrote it, whose page shows no text
        return self._take_out_of_stored(store, place, VERDICT_REPORT)

    def take_out_of_runs(self, client: MlflowClient, shown: Shown, *, dry_run: bool) -> int:
        """:return: how many runs keep a report of this kind that showed a text that goes."""
        changed = 0
        for run in _tagged_runs(client, shown.tag):
            with self.damage.passed_over(run.info.artifact_uri):
                changed += self._take_out_of_run(client, run.info.run_id, shown, dry_run=dry_run)
        return changed

    def _take_out_of_stored(self, store: Store, place: str, shown: Shown) -> bool:
        def write(name: str, content: str) -> None:
            store.write_bytes(f"{place}/{name}", content.encode())

        return self._renew(shown, lambda name: store.read_json(f"{place}/{name}"), write)

    def _take_out_of_run(self, client: MlflowClient, run_id: str, shown: Shown, *, dry_run: bool) -> bool:
        if shown.document not in {file.path for file in client.list_artifacts(run_id)}:
            return False

        def read(name: str) -> Any:
            with tempfile.TemporaryDirectory(dir=self.scratch) as place:
                return json.loads(Path(client.download_artifacts(run_id, name, place)).read_text())

        def write(name: str, content: str) -> None:
            if not dry_run:
                client.log_text(run_id, content, name)

        return self._renew(shown, read, write)

    def _renew(self, shown: Shown, read: Read, write: Write) -> bool:
        """Take out of a document what goes, and make its page anew. :return: whether there was something."""
        document = read(shown.document)
        rest = self.scrub(document)
        if rest == document:
            return False
        write(shown.page, shown.make(rest, read))  # first: the JSON says whether it has to be done
        write(shown.document, json.dumps(rest, indent=2, sort_keys=True) + "\n")
        return True

    def scrub(self, document: Any) -> Any:
        """:return: the JSON document without the examples, in whatever list they are, that show a text that goes."""
        going = self.going(identity for entry in _entries(document) for identity in _identities(entry))
        return _without(document, lambda entry: self._shows(entry, going))

    def _shows(self, entry: Mapping[str, Any], going: Collection[str]) -> bool:
        if any(identity[:IDENTITY_DIGITS] in going for identity in _identities(entry)):
            return True
        for side in ("", "near_"):
            place = (entry.get(f"{side}file"), entry.get(f"{side}row"))
            if f"{side}text" in entry and (place[0] in self.objects or place in self.places):
                return True
        return False


def _tagged_runs(client: MlflowClient, tag: str) -> Iterator[Run]:
    """Yield the runs with the tag of all experiments, deleted ones too: their files stay until ``mlflow gc``."""
    from mlflow.entities import ViewType

    experiments = all_pages(lambda token: client.search_experiments(ViewType.ALL, page_token=token))
    places = [experiment.experiment_id for experiment in experiments]
    found = f"tags.`{tag}` LIKE '%'"
    yield from all_pages(lambda token: client.search_runs(places, found, ViewType.ALL, page_token=token))


def _entries(value: Any) -> Iterator[Mapping[str, Any]]:
    """:return: all mappings in a JSON document."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _entries(part)


def _identities(entry: Mapping[str, Any]) -> list[str]:
    """:return: of the texts that an example shows, whole or in part."""
    found = [value for name, value in entry.items() if name.endswith("text_sha256") and isinstance(value, str)]
    if isinstance(entry.get("h0"), str) and isinstance(entry.get("h1"), str):
        found.append(entry["h0"].zfill(16) + entry["h1"].zfill(16))
    found += [identity_of(entry[name]) for name in ("text", "near_text") if isinstance(entry.get(name), str)]
    return found


def _without(value: Any, shows: Callable[[Mapping[str, Any]], bool]) -> Any:
    if isinstance(value, dict):
        return {name: _without(part, shows) for name, part in value.items()}
    if isinstance(value, list):
        return [_without(part, shows) for part in value if not (isinstance(part, dict) and shows(part))]
    return value
