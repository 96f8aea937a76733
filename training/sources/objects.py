"""Open an object, decompress it, and say in words what went wrong with it."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from training.contract import BadInput
from training.credentials import refusal
from training.sources import part
from training.sources.blocks import Parsed, batch_of
from training.sources.part import BadRow, Block, Columns, ReadFailed

MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}

Reader = Callable[[io.BufferedReader, str, Columns], Iterator[Block]]


class Found(NamedTuple):
    """An object as it was when the source was listed."""

    path: str
    size: int
    version: str
    modified: datetime | None


def found_file(path: str, stat: os.stat_result) -> Found:
    try:
        modified: datetime | None = datetime.fromtimestamp(stat.st_mtime, UTC)
    except (OverflowError, ValueError):  # no year that there is
        modified = None
    return Found(path, stat.st_size, _version(stat), modified)


def found_object(path: str, info: dict[str, Any]) -> Found:
    return Found(path, info["size"], _etag(info), info["LastModified"])


def _version(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"


def _etag(info: dict[str, Any]) -> str:
    return f"{info['size']}-{info['ETag']}".replace('"', "")


@dataclass(frozen=True)
class Stretch:
    """Where bytes of a file lie: another process reads them there, rather than being sent them."""

    path: str
    offset: int
    size: int
    version: str

    def read(self) -> memoryview:
        """
        :return: the bytes; they stay until this thread reads the next stretch.
        :raises ReadFailed: the file is gone, or another one now.
        """
        content = memoryview(space(self.size))[: self.size]
        try:
            with open(self.path, "rb", buffering=0) as file:  # noqa: PTH123
                read = os.preadv(file.fileno(), [content], self.offset)
                if read < self.size or _version(os.fstat(file.fileno())) != self.version:
                    raise _Changed
        except (OSError, _Changed) as error:
            raise _told(error, self.path) from error
        return content


class _Space(threading.local):
    content = bytearray()


_space = _Space()


def space(size: int) -> bytearray:
    """:return: so many bytes or more, the same ones for this thread: others cost more than what is read into them."""
    if len(_space.content) < size:
        _space.content = bytearray(size)
    return _space.content


def stretch_of(stream: io.BufferedReader, offset: int, size: int) -> Stretch | None:
    """:return: None: the stream is no plain local file."""
    if not isinstance(stream.raw, io.FileIO) or not stream.seekable():
        return None
    return Stretch(os.fsdecode(stream.raw.name), offset, size, _version(os.fstat(stream.fileno())))


def is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def read_object(fs: Any, found: Found, name: str, read: Reader, columns: Columns) -> Iterator[Block]:
    """
    :raises BadInput: the object cannot be read, now or later.
    :raises ReadFailed: it is not what was listed any more, or the way to it is broken.
    """
    try:
        with _opened(fs, found) as raw, _decompressed(raw) as stream:
            if stream.peek(1):
                yield from read(stream, name, columns)
            else:
                yield Parsed(batch_of([BadRow(0, "empty file")], columns))
        _check_unchanged(fs, found)
    except Exception as error:
        raise _told(_after(error, fs, found), name) from error


class _Changed(Exception):
    """The object is another one than was listed."""


@contextmanager
def _opened(fs: Any, found: Found) -> Iterator[io.BufferedReader]:
    if is_local(fs):
        with open(found.path, "rb") as file:  # noqa: PTH123
            yield file
        return
    with fs.open(found.path, "rb", block_size=part.BLOCK_BYTES) as remote:
        # from here on S3 answers on the condition that the ETag is this one
        if _etag(remote.details) != found.version:
            raise _Changed
        yield io.BufferedReader(remote)


def _check_unchanged(fs: Any, found: Found) -> None:
    if is_local(fs) and _version(os.stat(found.path)) != found.version:  # noqa: PTH116
        raise _Changed


def _after(error: Exception, fs: Any, found: Found) -> Exception:
    """:return: what is to be told: half of a file that is being written is no bad file."""
    try:
        _check_unchanged(fs, found)
    except (_Changed, FileNotFoundError) as changed:
        return changed
    return error


@contextmanager
def _decompressed(raw: io.BufferedReader) -> Iterator[io.BufferedReader]:
    import pyarrow

    head = raw.read(4)
    raw.seek(0)
    compression = next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
    if compression is None:
        yield raw
    else:
        stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), compression)
        yield io.BufferedReader(stream, buffer_size=1 << 16)


def _told(error: Exception, name: str) -> Exception:
    if isinstance(error, BadInput):
        return error
    if isinstance(error, UnicodeError):
        return BadInput(f"{name}: {error}")
    if why := refusal(error):
        return BadInput(f"{name}: {why}")
    if isinstance(error, PermissionError):
        return BadInput(f"{name}: not allowed to read it ({error}). Check the file's mode.")
    # pyarrow's decompressors raise this bare OSError for a stream that is damaged or ends too early
    if type(error) is OSError and error.errno is None:
        return BadInput(f"{name}: damaged or cut off ({error}). No snapshot was made. Copy the file again.")
    # s3fs tells by this that the ETag is another one
    if isinstance(error, _Changed) or type(error).__name__ == "FileExpired":
        return ReadFailed(f"{name}: it changed since the source was listed. No snapshot was made. Try again.")
    if isinstance(error, FileNotFoundError):
        return ReadFailed(f"{name}: it is gone since the source was listed. No snapshot was made. Try again.")
    return ReadFailed(f"{name}: reading failed ({type(error).__name__}: {error}). No snapshot was made. Try again.")
