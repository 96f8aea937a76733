"""Find and open files: one, a folder or a glob, local or in S3, plain or compressed."""

from __future__ import annotations

import errno
import logging
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import Any

from training.contract import BadInput
from training.credentials import refusal
from training.sources.arrow import read_arrow
from training.sources.bucket import connection_options
from training.sources.delimited import read_delimited
from training.sources.jsonl import read_jsonl
from training.sources.objects import Found, Reader, found_file, found_object, is_local, read_object
from training.sources.parquet import read_parquet
from training.sources.part import NothingThere, Part, ReadFailed, Source
from training.store import for_fsspec

log = logging.getLogger(__name__)

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
}
READERS: dict[str, Reader] = {
    "csv": partial(read_delimited, delimiter=","),
    "tsv": partial(read_delimited, delimiter="\t"),
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
COMPRESSIONS = (".gz", ".zst")  # in a name only to be looked through; what a file really is, its first bytes say
UNFINISHED = ("~", ".tmp", ".part", ".partial", ".crdownload", ".swp")
SYSTEM = ("/proc", "/dev", "/sys")  # what runs on the machine and how, secrets of this very process included


def open_files(uri: str, file_format: str | None) -> Source:
    """
    :raises NothingThere: no file is there. :raises BadInput: one is of an unknown format.
    :raises ReadFailed: the source cannot be listed now.
    """
    import fsspec

    path = for_fsspec(uri)
    if "://" in path:
        fs, pattern = fsspec.core.url_to_fs(path, **(connection_options() if path.startswith("s3://") else {}))
    else:  # not url_to_fs: it takes "simplecache::name" for another file system, not for the name of a file
        fs, pattern = fsspec.filesystem("file"), str(Path(path).expanduser().absolute())
    fs.invalidate_cache()  # a listing of this process may be older than the files
    with _listing(uri):
        found = _find(fs, pattern, uri, file_format)
    parts = []
    for file in found:
        if is_local(fs):
            _check_is_data(file.path)
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in file.path):
            raise BadInput(
                f"{file.path!a}: the name has control characters, or bytes that are no characters. Nothing was read. "
                "Rename the file, or name the others by a glob."
            )
        name = file.path if is_local(fs) else fs.unstrip_protocol(file.path)
        kind = file_format or _format_of(file.path)
        if kind is None:
            raise BadInput(
                f"{name}: the name does not say which format this is. "
                f"Known endings: {', '.join(FORMATS)}, each also with .gz or .zst; otherwise give the format."
            )
        read = partial(read_object, fs, file, name, READERS[kind])
        parts.append(Part(name, file.version, read, bytes=file.size, modified=file.modified))
    return Source(parts, {"uri": uri, "files": len(parts), "bytes": sum(file.size for file in found)})


@contextmanager
def _listing(uri: str) -> Iterator[None]:
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        if why := refusal(error):
            raise BadInput(f"{uri}: {why}") from error
        if isinstance(error, PermissionError):
            raise BadInput(f"{uri}: not allowed to read it ({error}). Check the file's mode.") from error
        if isinstance(error, OSError) and error.errno == errno.ELOOP:
            link = error.filename or uri
            raise BadInput(f"{link}: a link that leads back to itself. Nothing was read. Remove the link.") from error
        raise ReadFailed(
            f"{uri}: listing failed ({type(error).__name__}: {error}). Nothing was read. Try again."
        ) from error


def _check_is_data(path: str) -> None:
    """:raises BadInput: by whatever link, this is the system's and no file that somebody put there."""
    real = Path(path).resolve()
    if any(real.is_relative_to(place) for place in SYSTEM):
        raise BadInput(
            f"{path} is {real}: below {', '.join(SYSTEM)} there is no data. Nothing was read. Name a file elsewhere."
        )


def _find(fs: Any, pattern: str, uri: str, file_format: str | None) -> list[Found]:
    named = _named(fs, pattern)
    is_folder = named is not None and named["type"] == "directory"
    if named is None:
        listed = fs.glob(pattern, detail=True)
    else:
        listed = fs.find(pattern, detail=True) if is_folder else {pattern: named}
    found, passed_over = [], []
    for path, info in sorted(listed.items()):
        relative = path[len(pattern) :].lstrip("/") if is_folder else path.rpartition("/")[2]
        # other people's folders hold READMEs and markers; in a glob the user asked for exactly these names
        unknown = is_folder and not file_format and _format_of(path) is None
        hidden = (is_folder or named is None) and _is_hidden(relative)
        one = None if unknown or hidden else _found(fs, path, info)
        if one is not None:
            found.append(one)
        elif info["type"] != "directory":
            passed_over.append(relative)
    if passed_over:
        shown = ", ".join(passed_over[:5]) + (", ..." if len(passed_over) > 5 else "")
        log.info("%s: %d files passed over (hidden, unfinished or no data): %s", uri, len(passed_over), shown)
    if not found:
        what = f"holds no data file ({len(passed_over)} other files)" if passed_over else "matches no file"
        raise NothingThere(f"{uri} {what}. Check the path; known endings: {', '.join(FORMATS)}, also with .gz or .zst.")
    return found


def _named(fs: Any, pattern: str) -> dict[str, Any] | None:
    """:return: the file or folder of exactly this name, which may have brackets in it; None: there is none."""
    try:
        return dict(fs.info(pattern))
    except FileNotFoundError:
        return None
    except OSError as error:
        if not (isinstance(error, PermissionError) or refusal(error)):
            raise
        if has_magic(pattern):  # S3 may forbid to ask for a name that nothing has
            return None
        with suppress(FileNotFoundError):
            fs.ls(pattern)  # only to this does S3 answer with what it refuses
        raise


def _found(fs: Any, path: str, info: dict[str, Any]) -> Found | None:
    """:return: None: no file, or none any more."""
    if not is_local(fs):
        return found_object(path, info) if info["type"] == "file" else None
    try:
        status = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
    return found_file(path, status) if stat.S_ISREG(status.st_mode) else None


def _is_hidden(relative: str) -> bool:
    """Hidden, or not finished by whoever writes it; Spark and Hadoop begin such names with an underscore."""
    return relative.startswith((".", "_")) or "/." in relative or "/_" in relative or relative.endswith(UNFINISHED)


def _format_of(path: str) -> str | None:
    name = path.lower()
    if name.endswith(COMPRESSIONS):
        name = name.rpartition(".")[0]
    return FORMATS.get("." + name.rpartition(".")[2])
