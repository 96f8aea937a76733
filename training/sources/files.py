"""Find and open files: one, a folder or a glob, local or in S3, plain or compressed."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from training.contract import BadInput
from training.credentials import refusal
from training.sources.delimited import read_delimited
from training.sources.jsonl import read_jsonl
from training.sources.parquet import read_parquet
from training.sources.part import BadRow, Columns, Part, Row, Source
from training.store import for_fsspec

log = logging.getLogger(__name__)

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
READERS: dict[str, Callable[[io.BufferedReader, str, Columns], Iterator[Row | BadRow]]] = {
    "csv": partial(read_delimited, delimiter=","),
    "tsv": partial(read_delimited, delimiter="\t"),
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}
COMPRESSIONS = (".gz", ".zst")  # in a name only to be looked through; what a file really is, its first bytes say
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
UNFINISHED = ("*~", "*.tmp", "*.part", "*.partial", "*.crdownload", "*.swp")
SYSTEM = ("/proc", "/dev", "/sys")  # what runs on the machine and how, secrets of this very process included


class Found(NamedTuple):
    path: str
    size: int


def open_files(uri: str, file_format: str | None) -> Source:
    """:raises BadInput: no file is there, or one of an unknown format."""
    import fsspec

    path = for_fsspec(uri)
    if "://" in path:
        fs, pattern = fsspec.core.url_to_fs(path)
    else:  # not url_to_fs: it takes "simplecache::name" for another file system, not for the name of a file
        fs, pattern = fsspec.filesystem("file"), str(Path(path).expanduser().absolute())
    fs.invalidate_cache()  # a listing of this process may be older than the files
    try:
        found = _find(fs, pattern, uri, file_format)
    except Exception as error:
        if why := refusal(error):
            raise BadInput(f"{uri}: {why}") from error
        if isinstance(error, PermissionError):
            raise BadInput(f"{uri}: not allowed to read it ({error}). Check the file's mode.") from error
        raise
    parts = []
    for file in found:
        if _is_local(fs):
            _check_is_data(file.path)
        name = file.path if _is_local(fs) else fs.unstrip_protocol(file.path)
        kind = file_format or _format_of(file.path)
        if kind is None:
            raise BadInput(
                f"{name}: the name does not say which format this is. "
                f"Known endings: {', '.join(FORMATS)}, each also with .gz or .zst; otherwise give the format."
            )
        parts.append(Part(name, partial(_read, fs, file, name, kind), file.size))
    return Source(parts, {"uri": uri, "files": len(parts), "bytes": sum(file.size for file in found)})


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def _check_is_data(path: str) -> None:
    """:raises BadInput: by whatever link, this is the system's and no file that somebody put there."""
    real = Path(path).resolve()
    if any(real.is_relative_to(place) for place in SYSTEM):
        raise BadInput(
            f"{path} is {real}: below {', '.join(SYSTEM)} there is no data. Nothing was read. Name a file elsewhere."
        )


def _find(fs: Any, pattern: str, uri: str, file_format: str | None) -> list[Found]:
    if fs.isfile(pattern):  # before the glob: a file may have brackets in its name
        return [Found(pattern, fs.size(pattern))]
    is_folder = fs.isdir(pattern)
    listed = fs.find(pattern, detail=True) if is_folder else fs.glob(pattern, detail=True)
    files = {path: info for path, info in sorted(listed.items()) if info["type"] == "file"}
    base = PurePosixPath(pattern) if is_folder else None
    found, passed_over = [], []
    for path, info in files.items():
        relative = PurePosixPath(path).relative_to(base) if base else PurePosixPath(PurePosixPath(path).name)
        # other people's folders hold READMEs and markers; in a glob the user asked for exactly these names
        unknown = is_folder and not file_format and _format_of(path) is None
        if _is_hidden(relative) or unknown:
            passed_over.append(relative.as_posix())
        else:
            found.append(Found(path, info["size"]))
    if passed_over:
        shown = ", ".join(passed_over[:5]) + (", ..." if len(passed_over) > 5 else "")
        log.info("%s: %d files passed over (hidden, unfinished or no data): %s", uri, len(passed_over), shown)
    if not found:
        what = f"holds no data file ({len(files)} other files)" if files else "matches no file"
        raise BadInput(f"{uri} {what}. Check the path; known endings: {', '.join(FORMATS)}, also with .gz or .zst.")
    return found


def _is_hidden(relative: PurePosixPath) -> bool:
    """Hidden, or not finished by whoever writes it; Spark and Hadoop begin such names with an underscore."""
    return any(part.startswith((".", "_")) for part in relative.parts) or any(
        fnmatch(relative.name, pattern) for pattern in UNFINISHED
    )


def _format_of(path: str) -> str | None:
    name = PurePosixPath(path.lower())
    return FORMATS.get((name.with_suffix("") if name.suffix in COMPRESSIONS else name).suffix)


def _read(fs: Any, file: Found, name: str, kind: str, columns: Columns) -> Iterator[Row | BadRow]:
    try:
        with _opened(fs, file.path) as stream:
            if not stream.peek(1):
                yield BadRow(0, "empty file")
                return
            yield from READERS[kind](stream, name, columns)
    except UnicodeError as error:
        raise BadInput(f"{name}: {error}") from error
    except (FileNotFoundError, PermissionError) as error:
        if why := refusal(error):
            raise BadInput(f"{name}: {why}") from error
        raise BadInput(f"{name}: it was there a moment ago and cannot be opened now ({error}).") from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:  # the disk or the network, not the file
            raise
        # pyarrow's decompressors raise this bare OSError for a stream that is damaged or ends too early
        raise BadInput(f"{name}: damaged or cut off ({error}). No snapshot was made. Copy the file again.") from error


@contextmanager
def _opened(fs: Any, path: str) -> Iterator[io.BufferedReader]:
    """:return: the file's content, decompressed if need be."""
    import pyarrow

    with Path(path).open("rb") if _is_local(fs) else io.BufferedReader(fs.open(path, "rb")) as raw:
        head = raw.read(4)
        raw.seek(0)
        compression = next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
        if compression is None:
            yield raw
        else:
            stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), compression)
            yield io.BufferedReader(stream, buffer_size=1 << 16)
