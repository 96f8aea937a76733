"""
Say how alike two texts are: by the runs of three characters that both have, spelling, punctuation and all.

Three characters and 0.7 are what was measured best on real texts with one edit each (docs/decisions.md). Words find as
many, and call many more alike that are not; longer runs lose what one typo changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from training.text import normalised

if TYPE_CHECKING:
    import numpy as np

ALIKE = 0.7  # Jaccard: of the shingles that one of two texts has, the share that both have
BANDS = 24  # texts that agree in one of them are compared: of the pairs at 0.7 95.0 per cent, at 0.8 99.9 (BAND_SLOTS)
# Minima of MinHash in a band: as many that texts which share frequent runs alone seldom agree (measured)
BAND_SLOTS = 6
SKETCH_BITS = 128  # of as many minima one bit each: they agree in half of them, and in those that are of the same run
SEED = 1
MOST_CHARACTERS = 1 << 20  # of texts whose shingles are made at once: about 100 bytes each while they are compared
MIX = 0x9E3779B97F4A7C15  # odd, of no pattern: 2**64 divided by the golden ratio


def shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """
    :return: the runs of three characters of all texts in their order, each as one number (a character has 21 bits), and
        how many there are of each text. A text begins and ends with a space, so that one character is a run as well.
    """
    import numpy as np

    plain = [normalised(text) for text in texts]
    joined = " ".join(["", *plain, ""])
    points = np.frombuffer(*((joined.encode(), np.uint8) if joined.isascii() else (joined.encode("utf-32-le"), "<u4")))
    points = points.astype(np.uint64)
    counts = np.fromiter(map(len, plain), np.int64, len(plain))
    runs = points[:-2] << np.uint64(42) | points[1:-1] << np.uint64(21) | points[2:]
    within = np.ones(len(runs), bool)
    within[np.cumsum(counts + 1)[:-1] - 1] = False  # from the last character of one text into the next
    return runs[within], counts


def signatures(runs: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    :param runs: of several texts, and ``counts``, as ``shingles`` gives them; each text has one at least.
    :return: keys, (BANDS, texts) uint32: alike texts agree in at least one of a band, most likely; and sketches,
        (SKETCH_BITS / 64, texts) uint64: the more alike two texts are, the more bits agree.
    """
    import numpy as np

    minima = _minima(runs, counts)
    keys = np.zeros((BANDS, len(counts)), np.uint64)
    for slot in range(BAND_SLOTS):
        keys = (keys ^ minima[slot::BAND_SLOTS]) * np.uint64(MIX)
        keys ^= keys >> np.uint64(29)
    bits = (minima[:SKETCH_BITS].astype(np.uint64) * np.uint64(MIX) >> np.uint64(63)).astype(np.uint8)
    sketches = np.packbits(bits, axis=0).T.copy().view(np.uint64).T
    return (keys >> np.uint64(32)).astype(np.uint32), sketches


def _minima(runs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """:return: (BANDS * BAND_SLOTS, texts) uint32: of each of as many orders of all runs there are, a text's first."""
    import numpy as np
    from rensa import RMinHash

    mixed = runs * np.uint64(MIX)
    mixed ^= mixed >> np.uint64(32)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    slots = BANDS * BAND_SLOTS
    minima = RMinHash.digest_matrix_from_flat_token_hashes(mixed, offsets, slots, SEED).to_rows()
    return np.array(minima, np.uint32).reshape(-1, slots).T


def similarities(texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """:return: of each text and the other at its place, the exact Jaccard similarity of their shingles, from 0 to 1."""
    import numpy as np

    lengths = [len(text) + len(other) for text, other in zip(texts, others, strict=True)]
    found = [_similarities(texts[part], others[part]) for part in stretches(lengths)]
    return np.concatenate(found) if found else np.empty(0)


def stretches(lengths: Sequence[int]) -> Iterator[slice]:
    """:return: consecutive texts that are few enough for the memory that their shingles take, or a single one."""
    start = total = 0
    for place, length in enumerate(lengths):
        if total + length > MOST_CHARACTERS and place > start:
            yield slice(start, place)
            start, total = place, 0
        total += length
    if start < len(lengths):
        yield slice(start, len(lengths))


def _similarities(texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    import numpy as np
    import pyarrow

    pairs = len(texts)
    runs, counts = shingles([*texts, *others])
    # one number for each run: the pair, the run, and in the last bit whose it is; sorted, what both have is adjacent
    codes = pyarrow.array(runs).dictionary_encode().indices.to_numpy().astype(np.uint64)
    owners = np.concatenate([np.arange(pairs) << 33, np.arange(pairs) << 33 | 1]).astype(np.uint64)
    found = np.sort(np.repeat(owners, counts) | codes << np.uint64(1))
    found = found[np.diff(found, prepend=~np.uint64(0)) != 0]
    shared = found[1:][found[1:] ^ found[:-1] == 1]
    both = np.bincount((shared >> np.uint64(33)).astype(np.int64), minlength=pairs)
    either = np.bincount((found >> np.uint64(33)).astype(np.int64), minlength=pairs) - both
    return both / np.maximum(1, either)
