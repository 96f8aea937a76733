import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import shingles as module
from training.buckets import UNLIKE_BITS
from training.shingles import ALIKE, BAND_SLOTS, BANDS, SKETCH_BITS, shingles, signatures, similarities, stretches
from training.text import normalised

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(normalised), min_size=1)


def runs_of(text):
    spaced = f" {normalised(text)} "
    return {spaced[start : start + 3] for start in range(len(spaced) - 2)}


@settings(deadline=None)  # the first call imports
@given(TEXTS, st.randoms())
def test_similarity_is_the_share_of_runs_that_both_texts_have(texts, draw):
    others = draw.sample(texts, len(texts))
    expected = [len(runs_of(a) & runs_of(b)) / len(runs_of(a) | runs_of(b)) for a, b in zip(texts, others, strict=True)]
    assert np.allclose(similarities(texts, others), expected)


@given(st.lists(st.integers(0, 30)))
def test_long_texts_are_taken_in_stretches_that_memory_holds(lengths):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST_CHARACTERS", 40)
        parts = [lengths[part] for part in stretches(lengths)]
    assert [length for part in parts for length in part] == lengths
    assert all(part and sum(part) <= 40 for part in parts)
    assert all(sum(one) + other[0] > 40 for one, other in pairwise(parts))


def test_similarities_are_the_same_in_stretches(monkeypatch):
    texts, others, alike = words_replaced([1, 2, 3, 9] * 10)
    monkeypatch.setattr(module, "MOST_CHARACTERS", 500)
    assert similarities(texts, others).tolist() == alike.tolist()


@settings(deadline=None)
@given(TEXTS)
def test_a_text_has_the_same_signature_whatever_texts_are_read_with_it(texts):
    keys, sketches = signatures(*shingles(texts))
    assert keys.shape == (BANDS, len(texts))
    assert sketches.shape == (SKETCH_BITS // 64, len(texts))
    for place, text in enumerate(texts):
        key, sketch = signatures(*shingles([text]))
        assert (key[:, 0] == keys[:, place]).all()
        assert (sketch[:, 0] == sketches[:, place]).all()


def test_case_width_and_spacing_make_no_difference():
    keys, sketches = signatures(*shingles(["Ｈello  World", "hello world"]))
    assert (keys[:, 0] == keys[:, 1]).all()
    assert (sketches[:, 0] == sketches[:, 1]).all()
    assert similarities(["Ｈello  World"], ["hello world"]) == 1


def test_a_typo_leaves_texts_alike_and_another_subject_does_not():
    question = "how do I activate the card that came with the mail yesterday?"
    found = similarities([question] * 2, [question.replace("activate", "actiwate"), "how do I close my account today?"])
    assert found[0] > 0.85
    assert found[1] < 0.4


def words_replaced(counts):
    """:return: texts, each with another in which as many words are replaced, and how alike both are."""
    draw = random.Random(3)
    words = [f"{draw.choice('bdfgklmnprst')}{draw.choice('aeiou')}{i}" for i in range(3000)]
    texts, others = [], []
    for count in counts:
        text = draw.sample(words, 16)
        texts.append(" ".join(text))
        for place in draw.sample(range(16), count):
            text[place] = draw.choice(words)
        others.append(" ".join(text))
    return texts, others, similarities(texts, others)


def test_pairs_agree_in_a_band_as_often_as_the_formula_says():
    texts, others, alike = words_replaced([1, 2, 3] * 2000)
    keys, _ = signatures(*shingles(texts))
    other_keys, _ = signatures(*shingles(others))
    agree = (keys == other_keys).any(axis=0)
    for low in (0.6, 0.7, 0.8):
        chosen = (alike >= low) & (alike < low + 0.1)
        expected = (1 - (1 - alike[chosen] ** BAND_SLOTS) ** BANDS).mean()
        assert chosen.sum() > 500
        assert abs(agree[chosen].mean() - expected) < 0.03


def test_sketches_of_alike_texts_differ_in_few_bits_and_those_of_others_in_many():
    texts, others, alike = words_replaced([1, 2, 14] * 500)
    _, sketches = signatures(*shingles(texts))
    _, other_sketches = signatures(*shingles(others))
    differ = np.bitwise_count(sketches ^ other_sketches).sum(axis=0)
    assert (differ[alike >= ALIKE] <= UNLIKE_BITS).mean() > 0.995
    assert (differ[alike < 0.25] > UNLIKE_BITS).mean() > 0.98


def test_no_text_has_no_signature():
    keys, sketches = signatures(*shingles([]))
    assert keys.shape == (BANDS, 0)
    assert sketches.shape == (SKETCH_BITS // 64, 0)
    assert similarities([], []).shape == (0,)
