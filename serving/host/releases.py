"""Bring a release named by a URI onto the local disk and check that it is the one that was asked for."""

from __future__ import annotations

import shutil
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from serving.release import BadRelease, Release, read_release


class ReleaseCache:
    """Releases from object stores, copied to ``releases/DIGEST`` below the host's state directory."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "releases"
        self.directory.mkdir(parents=True, exist_ok=True)
        for unfinished in self.directory.glob(".part-*"):
            shutil.rmtree(unfinished)

    def fetch(self, uri: str, digest: str) -> Release:
        """
        Blocks: hashes every file, and copies them first when they are not local.

        :raises BadRelease: the URI cannot be read, or what is there is damaged or another release.
        """
        scheme = urllib.parse.urlsplit(uri).scheme
        if scheme == "file":
            release = read_release(Path(urllib.request.url2pathname(urllib.parse.urlsplit(uri).path)))
        elif scheme == "s3":
            release = self._copy(uri, digest)
        else:
            raise BadRelease(f"{uri}: a release is named by a file:// or s3:// URI.")
        if release.digest != digest:
            raise BadRelease(f"{uri} holds release {release.digest}; {digest} was asked for.")
        return release

    def _copy(self, uri: str, digest: str) -> Release:
        import fsspec  # its S3 half takes a second to import

        target = self.directory / digest
        if target.is_dir():
            try:
                return read_release(target)
            except BadRelease:  # the copy has rotted; the origin may be whole
                shutil.rmtree(target)
        part = Path(tempfile.mkdtemp(dir=self.directory, prefix=".part-"))
        try:
            try:
                fs, path = fsspec.core.url_to_fs(uri)
                fs.get(path.rstrip("/") + "/", f"{part}/", recursive=True)
            except Exception as error:  # each client of an object store has exceptions of its own
                raise BadRelease(f"{uri} cannot be copied: {type(error).__name__}: {error}") from error
            release = read_release(part)
            if release.digest != digest:
                raise BadRelease(f"{uri} holds release {release.digest}; {digest} was asked for.")
            part.replace(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return read_release(target)

    def prune(self, keep: set[str]) -> None:
        """Remove copies whose digest no endpoint refers to."""
        for copy in self.directory.iterdir():
            if copy.name not in keep and not copy.name.startswith(".part-"):
                shutil.rmtree(copy, ignore_errors=True)
