"""Texts that are nearly others, and texts that are not."""

from training.text import split_of, text_hash

SYLLABLES = ["ba", "ki", "lo", "mu", "ten", "ra", "se", "vin", "do"]
WORDS = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in ("k", "la", "")]


def sentence(draw):
    return " ".join(draw.choices(WORDS, k=9))


def in_split(split, make):
    """:return: the first of the texts that ``make`` gives, by a number, which is in the split."""
    return next(text for i in range(1000) if split_of(text := make(i), 15, 10) == split)


EXAM = in_split("test", lambda i: f"my card was declined in a shop in the city of Delft, order {i}")
LEAK = in_split("train", lambda i: EXAM + "?" * i)
TWINS = sorted(
    (
        in_split("train", lambda i, end=end: f"where is the parcel {i} that I sent to my aunt{end}")
        for end in (".", "!!")
    ),
    key=text_hash,
)
