"""Read a release directory and refuse one that is damaged or incomplete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "release.json"
GOLDEN = "golden.json"
RUNTIME = "openvino"
PART = ".part-"  # begins the name of a file that a killed process left unfinished


class BadRelease(Exception):
    """A release that must not serve. The message names the directory, the file and what is wrong with it."""


@dataclass(frozen=True)
class Golden:
    """
    Texts with the answers recorded when the model was evaluated.

    They test a release and are no part of what it answers: one may be taken out, and the release keeps its digest.
    ``golden.json`` therefore has a digest of its own.
    """

    texts: list[str]
    labels: list[str]  # the predicted label of each text
    scores: list[list[float]]  # (n_texts, n_labels), labels in the order of the ids


@dataclass(frozen=True)
class Release:
    """One release on the local disk whose files are those that ``release.json`` lists."""

    directory: Path
    digest: str
    model_digest: str
    labels: list[str]  # in the order of the ids
    max_length: int  # tokens; longer texts are cut, as in training
    runtime: str

    @property
    def model_xml(self) -> Path:
        return self.directory / "openvino" / "model.xml"

    @property
    def model_directory(self) -> Path:
        """The tokenizer and ``config.json``."""
        return self.directory / "model"

    def golden(self) -> Golden:
        """:raises BadRelease: there is no usable ``golden.json``."""
        path = self.directory / GOLDEN
        values = _read_golden(path)
        try:
            golden = Golden(list(values["texts"]), list(values["labels"]), [list(row) for row in values["scores"]])
        except (KeyError, TypeError) as error:
            raise BadRelease(f"{path}: no list under {error}; expected texts, labels and scores.") from error
        widths = {len(row) for row in golden.scores}
        is_one = golden.texts or values.get("forgotten")  # how many were taken out since
        if not is_one or not len(golden.texts) == len(golden.labels) == len(golden.scores):
            raise BadRelease(
                f"{path}: {len(golden.texts)} texts, {len(golden.labels)} labels, {len(golden.scores)} rows of scores; "
                "expected the same number of each and at least one."
            )
        if not widths <= {len(self.labels)} or not set(golden.labels) <= set(self.labels):
            raise BadRelease(f"{path}: labels or scores are not those of the release's {len(self.labels)} labels.")
        return golden


def read_release(directory: Path) -> Release:
    """
    Read a release and compare every file with the hashes it was made with; the golden examples with their own digest.

    :raises BadRelease: a file is missing, changed or extra, or the digest is not that of the files.
    """
    manifest = _read_object(directory / MANIFEST)
    where = directory / MANIFEST
    release = Release(
        directory=directory,
        digest=_value(manifest, "digest", str, where),
        model_digest=_value(manifest, "model_digest", str, where),
        labels=_value(manifest, "labels", list, where),
        max_length=_value(manifest, "max_length", int, where),
        runtime=_value(manifest, "runtime", str, where),
    )
    if release.runtime != RUNTIME:
        raise BadRelease(f"{where}: runtime {release.runtime!r} cannot be served here; known: {RUNTIME!r}.")
    if not release.labels or release.max_length < 1:
        raise BadRelease(
            f"{where}: {len(release.labels)} labels and max_length {release.max_length}; both must be > 0."
        )

    listed: Mapping[str, str] = _value(manifest, "files", dict, where)
    found = hash_files(directory)
    if GOLDEN not in listed:  # as it is in a release from before examples could be taken out
        found.pop(GOLDEN, None)
        _read_golden(directory / GOLDEN)
    problems = [f"{name} is missing" for name in sorted(set(listed) - set(found))]
    problems += [f"{name} is not listed" for name in sorted(set(found) - set(listed))]
    problems += [f"{name} has changed" for name in sorted(set(found) & set(listed)) if found[name] != listed[name]]
    if problems:
        raise BadRelease(f"{directory} is damaged: {'; '.join(problems)}. Package the model again.")
    digest = digest_of_files(found)
    if digest != release.digest:
        raise BadRelease(f"{where}: says digest {release.digest}, its files have {digest}. Package the model again.")
    return release


def digest_of_files(files: Mapping[str, str]) -> str:
    """:param files: relative path to SHA-256. :return: the digest that docs/architecture.md defines."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]}\n".encode())
    return digest.hexdigest()


def digest_of_golden(golden: Mapping[str, Any]) -> str:
    """:param golden: what ``golden.json`` holds beside the digest."""
    return hashlib.sha256(json.dumps(golden, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_files(directory: Path) -> dict[str, str]:
    """:return: relative path to SHA-256 of every finished file of a release but its manifest."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if not path.name.startswith(PART) and path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _read_golden(path: Path) -> dict[str, Any]:
    """:raises BadRelease: there are none, or they are not those that were recorded."""
    values = _read_object(path)
    recorded = values.pop("digest", None)  # None: a release from before they had one; release.json lists the file
    if recorded is not None and recorded != digest_of_golden(values):
        raise BadRelease(f"{path} has changed. Package the model again.")
    return values


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRelease(f"{path} cannot be read ({error.strerror}); this is no complete release.") from error
    except ValueError as error:
        raise BadRelease(f"{path} is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise BadRelease(f"{path} holds {type(value).__name__}; expected an object.")
    return value


def _value(manifest: Mapping[str, Any], key: str, kind: type, where: Path) -> Any:
    value = manifest.get(key)
    if not isinstance(value, kind):
        raise BadRelease(f"{where}: {key!r} is {type(value).__name__}; expected {kind.__name__}.")
    return value
