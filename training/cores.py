"""How many processors there are to work with."""

from __future__ import annotations

import os
from functools import cache


@cache
def cores() -> int:
    """:return: those that this process may use, also within the limits of a container, which DuckDB knows."""
    import duckdb

    with duckdb.connect() as db:
        found = db.execute("SELECT current_setting('threads')").fetchone()
    assert found is not None
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else found[0]
    return min(int(found[0]), allowed)
