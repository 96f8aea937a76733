"""Write immutable objects and small records to the store: one root, ``file://`` or ``s3://``, through fsspec."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from training.contract import BadInput
from training.scratch import scratch_directory

MANIFEST = "manifest.json"
PART = ".part-"  # begins the name of a file that is not finished


def local_path(uri: str) -> Path:
    """:return: the path that a ``file://`` URI names."""
    return Path(unquote(uri.removeprefix("file://")))


def for_fsspec(location: str) -> str:
    """:return: a path or URI as fsspec takes it: it does not decode a ``file://`` URI."""
    return str(local_path(location)) if location.startswith("file://") else location


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of_files(files: Mapping[str, str]) -> str:
    """:param files: relative path to SHA-256. :return: one digest over all of them, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]}\n".encode())
    return digest.hexdigest()


def hash_tree(directory: Path, *, leave_out: Iterable[str] = (MANIFEST,)) -> dict[str, str]:
    """:return: relative path to SHA-256 of every finished file below ``directory``."""
    left_out = set(leave_out)
    return {
        name: sha256_file(path)
        for path in sorted(directory.rglob("*"))
        if not path.name.startswith(PART)
        and path.is_file()
        and (name := path.relative_to(directory).as_posix()) not in left_out
    }


def _exists_already(error: OSError) -> bool:
    """:return: whether S3 refused to write since the object is there, or is being written; s3fs knows AWS's answer."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict")


@contextmanager
def _part_of(target: Path) -> Iterator[BinaryIO]:
    """
    A file beside ``target`` to be written and then moved or linked there by its ``name``; otherwise it goes again.

    It is locked while somebody writes it, which tells it from what a killed process left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        part = target.with_name(f"{PART}{uuid.uuid4().hex}-{target.name}")
        with part.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not part.exists():
                continue  # before it was locked, another process took it for abandoned
            try:
                yield file
            finally:
                part.unlink(missing_ok=True)
            return


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())  # a manifest must not survive a power cut that its files did not


def _remove_abandoned_parts(directory: Path) -> None:
    for part in directory.rglob(f"{PART}*"):
        with suppress(FileNotFoundError), part.open("rb") as file:  # its writer may finish at this moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            part.unlink(missing_ok=True)


@dataclass(frozen=True)
class StoredFile:
    """A file of a store, unfinished ones too."""

    key: str
    bytes: int
    modified: datetime


class Store:
    """
    The place where everything that is made is kept. Keys are relative paths with ``/``.

    A directory is complete when its manifest is there; a reader never sees half a file.
    """

    def __init__(self, root: str, *, read_only: bool = False) -> None:
        """
        :param root: a path, a ``file://`` URI, quoted or not, or an ``s3://`` URI.
        :param read_only: whatever would be written or removed is left as it is, and nothing is said.
        """
        import fsspec

        self.read_only = read_only

        self.is_local = "://" not in root or root.startswith("file://")
        if self.is_local:
            path = Path(for_fsspec(root) if "://" in root else root).absolute()
            self.root = path.as_uri()
            self.fs, self._path = fsspec.filesystem("file"), str(path)
        else:
            self.root = root.rstrip("/")
            self.fs, self._path = fsspec.core.url_to_fs(self.root)

    def uri(self, key: str) -> str:
        """:return: ``file://`` with the path percent-encoded, or ``s3://`` as it is."""
        return f"{self.root}/{quote(key) if self.is_local else key}"

    def key(self, uri: str) -> str:
        """:raises BadInput: ``uri`` lies outside this store."""
        root, found = (self._path, for_fsspec(uri)) if self.is_local else (self.root, uri)
        if not found.startswith(root.rstrip("/") + "/"):
            raise BadInput(f"{uri} is not in the store {self.root}.")
        return found[len(root.rstrip("/")) + 1 :]

    def _full(self, key: str) -> str:
        return f"{self._path.rstrip('/')}/{key}"

    def duckdb_path(self, key: str) -> str:
        """:return: what DuckDB calls the file; one in an object store it reads through ``fs``."""
        return self._full(key) if self.is_local else self.uri(key)

    def exists(self, key: str) -> bool:
        return bool(self.fs.exists(self._full(key)))

    def open(self, key: str) -> BinaryIO:
        """:return: the content of one file, for a ``with`` statement."""
        self.fs.invalidate_cache()
        return self.fs.open(self._full(key), "rb")

    def read_json(self, key: str) -> Any:
        """:raises FileNotFoundError: nothing is there."""
        self.fs.invalidate_cache()
        return json.loads(self.fs.cat_file(self._full(key)))

    def write_json(self, key: str, value: Any) -> str:
        """Replace one record: a reader sees the old one or the new one. :return: its URI."""
        return self.write_bytes(key, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())

    def write_bytes(self, key: str, content: bytes) -> str:
        path = self._full(key)
        if self.read_only:
            return self.uri(key)
        if self.is_local:
            with _part_of(Path(path)) as file:
                file.write(content)
                _to_disk(file)
                Path(file.name).replace(path)
        else:
            self.fs.pipe_file(path, content)  # an object store shows an object only when it is whole
        return self.uri(key)

    def create_json(self, key: str, value: Any) -> str:
        """
        Write a record that must not exist yet; of two writers one wins.

        :raises FileExistsError: somebody was first.
        """
        content = (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
        path = self._full(key)
        if self.read_only:
            return self.uri(key)
        if not self.is_local:
            try:
                self.fs.pipe_file(path, content, mode="create")  # s3fs: If-None-Match
            except OSError as error:
                if _exists_already(error):
                    raise FileExistsError(self.uri(key)) from error
                raise
            return self.uri(key)
        with _part_of(Path(path)) as file:
            file.write(content)
            _to_disk(file)
            os.link(file.name, path)  # fails if it exists, and never shows half a file
        return self.uri(key)

    def list(self, prefix: str) -> list[str]:
        """:return: keys directly below ``prefix``, sorted; unfinished files left out."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self._full(prefix), detail=False)
        except FileNotFoundError:
            return []
        names = sorted(Path(path).name for path in found)
        return [f"{prefix}/{name}" for name in names if not name.startswith(PART)]

    def files(self, prefix: str) -> Iterator[StoredFile]:
        """:return: every file below ``prefix``, those that are not finished too."""
        self.fs.invalidate_cache()
        root = len(self._full(""))
        for path, info in self.fs.find(self._full(prefix), detail=True).items():
            written = datetime.fromtimestamp(info["mtime"], UTC) if self.is_local else info["LastModified"]
            yield StoredFile(path[root:], info["size"], written)

    def is_complete(self, key: str, manifest: str = MANIFEST) -> bool:
        self.fs.invalidate_cache()
        return self.exists(f"{key}/{manifest}")

    def is_intact(self, key: str, manifest: str = MANIFEST) -> bool:
        """:return: whether the directory is complete and, where that costs no download, its files are as recorded."""
        try:
            files = self.read_json(f"{key}/{manifest}")["files"]
            directory = Path(self._full(key))
            return not self.is_local or all(sha256_file(directory / name) == files[name] for name in files)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def put_directory(
        self,
        local: Path,
        key: str,
        manifest: Mapping[str, Any],
        manifest_name: str = MANIFEST,
        *,
        overwrite: bool = False,
        move: bool = False,
    ) -> str:
        """
        Copy a directory and then write its manifest. Safe to repeat: an unfinished copy is overwritten.

        :param overwrite: write a complete directory again as well, file by file, with what must be the same content.
        :param move: the files need not stay where they are; within one file system none is copied.
        :return: the directory's URI.
        """
        if not self.read_only and (overwrite or not self.is_complete(key, manifest_name)):
            if self.is_local:
                _remove_abandoned_parts(Path(self._full(key)))
            for path in sorted(local.rglob("*")):
                if path.is_file() and path.relative_to(local).as_posix() != manifest_name:
                    self._put_file(path, f"{key}/{path.relative_to(local).as_posix()}", move=move)
            self.write_json(f"{key}/{manifest_name}", manifest)
        return self.uri(key)

    def _put_file(self, local: Path, key: str, *, move: bool = False) -> None:
        if not self.is_local:
            self.fs.put_file(str(local), self._full(key))
            return
        target = Path(self._full(key))
        if move and local.stat().st_dev == self._device():
            target.parent.mkdir(parents=True, exist_ok=True)
            with local.open("rb+") as file:
                _to_disk(file)
            local.replace(target)
            return
        with _part_of(target) as part, local.open("rb") as file:
            shutil.copyfileobj(file, part, 1 << 20)
            _to_disk(part)
            Path(part.name).replace(target)

    def put_file(self, local: Path, key: str) -> None:
        """Replace one file; the local one may be moved there. A reader sees the old one or the new one."""
        if not self.read_only:
            self._put_file(local, key, move=True)

    def remove(self, key: str) -> None:
        """Remove one file. Safe to repeat."""
        if not self.read_only:
            with suppress(FileNotFoundError):
                self.fs.rm_file(self._full(key))

    def remove_directory(self, key: str, manifest: str = MANIFEST) -> None:
        """Remove a directory, its manifest first: what a killed removal leaves is incomplete. Safe to repeat."""
        self.remove(f"{key}/{manifest}")
        if not self.read_only:
            with suppress(FileNotFoundError):
                self.fs.rm(self._full(key), recursive=True)

    def remove_abandoned_parts(self) -> None:
        """Remove what killed processes left unfinished in a local store; an object store keeps no half file."""
        if self.is_local and not self.read_only:
            _remove_abandoned_parts(Path(self._path))

    def _device(self) -> int:
        root = Path(self._path)
        root.mkdir(parents=True, exist_ok=True)
        return root.stat().st_dev

    @contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """
        A directory to prepare files in, gone afterwards: beside the store, so that they can be moved there.

        :raises BadInput: the place cannot be written.
        """
        beside = self.is_local and not self.read_only
        with scratch_directory(prefix, Path(self._path) / "scratch" if beside else None) as made:
            yield made

    def local_directory(self, key: str, cache: Path, manifest: str = MANIFEST) -> Path:
        """
        A local path that holds the directory: the directory itself, or a copy under ``cache``.

        :raises BadInput: the directory is missing or unfinished.
        """
        target = Path(self._full(key))
        if not self.is_local:
            target = cache / hashlib.sha256(self.uri(key).encode()).hexdigest()[:16]
            if (target / manifest).exists():
                return target
        if not self.is_complete(key, manifest):
            raise BadInput(f"{self.uri(key)} is missing or unfinished. Run the step that makes it again.")
        if not self.is_local:
            self._download(key, target)
        return target

    def _download(self, key: str, target: Path) -> None:
        part = target.with_name(f"{PART}{uuid.uuid4().hex}")
        part.mkdir(parents=True)
        try:
            self.fs.get(self._full(key).rstrip("/") + "/", f"{part}/", recursive=True)
            try:
                part.rename(target)
            except OSError:  # another process was faster, with the same content
                if not target.is_dir():
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
