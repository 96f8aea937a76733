"""The survey stage, as far as a trigger sees it: names, versions and lines of a folder against what was read of it."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from training.contract import SurveyResult

UNFINISHED = (".tmp", ".part")


def _listed(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix not in UNFINISHED}


class FolderSurvey:
    """A file called ``broken.jsonl`` cannot be read; ``outcome`` is raised if it is an exception."""

    outcome: Exception | None = None
    last_request = None

    def __init__(self, stage, request, *, work, **options):
        assert stage == "survey"
        type(self).last_request = self.request = request
        self.directory = work / "requests" / "survey"

    @staticmethod
    def version(path: Path) -> str:
        return f"{path.stat().st_size}-{path.stat().st_mtime_ns}"

    def run(self, log, timeout=None):
        if self.outcome is not None:
            raise self.outcome
        read = json.loads(Path(self.request.watermark).read_text()) if self.request.watermark else {}
        listed = _listed(Path(self.request.reading.source))
        waiting = {name: path for name, path in listed.items() if read.get(name) != self.version(path)}
        removed = sorted(set(read) - set(listed)) if self.request.removed == "drop" else []
        rows = {name: len(path.read_text().splitlines()) for name, path in waiting.items() if name != "broken.jsonl"}
        versions = [*(f"{name} {self.version(path)}" for name, path in waiting.items()), *removed]
        newest = max((path.stat().st_mtime for path in waiting.values()), default=None)
        result = SurveyResult(
            objects=len(versions),
            rows=sum(rows.values()),
            emptied=len(removed),
            broken=len(waiting) - len(rows),
            bytes=0,
            digest=hashlib.sha256("\n".join(versions).encode()).hexdigest() if versions else "",
            newest=None if newest is None else datetime.fromtimestamp(newest, UTC).isoformat(),
            examples=[*waiting, *removed][:5],
            counted={f"{self.version(waiting[name])} {name}": count for name, count in rows.items()},
        )
        return json.loads(result.to_json())

    def stop(self):
        pass


def take_in(folder: Path, store) -> str:
    """Do what an ingest does to the watermark. :return: where it is."""
    read = {name: FolderSurvey.version(path) for name, path in _listed(folder).items()}
    content = json.dumps(read).encode()
    key = f"watermarks/{hashlib.sha256(content).hexdigest()}/manifest.json"
    return store.write_bytes(key, content).removeprefix("file://")
