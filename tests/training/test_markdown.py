"""Nothing that comes from data is markup on a page."""

from __future__ import annotations

import re

import pytest

from training.markdown import code, sentence


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("a b", "`a b`"),
        ("a|b\n\n# c", r"`a\|b # c`"),
        ("``<img src=x>`", "``` ``<img src=x>` ```"),
        (r"a\|![x](http://e/p.png)", r"`a\\\|![x](http://e/p.png)`"),
        ("a\\", "`a\\`"),
    ],
)
def test_a_code_span_holds_any_text(text, span):
    assert code(text) == span


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("label 'pos' is 0.02 below, and 0.01 is allowed", "label 'pos' is 0.02 below, and 0.01 is allowed"),
        ("[x](y) <b> *a* _b_ | c\n# d", r"\[x\](y) \<b\> \*a\* \_b\_ \| c \# d"),
        ("label 'http://evil.example/`' fell", "label `` 'http://evil.example/`' `` fell"),
        ("ask www.evil.example", "ask `www.evil.example`"),
        ("ask me@evil.example", "ask `me@evil.example`"),
    ],
)
def test_a_sentence_has_no_markup_and_no_link(text, line):
    assert sentence(text) == line


@pytest.mark.parametrize("text", [r"a\|b", r"a\\|b", r"a\\\|b", "a|b"])
def test_no_text_ends_the_cell_of_a_table(text):
    escaped = re.sub(r"\\[\\|]", "", code(text))  # in pairs from the left, as readers of tables do
    assert "|" not in escaped
