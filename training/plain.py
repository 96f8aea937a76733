"""Spell a text as a person sees it, and say where each of its characters came from."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def plainly(text: str) -> tuple[str, Sequence[int]]:
    """
    Write digits of all scripts as 0 to 9, letters in their ordinary form (NFKC), any run of spaces as one, any dash as
    ``-``, and leave out characters that nobody sees, such as a zero-width space.

    :return: the plain text, and the place in ``text`` of each of its characters.
    """
    if text.isascii() and "  " not in text:
        return text, range(len(text))
    plain: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        seen = _SEEN[character]
        if seen and not (seen == " " and plain and plain[-1] == " "):
            plain.append(seen)
            places.append(place)
    return "".join(plain), places


class _Seen(dict[str, str]):
    """Of each character the one that it is seen as, looked up once; empty: nobody sees it."""

    def __missing__(self, character: str) -> str:
        seen = self[character] = _seen(character)
        return seen


_SEEN = _Seen()
_MINUS = "\N{MINUS SIGN}"  # the one dash that is a sign


def _seen(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":  # format: zero-width, direction, soft hyphen
        return ""
    if category == "Zs":
        return " "
    if category == "Pd" or character == _MINUS:
        return "-"
    plain = unicodedata.normalize("NFKC", character)
    if len(plain) != 1:  # a place has one character
        return character
    digit = unicodedata.decimal(plain, None)
    return plain if digit is None else str(digit)
