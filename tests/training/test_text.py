import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.contract import SPLITS
from training.text import normalised, some, split_of, split_of_hash, text_hash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my card?", "where is MY card?"),
        ("ﬁne", "fine"),
        ("ｆｕｌｌ width", "full width"),
        ("  a \t b\n\nc ", "a b c"),
        ("a\u00a0b\u3000c", "a b c"),
        ("STRASSE", "straße"),
        ("cafe\u0301", "café"),
    ],
)
def test_texts_that_differ_in_case_width_or_spacing_are_the_same(one, other):
    assert normalised(one) == normalised(other)
    assert text_hash(one) == text_hash(other)


def test_accents_and_punctuation_still_tell_texts_apart():
    assert len({normalised(text) for text in ("cafe", "café", "cafe!", "ca fe")}) == 4


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


def test_the_split_of_known_texts_never_moves():
    """These values are in users' snapshots: a change here moves rows from the test set into training."""
    assert text_hash("Hello World") == "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    texts = [f"text number {i}" for i in range(12)]
    assert " ".join(split_of(text, 15, 10)[:2] for text in texts) == "tr te va tr va tr tr tr tr va te tr"


@given(st.text(), st.integers(0, 60), st.integers(0, 39))
def test_case_and_spacing_never_move_a_text_to_another_split(text, test_percent, validation_percent):
    split = split_of(text, test_percent, validation_percent)
    assert split in SPLITS
    assert split_of(f"  {normalised(text)}\n", test_percent, validation_percent) == split


@given(st.text(), st.integers(0, 49), st.integers(0, 49))
def test_a_larger_test_share_never_takes_a_text_out_of_the_test_split(text, test_percent, more):
    if split_of(text, test_percent, 10) == "test":
        assert split_of(text, test_percent + more, 10) == "test"


def test_the_shares_are_those_that_were_asked_for():
    splits = [split_of(f"text {i}", 20, 10) for i in range(5000)]
    assert splits.count("test") / 5000 == pytest.approx(0.20, abs=0.02)
    assert splits.count("validation") / 5000 == pytest.approx(0.10, abs=0.02)


def test_bounds_belong_to_the_split_above_them():
    def with_bucket(n):
        return f"{n:064x}"

    assert [split_of_hash(with_bucket(n), 15, 10) for n in (0, 14, 15, 24, 25, 99)] == [
        *("test", "test"),
        *("validation", "validation"),
        *("train", "train"),
    ]


def test_of_many_names_a_few_are_told():
    assert some(["a", "b"]) == "'a', 'b'"
    assert some([f"label {i}" for i in range(1205)]).endswith("'label 4' and 1,200 more")


def test_the_module_needs_the_standard_library_alone():
    code = "import sys, training.text; print([m for m in ('numpy', 'pyarrow', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
