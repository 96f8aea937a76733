"""A text as a person sees it, and where each of its characters came from."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.plain import plainly


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tel. 030 90-18", "Tel. 030 90-18"),
        ("a  b\u00a0\u2009c", "a b c"),
        ("Ａ１＠．（", "A1@.("),
        ("٣ ३ ３", "3 3 3"),
        ("a\u200bb\u00adc\u202ed\ufeff", "abcd"),
        ("1–2—3−4\u20115", "1-2-3-4-5"),
        ("½ ﬁ …\ttab\n", "½ ﬁ …\ttab\n"),  # what would be several characters stays one
    ],
)
def test_it_is_spelt_in_ordinary_characters(text, expected):
    assert plainly(text)[0] == expected


@given(st.text())
def test_each_character_has_the_place_that_it_came_from(text):
    plain, places = plainly(text)
    assert len(plain) == len(places)
    assert list(places) == sorted(set(places))
    for seen, place in zip(plain, places, strict=True):
        assert seen == text[place] or unicodedata.normalize("NFKC", text[place]) == seen or seen in " -0123456789"
