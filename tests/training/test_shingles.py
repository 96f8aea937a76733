import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.shingles import BANDS, band_keys, shingles, similarities
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


@settings(deadline=None)
@given(TEXTS)
def test_a_text_has_the_same_keys_whatever_texts_are_read_with_it(texts):
    keys = band_keys(*shingles(texts))
    assert keys.shape == (len(texts), BANDS)
    for text, found in zip(texts, keys, strict=True):
        assert (band_keys(*shingles([text]))[0] == found).all()


def test_case_width_and_spacing_make_no_difference():
    keys = band_keys(*shingles(["Ｈello  World", "hello world"]))
    assert (keys[0] == keys[1]).all()
    assert similarities(["Ｈello  World"], ["hello world"]) == 1


def test_a_typo_leaves_texts_alike_and_another_subject_does_not():
    question = "how do I activate the card that came with the mail yesterday?"
    found = similarities([question] * 2, [question.replace("activate", "actiwate"), "how do I close my account today?"])
    assert found[0] > 0.85
    assert found[1] < 0.4


def test_alike_texts_agree_in_a_band():
    texts = [f"the order with the number {i * 7919} has not arrived by the end of the week" for i in range(500)]
    edited = [text.replace("arrived", "come") for text in texts]
    keys, others = band_keys(*shingles(texts)), band_keys(*shingles(edited))
    alike = similarities(texts, edited) >= 0.7
    assert alike.all()
    assert (keys == others).any(axis=1).mean() > 0.97


def test_no_text_has_no_keys():
    assert band_keys(*shingles([])).shape == (0, BANDS)
    assert similarities([], []).shape == (0,)
