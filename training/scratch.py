"""Directories to prepare files in. What a killed process left of its own goes when the next one asks for one."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from training.contract import BadInput


@contextmanager
def scratch_directory(prefix: str, place: Path | None = None) -> Iterator[Path]:
    """
    A new directory, gone afterwards.

    What nobody holds a lock on in the same place is removed first: its process was killed.

    :param place: for nothing else; None: one of this user's own in the system's temporary directory.
    :raises BadInput: the place cannot be written.
    """
    place = place or Path(tempfile.gettempdir()) / f"ratchet-scratch-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lefts = list(place.iterdir())
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise BadInput(f"{place} cannot be written ({error.strerror}). Nothing was done. Check whose it is.") from error
    for left in lefts:
        with suppress(FileNotFoundError), _locked(left):
            shutil.rmtree(left, ignore_errors=True)
    with _locked_new_directory(place, prefix) as made:
        yield made


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """:raises FileNotFoundError: it is somebody else's, or gone."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise FileNotFoundError(directory) from error
    finally:
        os.close(handle)


@contextmanager
def _locked_new_directory(place: Path, prefix: str) -> Iterator[Path]:
    with ExitStack() as stack:
        while True:
            made = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
            with suppress(FileNotFoundError):
                stack.enter_context(_locked(made))
                if made.exists():
                    break
            # before it was locked, another process took it for abandoned
        stack.callback(shutil.rmtree, made, ignore_errors=True)
        yield made
