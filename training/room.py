"""Tell a disk that is full from everything else that may go wrong: once a person has made room, a retry goes on."""

from __future__ import annotations

import errno

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# DuckDB's errors have no number: of a file that it writes, and of what it puts aside on disk
SAID = ("No space left on device", "Disk quota exceeded", "max_temp_directory_size")


def no_room(error: BaseException | None) -> str | None:
    """:return: what to do about a disk that is full; None: it is something else."""
    while error is not None:
        if getattr(error, "errno", None) in FULL or any(words in str(error) for words in SAID):
            return (
                f"A disk is full ({' '.join(str(error).split())}). What was begun is gone again, and what was there is "
                "as it was. Make room where the store, the work directory and TMPDIR are; then a retry or the next run "
                "goes on."
            )
        error = error.__cause__ or error.__context__
    return None
