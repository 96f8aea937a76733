"""What a terminal or a page shows of a text that has more in it than can be seen."""

import io
import re

import pytest

from training.visible import SEEN, VisibleStream, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "[U+001B][31mred"),
        ("a\u202eb\u200b\0\x85", "a[U+202E]b[U+200B][U+0000][U+0085]"),
        ("over\rwritten", "over[U+000D]written"),
        ("half \ud800", "half [U+D800]"),
        ("Straße\u00a0日本語 👩\u200d🚀\ttwo\nlines", "Straße\u00a0日本語 👩\u200d🚀\ttwo\nlines"),
    ],
)
def test_what_nobody_sees_or_what_a_terminal_obeys_is_shown_by_its_number(text, shown):
    assert visible(text) == shown


def test_a_stream_shows_all_that_is_written_to_it_and_lets_a_line_be_written_over():
    seen = io.StringIO()
    stream = VisibleStream(seen)
    print("\r12 %", "\x1b[2J", file=stream, flush=True)
    assert seen.getvalue() == "\r12 % [U+001B][2J\n"
    assert not stream.isatty()


@pytest.mark.parametrize(
    "unseen", ["", " \t\n\u00a0", "\u200b", "\u2060\ufeff", "\u3164", "\u115f\u1160\uffa0", "\u2800\ufe0f"]
)
def test_in_some_texts_nothing_can_be_seen(unseen):
    assert not re.search(SEEN, unseen)
    assert re.search(SEEN, f"{unseen}.{unseen}")
