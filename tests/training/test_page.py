from __future__ import annotations

import pytest

from tests.training.test_verdict_page import Page
from training.page import document, table, text


@pytest.mark.parametrize("value", ["plain", "Straße\u00a0日本語 👩\u200d🚀", "two\nlines", "שלום עולם", ""])
def test_what_people_write_is_shown_as_it_is(value):
    assert text(value) == value


def test_markup_stays_text_in_content_and_in_attributes():
    shown = Page(f'<p title="{text("<b> onclick=")}">{text("<script>x</script>")}</p>')
    assert shown.tags == ["p"]
    assert shown.attributes == [("title", "<b> onclick=")]
    assert shown.text == "<script>x</script>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [("a\u202eb", "a[U+202E]b"), ("a\0b", "a[U+0000]b"), ("a\ud800", "a[U+D800]"), ("\u200b", "[U+200B]")],
)
def test_a_character_that_nobody_sees_or_that_turns_the_text_is_shown_by_its_number(value, shown):
    assert text(value) == shown
    text(value).encode()


def test_a_page_loads_and_runs_nothing():
    page = document("<i>", table(["a", "b"], [[text("1"), text("2")]]))
    assert "default-src 'none'" in page
    assert "<title>&lt;i&gt;</title>" in page
