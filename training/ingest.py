"""
Read labelled rows into an immutable snapshot.

Reading is the only way to know what a source holds, so ingest always reads; what it saves on unchanged data is
everything after it. Rows are held in memory: a million of 100 characters take 0.9 GB (measured).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.contract import SPLITS, BadInput, IngestRequest, IngestResult, Split
from training.keys import Records, explain, key_of
from training.rows import (
    ORDINARY,
    Dropped,
    Gathered,
    Kept,
    Place,
    Unusable,
    digest_of_text,
    drop_untrained_labels,
    keep_apart,
    label_of,
    sample,
    text_of,
)
from training.snapshot import Settings, Snapshot, read_split
from training.sources import BadRow, Columns, Part, Source, open_source
from training.store import Store
from training.text import split_of_hash

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0
COMPARED_ROWS = 200_000  # assumed: below it, telling row by row what changed costs about a second
SHOWN_LABELS = 20


@dataclass(frozen=True)
class Ingested:
    """What a source holds, read and judged, and nothing written yet."""

    snapshot: Snapshot
    dropped: Dropped
    source: dict[str, Any]


def ingest(request: IngestRequest) -> IngestResult:
    """
    Put a snapshot of the data into the store, unless the same data is there already. Safe to retry.

    :raises BadInput: the data cannot be used; no snapshot was made.
    """
    store = Store(request.store)
    found = read(request)
    snapshot = found.snapshot
    hit, why, key, parts = judge(request, store, snapshot)
    log.info("%s", why)
    uri = store.uri(snapshot.key)
    if not hit:
        log.info("writing %s", uri)
        described = {
            "dropped": found.dropped.by_reason(),
            "examples": found.dropped.listed(),
            "source": found.source,
        }
        snapshot.put(store, described, overwrite=request.force)
    result = IngestResult(
        key=key,
        hit=hit,
        why=why,
        snapshot=uri,
        digest=snapshot.digest,
        rows=snapshot.counts,
        labels=snapshot.labels,
        dropped=found.dropped.by_reason(),
        source=found.source,
    )
    records = Records(store, "ingest")
    if hit and records.find(key) is not None:
        records.note_last(key, parts, request.pipeline)
    else:
        records.write(key, parts, {"snapshot": uri, "digest": snapshot.digest}, request.pipeline)
    return result


def judge(request: IngestRequest, store: Store, snapshot: Snapshot) -> tuple[bool, str, str, dict[str, Any]]:
    """:return: whether the snapshot is there already, why or why not, its key, and the parts of the key."""
    parts = {"snapshot": snapshot.digest, "rows": snapshot.counts, "settings": snapshot.settings}
    key = key_of(parts)
    records = Records(store, "ingest")
    last = records.last_parts(request.pipeline)
    complete = store.is_complete(snapshot.key)
    size = f"{sum(snapshot.counts.values()):,} rows, digest {snapshot.digest[:8]}"
    if request.force:
        return False, "forced", key, parts
    if complete and last is not None and last["snapshot"] == snapshot.digest:
        return True, f"hit: source unchanged since {_day(records.made(key))}: {size}", key, parts
    if complete:
        return True, f"hit: the same rows were taken in on {_day(records.made(key))}: {size}", key, parts
    if last is None:
        return False, "miss: first run", key, parts
    if last["snapshot"] == snapshot.digest:
        return False, f"miss: snapshot {snapshot.digest[:8]} is gone or unfinished; made again", key, parts
    return False, f"miss: {_changes(store, last, snapshot)} since snapshot {last['snapshot'][:8]}", key, parts


def _day(made: str | None) -> str:
    return made[:10] if made else "an unknown date"


def _changes(store: Store, last: dict[str, Any], snapshot: Snapshot) -> str:
    phrases = explain(last["settings"], snapshot.settings)
    before, after = sum(last["rows"].values()), sum(snapshot.counts.values())
    key = f"snapshots/{last['snapshot']}"
    if max(before, after) > COMPARED_ROWS or not store.is_complete(key):
        difference = after - before
        return "; ".join([*phrases, f"{abs(difference):,} rows {'fewer' if difference < 0 else 'more'}"])
    old = {text: (label, split) for split in SPLITS for text, label in read_split(store, key, split)}
    new = {text: (label, split) for split in SPLITS for text, label in snapshot.rows[split]}
    both = old.keys() & new.keys()
    counts = {
        "added": len(new) - len(both),
        "removed": len(old) - len(both),
        "with another label": sum(old[text][0] != new[text][0] for text in both),
        "in another split": sum(old[text][1] != new[text][1] for text in both),
    }
    return "; ".join([*phrases, *(f"{count:,} rows {what}" for what, count in counts.items() if count)])


def read(request: IngestRequest) -> Ingested:
    """
    Read the request's sources and keep what can be learnt from. Writes nothing.

    :raises BadInput: as ``ingest``.
    """
    _check(request)
    sources: dict[Split | None, Source] = {None: open_source(request.source, file_format=request.format)}
    if request.validation is not None:
        sources["validation"] = open_source(request.validation, role="validation", file_format=request.format)
    if request.test is not None:
        sources["test"] = open_source(request.test, role="test", file_format=request.format)
    own = {part.split for part in sources[None].parts if part.split} | {role for role in sources if role}
    settings: Settings = {
        "test_percent": None if "test" in own else request.test_percent,
        "validation_percent": None if "validation" in own else request.validation_percent,
    }
    dropped = Dropped()
    splits: dict[Split, Gathered] = {split: Gathered(dropped) for split in SPLITS}
    reader = _Reader(Columns(request.text, request.label), splits, dropped, settings)
    for role, source in sources.items():
        # a split that has a source of its own is not taken from the main one as well
        reader.read(source, [p for p in source.parts if role or not p.split or p.split not in sources], role)
    for split in SPLITS:
        splits[split].settle()
    keep_apart(splits)
    if request.max_rows is not None:
        sample([splits[split] for split in SPLITS if split not in own], request.max_rows)
        for split in own:
            sample([splits[split]], request.max_rows)
    drop_untrained_labels(splits)
    snapshot = Snapshot(
        {split: [(row.text, row.label) for _, row in sorted(splits[split].rows.items())] for split in SPLITS}, settings
    )
    _tell(snapshot, dropped)
    _check_usable(snapshot, dropped.by_reason(), request)
    given: dict[str, Any] = {role: source.described for role, source in sources.items() if role}
    return Ingested(snapshot, dropped, {**sources[None].described, **given})


class _Reader:
    """Takes the parts of the sources in one after the other and says how far it is."""

    def __init__(self, columns: Columns, splits: dict[Split, Gathered], dropped: Dropped, settings: Settings) -> None:
        self.columns, self.splits, self.dropped = columns, splits, dropped
        self.percents = (settings["test_percent"] or 0, settings["validation_percent"] or 0)
        self.rows = 0
        self.started = self.told = time.monotonic()

    def read(self, source: Source, parts: Sequence[Part], role: Split | None) -> None:
        """:raises BadInput: no row of the source can be used, or most of them are not what they should be."""
        before, reasons = self.rows, Counter[str]()
        for number, part in enumerate(parts, start=1):
            reasons += self._read_part(part, role or part.split, f"part {number} of {len(parts)}")
        uri, rows = source.described["uri"], self.rows - before
        if rows == reasons.total():
            raise BadInput(f"{uri}: no usable row. {self._what_was_dropped(reasons)} Nothing was written.")
        # half is assumed: one bad row, or one bad file among many, must not stop a pipeline; a wrong format should
        malformed = Counter({reason: count for reason, count in reasons.items() if reason not in ORDINARY})
        if malformed.total() * 2 > rows:
            raise BadInput(
                f"{uri}: {malformed.total():,} of {rows:,} rows cannot be read. {self._what_was_dropped(malformed)} "
                "Nothing was written. Check format, encoding and columns."
            )

    def _read_part(self, part: Part, split: Split | None, which: str) -> Counter[str]:
        """:return: the dropped rows by reason."""
        before, reasons = self.rows, Counter[str]()
        for row in part.read(self.columns):
            self.rows += 1
            if self.rows % 1000 == 0:
                self._tell_progress(part, which)
            place = Place(part.name, row.number)
            try:
                if isinstance(row, BadRow):
                    raise Unusable(row.reason)
                text, label = text_of(row.text), label_of(row.label)
                digest = digest_of_text(text)
            except Unusable as unusable:
                reasons[str(unusable)] += 1
                self.dropped.add(str(unusable), place)
                continue
            home = split or split_of_hash(digest.hex(), *self.percents)
            self.splits[home].add(digest, Kept(text, label, place))
        dropped = f"; {reasons.total():,} dropped: {_listed(reasons)}" if reasons else ""
        log.log(
            logging.WARNING if reasons else logging.INFO,
            "read %s: %s rows%s",
            part.name,
            f"{self.rows - before:,}",
            dropped,
        )
        return reasons

    def _tell_progress(self, part: Part, which: str) -> None:
        now = time.monotonic()
        if now - self.told >= PROGRESS_SECONDS:
            self.told = now
            rate = self.rows / (now - self.started)
            log.info("reading %s (%s): %s rows so far, %s rows/s", part.name, which, f"{self.rows:,}", f"{rate:,.0f}")

    def _what_was_dropped(self, reasons: Counter[str]) -> str:
        if not reasons:
            return "There is none at all."
        first = self.dropped.examples[reasons.most_common(1)[0][0]][0]
        return f"Dropped: {_listed(reasons)}; the first in {first.file}, row {first.row}."


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _check(request: IngestRequest) -> None:
    if request.text == request.label:
        raise BadInput(f"text and label are the same column {request.text!r}. Name two.")
    for name in ("test_percent", "validation_percent"):
        if not 0 <= getattr(request, name) < 100:
            raise BadInput(f"{name} is {getattr(request, name)}; it must be from 0 to 99.")
    if request.test_percent + request.validation_percent >= 100:
        raise BadInput(
            "test_percent and validation_percent leave nothing to train on; together they must be below 100."
        )
    if request.max_rows is not None and request.max_rows < 1:
        raise BadInput(f"max_rows is {request.max_rows}; it must be at least 1, or left out.")


def _tell(snapshot: Snapshot, dropped: Dropped) -> None:
    log.info("splits: %s", ", ".join(f"{split} {count:,}" for split, count in snapshot.counts.items()))
    trained = Counter(snapshot.label_counts["train"])
    more = f", and {len(trained) - SHOWN_LABELS} more" if len(trained) > SHOWN_LABELS else ""
    shown = ", ".join(f"{label} {count:,}" for label, count in trained.most_common(SHOWN_LABELS))
    log.info("%d labels, training rows each: %s%s", len(trained), shown, more)
    if dropped.by_reason():
        log.info("dropped altogether: %s", _listed(Counter(dropped.by_reason())))


def _check_usable(snapshot: Snapshot, dropped: Mapping[str, int], request: IngestRequest) -> None:
    """:raises BadInput: nothing can be learnt or measured with these rows."""
    total = sum(snapshot.counts.values())
    empty = [split for split, count in snapshot.counts.items() if not count]
    left_out = f" Left out: {_listed(Counter(dropped))}." if dropped else ""
    if len(snapshot.labels) == 1:
        raise BadInput(
            f"{request.source}: every training row has the label {snapshot.labels[0]!r} ({total:,} rows); a classifier "
            f"needs two.{left_out} Check the label column {request.label!r}. Nothing was written."
        )
    if empty:
        percents = {"test": request.test_percent, "validation": request.validation_percent, "train": None}
        cut = ", ".join(
            f"{split}_percent {percents[split]}"
            for split in empty
            if total and snapshot.settings.get(f"{split}_percent") is not None
        )
        raise BadInput(
            f"{request.source}: no row for {' and '.join(empty)} among {total:,} usable rows"
            f"{f' (cut by the hash of the text, {cut})' if cut else ''}.{left_out} Nothing was written. "
            f"Give more rows{', raise the percentage' if cut else ''}, or name a source for the split with other texts."
        )
