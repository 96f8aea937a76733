"""
Read JSON Lines: one object on each line.

Arrow parses the lines of a block at once (``training.sources.json_columns``); Python reads those that it leaves.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from training.contract import BadInput
from training.sources import part
from training.sources.blocks import batch_of, table_of
from training.sources.json_columns import Lines, parse_lines
from training.sources.part import Batch, Block, Columns
from training.sources.times import times_of
from training.sources.unicode import skip_mark

LONGEST_LINE = 256 << 20  # assumed: a file with longer ones is something else, and must not fill the memory


def read_jsonl(stream: io.BufferedReader, name: str, columns: Columns) -> Iterator[Block]:
    """:raises BadInput: no object of the file has one of the columns, which is known when all blocks are parsed."""
    import numpy as np

    skip_mark(stream, name)
    keys = _Keys(name, columns)
    number = 1
    while content := stream.read(part.BLOCK_BYTES):
        if not content.endswith(b"\n"):
            rest = stream.readline(LONGEST_LINE)
            if len(rest) == LONGEST_LINE:
                raise BadInput(f"{name}: a line of more than {LONGEST_LINE:,} bytes. Nothing was kept. Is this JSONL?")
            content += rest
        keys.expect()
        yield _Block(content, number, columns, keys)
        number += np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n"))
    keys.judge()


@dataclass(frozen=True)
class _Block:
    content: bytes  # whole lines
    first: int  # the number of the first line
    columns: Columns
    keys: _Keys

    def parse(self) -> Batch:
        import numpy as np

        lines = Lines.of(self.content)
        tables, left = [], np.ones(len(lines), bool)
        for at, values in parse_lines(lines, self.columns):
            time = None if self.columns.time is None else times_of(values[self.columns.time].combine_chunks())
            text, label = (values[name].combine_chunks() for name in (self.columns.text, self.columns.label))
            tables.append(table_of(at + self.first, text, label, time))
            left[at] = False
        if self.columns.time is not None and not self.keys.has(self.columns.time):
            ...
        rows = (_read_line(self.first + at, lines[at], self.columns, self.keys) for at in np.flatnonzero(left).tolist())
        batch = batch_of((row for row in rows if row is not None), self.columns, *tables)
        self.keys.judge()
        return batch
