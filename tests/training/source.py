"""A source that changes, and what comes of reading it."""

import json
import os
import random
from pathlib import Path
from string import ascii_lowercase

from training.contract import Checks, IngestRequest, Reading
from training.ingest import ingest
from training.snapshot import read_table
from training.store import Store

# texts that are nothing like each other
ROWS = [
    (f"{''.join(random.Random(i).choices(ascii_lowercase, k=14))} was {['good', 'bad'][i % 2]}", ["pos", "neg"][i % 2])
    for i in range(300)
]


class Source:
    """A folder that changes, and a pipeline that follows it."""

    def __init__(self, place: Path, **reading):
        self.place, self.store = place, place / "store"
        self.folder = place / "data"
        self.folder.mkdir(parents=True)
        self.reading = Reading(source=str(self.folder), text="text", label="label", **reading)
        self.watermark = None
        self.clock = 0

    def put(self, name, rows):
        part = self.folder / f".{name}"
        part.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        self.clock += 1
        os.utime(part, (1_700_000_000 + self.clock,) * 2)
        part.rename(self.folder / f"{name}.jsonl")

    def remove(self, name):
        (self.folder / f"{name}.jsonl").unlink()

    def ingest(self, *, cold=False, force=False, pipeline="films", **checks):
        result = ingest(
            IngestRequest(
                pipeline=pipeline,
                store=str(self.place / "cold" if cold else self.store),
                reading=self.reading,
                checks=Checks(**checks),
                watermark=None if cold else self.watermark,
                force=force,
            )
        )
        if not cold:
            self.watermark = result.watermark
        return result


def rows_of(result):
    root, _, digest = result.snapshot.rpartition("/snapshots/")
    table = read_table(Store(root), f"snapshots/{digest}", "train", "validation", "test").to_pydict()
    return set(zip(table["split"], table["text"], table["label"], strict=True))


def texts_of(result):
    return {text for _split, text, _label in rows_of(result)}


def watch_reading(monkeypatch):
    """:return: a list that gets the name of every object that is read."""
    from training import batch

    read: list[str] = []
    opened = batch._taken

    def watched(unread, *args):
        read.extend(Path(one.part.name).stem for one in unread)
        return opened(unread, *args)

    monkeypatch.setattr(batch, "_taken", watched)
    return read


def text(seed):
    """:return: one of few, so that many are equal or nearly so."""
    spellings = ["Hello  world", "hello world", "HELLO", "a b", "Ünïcode ß", "x\ty", "tab\n", "ﬁne"]
    if seed % 3 == 0:
        return f"where is the {['parcel', 'letter'][seed // 3 % 2]} I sent {'?!.'[seed % 7 % 3]} {seed % 40}"
    spellings += ["mail A@example.org", "mail b@example.org"]  # the same text once they are redacted
    return f"{random.Random(seed).choice(spellings)} {seed % 40}"
