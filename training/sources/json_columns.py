"""
Parse lines of JSON into columns, with Arrow's reader.

It is strict (no trailing commas, no key of ours twice, no half of a character) and says which line it stopped at. What
it takes for JSON although Python does not, and lines that are no object each, ``Lines`` finds beforehand. So a line is
either read here exactly as ``json.loads`` reads it, or left to be read by that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.sources.part import Columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow

ATTEMPTS = 16  # assumed: with more lines to leave out, Python is no slower than starting again after each of them
DEEPEST = 100  # brackets that open in a line; Python gives up at about a thousand levels, Arrow at none
WINDOW = 1 << 18  # measured: bytes that stay in the processor's cache halve the time of looking at them

_STOPPED = re.compile(r" in row (\d+)")
_AFTER_A_NUMBER = b" \t\r\n,]}"
_DIGITS_TO_ZEROS = bytes(ord("0") if chr(byte).isdecimal() else byte for byte in range(128)) + bytes(range(128, 256))


@dataclass(frozen=True)
class Lines:
    """Lines of one buffer, each with its end."""

    content: bytes  # ends with a newline
    offsets: np.ndarray  # where each line begins, and where the last ends
    odd: np.ndarray  # whether Arrow must not see the line

    @classmethod
    def of(cls, content: bytes) -> Lines:
        import numpy as np

        if not content.endswith(b"\n"):
            content += b"\n"
        data = np.frombuffer(content, np.uint8)
        newlines, infinities, minuses, openings = [], [], [], 0
        for start in range(0, len(data), WINDOW):
            seen = data[start : start + WINDOW + 2]
            here, second, third = seen[:WINDOW], seen[1 : WINDOW + 1], seen[2 : WINDOW + 2]
            newlines.append(np.flatnonzero(here == ord("\n")) + start)
            openings += np.count_nonzero((here & 0xDF) == ord("["))  # also {, which differs in this bit
            named = (here[: len(third)] == ord("I")) & (second[: len(third)] == ord("n")) & (third == ord("f"))
            infinities.append(np.flatnonzero(named) + start)
            minuses.append(np.flatnonzero((here[: len(second)] == ord("-")) & (second == ord("N"))) + start)
        ends = np.concatenate(newlines)
        offsets = np.concatenate([[0], ends + 1])
        lines = cls(content, offsets, np.zeros(len(ends), bool))
        first, last = data[offsets[:-1]], data[ends - 1]
        last = np.where(last == ord("\r"), data[ends - 2], last)
        lines.odd[(first != ord("{")) | (last != ord("}"))] = True
        # Arrow takes Inf and -NaN for numbers
        after = np.frombuffer(_AFTER_A_NUMBER, np.uint8)
        found = np.concatenate(infinities)
        lines._leave_out(found[np.isin(data[np.minimum(found + 3, len(data) - 1)], after)])
        lines._leave_out(np.concatenate(minuses))
        if b"\0" in content:  # for Arrow the end of everything
            lines._leave_out(np.flatnonzero(data == 0))
        if openings > len(lines) + DEEPEST:
            lines._leave_out_deep(np.flatnonzero((data & 0xDF) == ord("[")))
        lines._leave_out_long_integers()
        return lines

    def __len__(self) -> int:
        return len(self.odd)

    def __getitem__(self, at: int) -> bytes:
        return self.content[self.offsets[at] : self.offsets[at + 1]]

    def _leave_out(self, positions: np.ndarray) -> None:
        self.odd[self.offsets.searchsorted(positions, "right") - 1] = True

    def _leave_out_deep(self, openings: np.ndarray) -> None:
        import numpy as np

        self.odd[np.diff(openings.searchsorted(self.offsets)) > DEEPEST] = True

    def _leave_out_long_integers(self) -> None:
        """Python refuses to read more digits than this, lest a number keep it busy for ever."""
        import numpy as np

        longest = sys.get_int_max_str_digits()
        too_many = b"0" * (longest + 1)
        for at in np.flatnonzero(np.diff(self.offsets) > longest).tolist() if longest else ():
            if too_many in self[at].translate(_DIGITS_TO_ZEROS):
                self.odd[at] = True


def parse_lines(lines: Lines, columns: Columns) -> Iterator[tuple[np.ndarray, pyarrow.Table]]:
    """
    Parse the lines whose text is a string and whose label is a string, an integer or a boolean.

    :return: which lines, and their columns; a line that is in none is still to be read.
    """
    import numpy as np
    import pyarrow

    at = np.flatnonzero(~lines.odd)
    if not len(at):
        return
    buffers = [None, pyarrow.py_buffer(lines.offsets), pyarrow.py_buffer(lines.content)]
    held = pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(lines), buffers)
    if len(at) < len(lines):
        held = held.take(pyarrow.array(at))
    string = pyarrow.string()
    table, _ = _read(held, {columns.text: string, columns.label: string, **({columns.time: string} if columns.time else {})})
    if table is not None:
        yield _complete(at, table, columns)
        return
    for chosen, types in _alike(held, columns):
        for places, table in _read_between(held.filter(chosen), types):
            yield _complete(at[chosen.to_numpy(zero_copy_only=False)][places], table, columns)
