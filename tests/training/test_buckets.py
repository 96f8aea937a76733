"""Whom a text meets: of which sets that is a function, held against the words of the module said text by text."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.buckets import COMPARED, FIRST, UNLIKE_BITS, Band, Texts, candidates

BANDS = 3


def drawn(draw, count):
    """:return: for each text side, test, learnt, sketch and the keys of its bands: few keys, for large buckets."""
    near = [sum(1 << place for place in draw.sample(range(64), 12)) for _ in range(8)]
    return [
        {
            "side": draw.randrange(2),
            "test": draw.random() < 0.3,
            "learnt": draw.random() < 0.7,
            "moved": False,
            "sketch": (draw.choice(near), draw.choice(near) << 2 & (1 << 64) - 1),
            "keys": [draw.randrange(4) for _ in range(BANDS)],
        }
        for _ in range(count)
    ]


def arrays(texts):
    columns = {name: np.array([one[name] for one in texts], bool) for name in ("test", "learnt", "moved")}
    side = np.array([one["side"] for one in texts], np.uint32)
    known = Texts(side=side, sketch=np.array([one["sketch"] for one in texts], np.uint64).reshape(-1, 2), **columns)
    packed = [
        np.array([one["keys"][band] << 32 | number for number, one in enumerate(texts)], np.uint64)
        for band in range(BANDS)
    ]
    return known, [Band(known, keys[::-1].copy()) for keys in packed]


def met(texts, number):
    """:return: those that a text meets."""
    own, found = texts[number], set()
    for band in range(BANDS):
        bucket = [other for other, one in enumerate(texts) if one["keys"][band] == own["keys"][band]]
        found |= set([other for other in bucket if texts[other]["test"]][:FIRST])
        side = [other for other in bucket if texts[other]["learnt"] and texts[other]["side"] == own["side"]]
        found |= {other for other in side[:FIRST] if other < number}
    return found


def differing(texts, number, other):
    pairs = zip(texts[number]["sketch"], texts[other]["sketch"], strict=True)
    return sum((left ^ right).bit_count() for left, right in pairs)


def compared(texts, number):
    """:return: those that a text is compared with."""
    chosen = []
    for test in (True, False):
        alike = [
            (differing(texts, number, other), other)
            for other in met(texts, number)
            if texts[other]["test"] == test and differing(texts, number, other) <= UNLIKE_BITS
        ]
        chosen += [other for _, other in sorted(alike)[:COMPARED]]
    return set(chosen)


def exclusive(texts):
    """A text is learnt or a test text, as settling has it."""
    for one in texts:
        one["learnt"] = one["learnt"] and not one["test"]
    return texts


@settings(deadline=None)  # the first call imports
@given(st.integers(0, 10**9), st.integers(0, 120))
def test_a_text_is_compared_with_the_most_alike_of_the_first_of_its_buckets(seed, count):
    texts = exclusive(drawn(random.Random(seed), count))
    known, bands = arrays(texts)
    wanted = np.array([number % 5 != 0 for number in range(count)], bool) & known.learnt
    numbers, others = candidates(known, bands, wanted)
    found = {number: set() for number in np.flatnonzero(wanted).tolist()}
    for number, other in zip(numbers.tolist(), others.tolist(), strict=True):
        found[number].add(other)
    assert found == {number: compared(texts, number) for number in found}


@settings(deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 120), st.integers(0, 3))
def test_only_texts_that_are_said_to_have_changed_meet_others_than_before(seed, count, moves):
    draw = random.Random(seed)
    before = exclusive(drawn(draw, count))
    after = [dict(one) for one in before]
    for one, was in draw.sample(list(zip(after, before, strict=True)), min(moves, count)):
        one["moved"] = True
        change = draw.choice(["came", "came as a test text", "left", "another label"])
        if change == "came":
            was["learnt"], one["learnt"] = False, not one["test"]
        elif change == "came as a test text":
            was["learnt"] = was["test"] = one["learnt"] = False
            one["test"] = True
        elif change == "left":
            one["learnt"] = False  # what was once a test text stays one
        else:
            one["side"] = 1 - one["side"]
    _, bands = arrays(after)
    changed = set(np.concatenate([band.changed() for band in bands]).tolist())
    for number, one in enumerate(after):
        if one["learnt"] and not one["moved"] and number not in changed:
            assert met(after, number) == met(before, number)
