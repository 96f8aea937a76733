"""
Say which texts are worth comparing: those that have a key for a band in common, the first of each bucket.

Texts are numbers here, in the order of their identities, and a bucket of a band is a run of members in that order. A
text meets the first few of each of its buckets, whatever the bucket's size, and of those it meets the few whose
sketches agree with its own in most bits. So neither a template with a hundred thousand texts nor texts that are in a
bucket by chance cost more than looking at a few sketches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FIRST = 4  # of a bucket, those that its other texts meet; measured, docs/decisions.md
COMPARED = 4  # of those that a text meets, among the test texts and among the others; measured likewise
UNLIKE_BITS = 32  # of a sketch, more than that differ: of pairs at 0.7 one in 2,000 (19.2 differ, give or take 4.0)


@dataclass(frozen=True)
class Texts:
    """What is known of each text, at the place of its number."""

    side: np.ndarray  # uint32: equal where split and label are
    test: np.ndarray  # bool: was ever in a test split
    learnt: np.ndarray  # bool: is in force, and in train or validation
    moved: np.ndarray  # bool: is new, or left
    sketch: np.ndarray  # (texts, words) uint64


class Band:
    """The buckets of one band."""

    def __init__(self, texts: Texts, keys: np.ndarray) -> None:
        """:param keys: uint64 of each text, in any order: the key, and in the lower 32 bits the number. Are sorted."""
        import numpy as np

        self.texts = texts
        keys.sort()
        bucket = keys >> np.uint64(32)
        together = bucket[1:] == bucket[:-1]
        shared = np.zeros(len(keys), bool)
        shared[1:] |= together
        shared[:-1] |= together
        self.bucket = bucket[shared]
        self.member = (keys[shared] & np.uint64(0xFFFFFFFF)).astype(np.int64)

    @cached_property
    def tests(self) -> tuple[np.ndarray, np.ndarray]:
        """Buckets and numbers of the test texts."""
        chosen = self.texts.test[self.member]
        return self.bucket[chosen], self.member[chosen]

    @cached_property
    def sides(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the texts that are learnt: bucket and side as one, numbers, and where the first of both is."""
        import numpy as np

        chosen = self.texts.learnt[self.member]
        number = self.member[chosen]
        both = self.bucket[chosen] << np.uint64(32) | self.texts.side[number]
        order = np.argsort(both, kind="stable")
        both, number = both[order], number[order]
        return both, number, np.searchsorted(both, both)

    def meetings(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """
        :param wanted: bool of each text.
        :return: numbers of wanted texts, and of those that they meet: test texts, and lower ones of their own side.
        """
        import numpy as np

        both, number, first = self.sides
        place = np.flatnonzero(wanted[number])
        bucket, test = self.tests
        begin, end = (np.searchsorted(bucket, both[place] >> np.uint64(32), side) for side in ("left", "right"))
        for step in range(FIRST):
            lower = place[first[place] + step < place]
            yield number[lower], number[first[lower] + step]
            there = begin + step < end
            yield number[place[there]], test[begin[there] + step]

    def changed(self) -> np.ndarray:
        """:return: numbers of the learnt texts that may meet others now than before those came or left that moved."""
        import numpy as np

        both, number, first = self.sides
        beyond = len(self.texts.test)  # more than any number
        moved = self.texts.moved[self.member]
        bucket, test = self.tests
        lowest = _lowest(self.bucket[moved], self.member[moved], both >> np.uint64(32), beyond)
        chosen = self.texts.moved[test] & (np.arange(len(test)) - np.searchsorted(bucket, bucket) < FIRST)
        by_test = _lowest(bucket[chosen], test[chosen], both >> np.uint64(32), beyond) < beyond
        last = np.append(number, np.full(FIRST, beyond))[first + FIRST - 1]
        full = np.append(both, np.zeros(FIRST, np.uint64))[first + FIRST - 1] == both
        by_side = (lowest < beyond) & (~full | (lowest <= last))
        return number[by_test | by_side]


def _lowest(buckets: np.ndarray, members: np.ndarray, asked: np.ndarray, none: int) -> np.ndarray:
    """:return: of each bucket that is asked for its first member, or ``none``. Members are in the order of buckets."""
    import numpy as np

    place = np.searchsorted(buckets, asked)
    there = np.append(buckets, np.uint64(0))[place] == asked
    there &= place < len(buckets)
    return np.where(there, np.append(members, none)[place], none)


def differing_bits(texts: Texts, numbers: np.ndarray, others: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.bitwise_count(texts.sketch[numbers] ^ texts.sketch[others]).sum(axis=1, dtype=np.int64)


def candidates(texts: Texts, bands: Iterable[Band], wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:return: numbers of wanted texts, and of those that each is to be compared with."""
    import numpy as np

    numbers = others = np.empty(0, np.int64)
    for band in bands:
        met = [(numbers, others)]
        for asking, asked in band.meetings(wanted):
            alike = differing_bits(texts, asking, asked) <= UNLIKE_BITS
            met.append((asking[alike], asked[alike]))
        numbers, others = _most_alike(texts, *map(np.concatenate, zip(*met, strict=True)))
    return numbers, others


def _most_alike(texts: Texts, numbers: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:return: of the pairs those that are compared, each once; of two that differ in as many bits the lower other."""
    import numpy as np

    kind = numbers << 1 | texts.test[others]
    rank = kind << 8 | differing_bits(texts, numbers, others)
    order = np.lexsort((others, rank))
    kind, rank, others = kind[order], rank[order], others[order]
    new = np.ones(len(rank), bool)
    new[1:] = (rank[1:] != rank[:-1]) | (others[1:] != others[:-1])
    kind, others = kind[new], others[new]
    few = np.arange(len(kind)) - np.searchsorted(kind, kind) < COMPARED
    return kind[few] >> 1, others[few]
