"""Decide which rows a snapshot keeps: one per text, with one label, in one split; everything else is counted."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice, zip_longest
from typing import Any, NamedTuple

from training.contract import SPLITS, Split
from training.text import text_hash

EXAMPLES_PER_REASON = 20

# What can be wrong with a row by itself. The first two are ordinary in real data; the others say that the file is not
# what the spec says it is, once they are many.
EMPTY_TEXT = "empty text"
MISSING_LABEL = "missing label"
NOT_UTF8 = "not valid UTF-8"
NUL = "NUL character"
TEXT_TYPE = "text is not a string"
LABEL_TYPE = "label is not a string, number or boolean"
LABEL_CONTROL = "control character in the label"
ORDINARY = {EMPTY_TEXT, MISSING_LABEL, "empty file"}

# what can be wrong with a row beside others
DUPLICATE = "duplicate"
CONFLICT = "same text with another label"
IN_TEST = "text is in the test split"
IN_VALIDATION = "text is in the validation split"
UNTRAINED_LABEL = "label without a training row"


class Unusable(Exception):
    """The reason why a row is dropped."""


def text_of(value: object) -> str:
    """:raises Unusable: there is nothing to learn from."""
    if isinstance(value, bytes):  # Parquet of writers that do not mark text as text
        value = _decoded(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise Unusable(EMPTY_TEXT)
    if not isinstance(value, str):
        raise Unusable(TEXT_TYPE)
    if "\0" in value:
        raise Unusable(NUL)
    if not any(unicodedata.category(character) not in _INVISIBLE for character in value):
        raise Unusable(EMPTY_TEXT)
    return value


_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}  # control, format (zero-width), spaces and separators
_JOINERS = "\u200c\u200d"  # format characters that some scripts and emoji are spelt with


def label_of(value: object) -> str:
    """
    Name a label as a person would write it: true and false, integers without a point (a nullable integer column often
    comes as 1.0), strings composed (NFC), without the spaces around them and without characters that nobody sees.

    :raises Unusable: there is none, or it names nothing.
    """
    if isinstance(value, bytes):
        value = _decoded(value)
    if isinstance(value, str):
        label = unicodedata.normalize("NFC", value)
        if not label.isprintable():
            label = "".join(c for c in label if c in _JOINERS or unicodedata.category(c) != "Cf")
        label = label.strip()
        if not label:
            raise Unusable(MISSING_LABEL)
        if not label.isprintable():
            _check_label(label)
        return label
    if value is None or (isinstance(value, float | Decimal) and not math.isfinite(value)):
        raise Unusable(MISSING_LABEL)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | Decimal) and value == int(value):
        return str(int(value))
    if isinstance(value, int | float | Decimal):
        return str(value)
    raise Unusable(LABEL_TYPE)


def _check_label(label: str) -> None:
    categories = {unicodedata.category(character) for character in label}
    if "Cs" in categories:  # what an undecodable byte, or half of a character in JSON, was read as
        raise Unusable(NOT_UTF8)
    if "Cc" in categories:
        raise Unusable(LABEL_CONTROL)


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unusable(NOT_UTF8) from None


def digest_of_text(text: str) -> bytes:
    """:raises Unusable: the text has bytes that are no characters."""
    try:
        return bytes.fromhex(text_hash(text))
    except UnicodeEncodeError:
        raise Unusable(NOT_UTF8) from None


class Place(NamedTuple):
    file: str
    row: int


@dataclass
class Dropped:
    """Rows left out, counted by reason, with the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Place]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, place: Place) -> None:
        self.counts[reason] += 1
        self.show(reason, place)

    def show(self, reason: str, place: Place) -> None:
        shown = self.examples[reason]
        if len(shown) < EXAMPLES_PER_REASON:
            shown.append(place)

    def by_reason(self) -> dict[str, int]:
        return {reason: count for reason, count in sorted(self.counts.items()) if count}

    def listed(self) -> list[dict[str, Any]]:
        """:return: the examples as the manifest holds them."""
        return [
            {"file": place.file, "row": place.row, "reason": reason}
            for reason in self.by_reason()
            for place in self.examples[reason]
        ]


class Kept(NamedTuple):
    text: str
    label: str
    place: Place


class Gathered:
    """
    The rows of one split, one for each text.

    Of texts that are equal after normalisation the smallest is kept, whatever came first. Rows that disagree about the
    label are settled by majority; where there is none the text teaches nothing and is dropped.
    """

    def __init__(self, dropped: Dropped) -> None:
        self.rows: dict[bytes, Kept] = {}
        self._votes: dict[bytes, Counter[str]] = {}  # only of texts that came more than once
        self._dropped = dropped

    def add(self, digest: bytes, row: Kept) -> None:
        first = self.rows.setdefault(digest, row)
        if first is row:
            return
        self._votes.setdefault(digest, Counter({first.label: 1}))[row.label] += 1
        self._dropped.show(DUPLICATE if row.label == first.label else CONFLICT, row.place)
        if row.text < first.text:
            self.rows[digest] = row._replace(label=first.label)

    def settle(self) -> None:
        for digest, votes in self._votes.items():
            (label, most), *others = votes.most_common(2)
            if others and others[0][1] == most:
                del self.rows[digest]
                self._dropped.counts[CONFLICT] += votes.total()
                continue
            self.rows[digest] = self.rows[digest]._replace(label=label)
            self._dropped.counts.update({DUPLICATE: most - 1, CONFLICT: votes.total() - most})
        self._votes.clear()

    def drop(self, reason: str, unwanted: Callable[[bytes, Kept], bool]) -> None:
        for digest in [digest for digest, row in self.rows.items() if unwanted(digest, row)]:
            self._dropped.add(reason, self.rows.pop(digest).place)


def keep_apart(splits: Mapping[Split, Gathered]) -> None:
    """Leave every text in one split alone: the test split first, then validation."""
    test, validation = splits["test"].rows, splits["validation"].rows
    splits["validation"].drop(IN_TEST, lambda digest, _: digest in test)
    splits["train"].drop(IN_TEST, lambda digest, _: digest in test)
    splits["train"].drop(IN_VALIDATION, lambda digest, _: digest in validation)


def drop_untrained_labels(splits: Mapping[Split, Gathered]) -> None:
    """A label that no training row has can be neither learnt nor predicted."""
    known = {row.label for row in splits["train"].rows.values()}
    for split in SPLITS:
        splits[split].drop(UNTRAINED_LABEL, lambda _, row: row.label not in known)


def sample(gathered: Iterable[Gathered], size: int) -> None:
    """Keep ``size`` rows at most, those of lowest hash, as evenly over the labels as they allow."""
    gathered = list(gathered)
    by_label: dict[str, list[bytes]] = defaultdict(list)
    for one in gathered:
        for digest, row in one.rows.items():
            by_label[row.label].append(digest)
    rounds = zip_longest(*(sorted(by_label[label]) for label in sorted(by_label)))
    in_turn = (digest for one_of_each in rounds for digest in one_of_each if digest is not None)
    chosen = set(islice(in_turn, size))
    for one in gathered:
        one.rows = {digest: row for digest, row in one.rows.items() if digest in chosen}
