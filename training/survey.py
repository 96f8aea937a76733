"""
Say what a source holds that a pipeline has not read: how much it is, and since when it is there.

A trigger asks every half minute, so that the source is listed and nothing but what is new in it is read.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from datetime import UTC
from typing import TYPE_CHECKING

from training.contract import BadInput, SurveyRequest, SurveyResult
from training.forgotten import Forgotten
from training.sources import Columns
from training.sources.part import check_keys
from training.store import Store
from training.waiting import compare
from training.watermark import Watermark

if TYPE_CHECKING:
    from training.sources.part import Part

log = logging.getLogger(__name__)

EXAMPLES = 5
BROKEN = -1  # where the number of an object's rows would be


def survey(request: SurveyRequest) -> SurveyResult:
    """
    Compare the source with what was read of it. Writes nothing.

    :raises BadInput: the source cannot be listed.
    """
    store = Store(request.store)
    before = Watermark.load(store, request.watermark)
    found = compare(request.reading, before, request.removed, fresh=False, forgotten=Forgotten.read(store).objects)
    # What was refused as a whole waits for a mended object, not for being refused again
    refused = {(one.name, one.split, one.version) for one in before.objects if one.state == "quarantined"}
    unread = [one for one in found.unread if (one.part.name, one.split, one.part.version) not in refused]
    known = {(one.name, one.split) for one in before.in_force()}
    changed = {(one.part.name, one.split) for one in unread} & known
    listed = {(one.part.name, one.split) for one in found.unread}
    removed = [one for one in found.gone if (one.name, one.split) not in listed and one.state != "missed"]

    columns = Columns.of(request.reading)
    counted = {_identity(one.part): _count(one.part, columns, request.counted) for one in unread}
    rows = [counted[_identity(one.part)] for one in unread]
    emptied = sum((one.part.name, one.split) in changed and not count for one, count in zip(unread, rows, strict=True))
    dates = [one.part.modified for one in unread if one.part.modified is not None]
    names = [*(one.part.name for one in unread), *(one.name for one in removed)]
    return SurveyResult(
        objects=len(names),
        rows=sum(count for count in rows if count != BROKEN),
        emptied=len(removed) + emptied,
        broken=rows.count(BROKEN),
        bytes=sum(one.part.bytes or 0 for one in unread),
        digest=_digest(
            [
                *((one.part.name, one.split or "", one.part.version) for one in unread),
                *((one.name, one.split or "", "") for one in removed),
            ]
        ),
        newest=max(dates).astimezone(UTC).isoformat() if dates else None,
        examples=sorted(names)[:EXAMPLES],
        counted=counted,
    )


def _identity(part: Part) -> str:
    return f"{part.version} {part.name}"


def _count(part: Part, columns: Columns, counted: dict[str, int]) -> int:
    """:return: the rows of an object, usable or not; BROKEN if it cannot be read, maybe since it is still written."""
    known = counted.get(_identity(part))
    if known is not None:
        return known
    try:
        return _rows_in(part, columns)
    except BadInput as error:
        log.warning("%s", error)
        return BROKEN


def _rows_in(part: Part, columns: Columns) -> int:
    rows, keys = 0, set[str]()
    for block in part.read(columns):
        batch = block.parse()
        rows += batch.rows.num_rows + sum(row.number > 0 for row in batch.others)  # number 0 says it is empty
        keys.update(batch.keys)
    check_keys(part.name, keys, columns)
    return rows


def _digest(objects: Iterable[tuple[str, str, str]]) -> str:
    """:return: one digest of names and versions, whatever their order; empty for none."""
    listed = sorted(objects)
    return hashlib.sha256("".join("\0".join(one) + "\n" for one in listed).encode()).hexdigest() if listed else ""
