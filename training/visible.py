"""Show what a text has in it that nobody would see, or that would make a terminal do something, by its number."""

from __future__ import annotations

import unicodedata
from typing import Any

# A pattern that finds a character that can be seen: none of the spaces, fillers, joiners, marks of direction and
# selectors, of which nobody sees anything; Airflow's form takes the same one for a text that must say something
SEEN = (
    r"[^\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0]"
)
JOINERS = "\u200c\u200d"  # characters that nobody sees, with which some scripts and emoji are spelt


def visible(text: str, keep: str = "\n\t") -> str:
    """:return: the text with ``[U+001B]`` for an escape character, and the like; those in ``keep`` stay."""
    return text if text.isprintable() else "".join(_visible(character, keep) for character in text)


def _visible(character: str, keep: str) -> str:
    seen = character.isprintable() or character in keep or character in JOINERS
    return character if seen or unicodedata.category(character) == "Zs" else f"[U+{ord(character):04X}]"


class VisibleStream:
    """A stream to a person, such as standard output: names and labels that are printed there are data of anybody's."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(visible(text, keep="\n\t\r"))  # with a return a line of progress is written over
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
