"""A plot shows whatever names and numbers it is given, and takes nothing of the page but its colours."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from training.plots import NAME_CHARACTERS, Row, dot_plot, reliability


def row(name="short", value=-0.05, low=-0.1, high=0.01, **more):
    return Row(name=name, note="310 rows", value=value, low=low, high=high, **{"colour": "bar", **more})


def dots(*rows, bound=-0.1):
    return dot_plot(rows, bound=bound, ends=("← worse", "better →"), label="what it shows")


def words(drawn):
    return [one.text for one in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]


def test_a_row_has_its_name_and_its_note():
    assert {"short", "310 rows", "← worse", "better →"} <= set(words(dots(row())))


def test_a_long_name_keeps_both_its_ends():
    [name] = [one for one in words(dots(row("country_of_the_sender=" + "x" * 60 + "=land"))) if "…" in one]
    assert len(name) == NAME_CHARACTERS
    assert name.startswith("country_of")
    assert name.endswith("=land")


def test_names_are_shown_as_they_are_whatever_is_in_them():
    names = ["<b>&amp;", "$x^2$", "日本語 😀", "a\nb", "\x1b[2J", "#0000f0"]
    shown = words(dots(*map(row, names)))
    at = shown.index(names[0])
    assert shown[at : at + 6] == ["<b>&amp;", "$x^2$", "日本語 😀", "a b", "[U+001B][2J", "#0000f0"]


def test_nothing_that_a_plot_brings_reaches_beyond_it():
    drawn = dots(row(), row("long", filled=False, colour="soft"), bound=None)
    assert drawn.startswith("<svg")
    assert "<style" not in drawn
    assert "metadata" not in drawn
    assert not re.search("#0000f", drawn)
    assert 'aria-label="what it shows"' in drawn


def test_the_same_numbers_are_the_same_drawing():
    assert dots(row()) == dots(row())


def test_sureness_is_drawn_for_one_model_and_for_two():
    bins = [{"rows": 10, "sure": 0.6, "right": 0.5}, {"rows": 90, "sure": 0.95, "right": 0.97}]
    assert "candidate" in words(reliability({"candidate": bins}, "sure"))
    assert {"candidate", "champion"} <= set(words(reliability({"candidate": bins, "champion": bins}, "sure")))
