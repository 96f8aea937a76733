"""List a source and say what of it was not read yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from training.batch import Unread
from training.contract import Reading, Split
from training.snapshot import Settings
from training.sources import Columns, NothingThere, Source, open_source
from training.watermark import ObjectRead, Watermark


@dataclass(frozen=True)
class Waiting:
    """What a source holds, against what was read of it."""

    source: Mapping[str, Any]  # described: uri, files, bytes, revision
    settings: Settings
    own: frozenset[Split]  # splits that have a source of their own
    unread: Sequence[Unread]
    read: Sequence[ObjectRead]  # those that are in force as they are
    counts: Mapping[str, int]  # new, changed, removed, unchanged
    gone: Sequence[ObjectRead]  # whose rows are in force no more
    names: Mapping[str, Sequence[str]]  # of the new, the changed and the removed ones
    emptied: Sequence[str] = ()  # URIs of sources that hold no object any more


def compare(
    reading: Reading, before: Watermark, removed: str, *, fresh: bool, forgotten: Collection[str] = ()
) -> Waiting:
    """
    List the sources and say what was not read yet.

    :param fresh: nothing that was read counts.
    :param forgotten: names of objects that are not there for us.
    """
    given: dict[Split | None, str] = {None: reading.source}
    if reading.validation is not None:
        given["validation"] = reading.validation
    if reading.test is not None:
        given["test"] = reading.test
    had = set() if fresh else {one.split if one.split in given else None for one in before.in_force()}
    sources: dict[Split | None, Source] = {}
    emptied: list[str] = []
    for role, uri in given.items():
        try:
            query = None if role else reading.query
            sources[role] = open_source(uri, role=role, file_format=reading.format, query=query)
        except NothingThere:
            if role not in had:
                raise
            emptied.append(uri)
            sources[role] = Source([], {"uri": uri, "files": 0, "bytes": 0})
    own = {part.split for part in sources[None].parts if part.split} | {role for role in sources if role}
    settings: Settings = {
        "test_percent": None if "test" in own else reading.test_percent,
        "validation_percent": None if "validation" in own else reading.validation_percent,
    }
    if keep := Columns.of(reading).keep:
        settings["keep"] = list(keep)
    listed_parts = [
        Unread(part, role or part.split)
        for role, source in sources.items()
        for part in source.parts
        # a split that has a source of its own is not taken from the main one as well
        if (role or not part.split or part.split not in sources) and part.name not in forgotten
    ]
    known = {(one.name, one.split): one for one in before.objects}  # of two, the later: what was set aside
    unread, read_before = [], []
    names: dict[str, list[str]] = {"new": [], "changed": [], "removed": []}
    for one in listed_parts:
        earlier = known.get((one.part.name, one.split))
        if earlier and earlier.version == one.part.version and earlier.state != "quarantined" and not fresh:
            read_before.append(replace(earlier, state="read"))
        else:
            unread.append(one)
            names["changed" if earlier and earlier.version != one.part.version else "new"].append(one.part.name)
    unchanged = len(read_before)
    present = {(one.part.name, one.split) for one in listed_parts}
    absent = [one for one in before.in_force() if (one.name, one.split) not in present]
    if removed == "keep":
        read_before += [replace(one, state="kept") for one in absent]
    else:
        names["removed"] = [one.name for one in absent]
    counts = {what: len(found) for what, found in names.items()} | {"unchanged": unchanged}
    in_force = {(one.batch, one.index) for one in read_before}
    gone = [one for one in before.in_force() if (one.batch, one.index) not in in_force]
    roles: dict[str, Any] = {role: source.described for role, source in sources.items() if role}
    described = {**sources[None].described, **roles}
    return Waiting(described, settings, frozenset(own), unread, read_before, counts, gone, names, emptied)
