"""Remember endpoints across restarts: one JSON file each, replaced by atomic rename."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

log = logging.getLogger(__name__)

DeploymentStatus = Literal["starting", "testing", "switching", "done", "failed"]


@dataclass(frozen=True)
class Deployed:
    """A release that serves, or served, on an endpoint."""

    release: str  # URI
    digest: str
    model_digest: str


@dataclass(frozen=True)
class Deployment:
    """The latest attempt to put a release on an endpoint."""

    release: str  # URI
    digest: str
    status: DeploymentStatus
    error: str | None = None

    @property
    def under_way(self) -> bool:
        return self.status not in ("done", "failed")


@dataclass(frozen=True)
class EndpointRecord:
    """What survives the host. ``live`` is what must serve; it changes only after a verified switch."""

    name: str
    port: int
    live: Deployed | None = None
    previous: Deployed | None = None
    deployment: Deployment | None = None
    owner: str | None = None  # the registered model whose releases alone go here


class StateDirectory:
    """``endpoints/NAME.json`` below the host's state directory."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "endpoints"
        self.directory.mkdir(parents=True, exist_ok=True)

    def load(self) -> list[EndpointRecord]:
        """
        Read every record. A deployment that was under way when the host ended is done if its release is live, else
        failed.

        A file that cannot be read is moved aside, so that it does not keep the other endpoints down.
        """
        records = []
        for path in sorted(self.directory.glob("*.json")):
            try:
                record = _from_json(json.loads(path.read_text()))
            except (ValueError, KeyError, TypeError) as error:
                aside = path.with_suffix(".damaged")
                path.replace(aside)
                log.error("%s cannot be read (%s); moved to %s. Deploy the endpoint again.", path, error, aside.name)
                continue
            if record.deployment is not None and record.deployment.under_way:
                record = dataclasses.replace(record, deployment=_ended(record.deployment, record.live))
            records.append(record)
        return records

    def save(self, record: EndpointRecord) -> None:
        """Replace the endpoint's file: a crash leaves the old one or the new one."""
        content = json.dumps(dataclasses.asdict(record), indent=2, sort_keys=True) + "\n"
        with tempfile.NamedTemporaryFile("w", dir=self.directory, prefix=".part-", delete=False) as file:
            part = Path(file.name)
            try:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                part.replace(self.directory / f"{record.name}.json")
            except BaseException:
                part.unlink(missing_ok=True)
                raise

    def forget(self, name: str) -> None:
        (self.directory / f"{name}.json").unlink(missing_ok=True)


def _ended(deployment: Deployment, live: Deployed | None) -> Deployment:
    if live is not None and live.digest == deployment.digest:
        return dataclasses.replace(deployment, status="done")
    error = "interrupted: the endpoint host stopped; deploy again."
    return dataclasses.replace(deployment, status="failed", error=error)


def _from_json(values: dict[str, Any]) -> EndpointRecord:
    return EndpointRecord(
        name=str(values["name"]),
        port=int(values["port"]),
        live=Deployed(**values["live"]) if values["live"] else None,
        previous=Deployed(**values["previous"]) if values["previous"] else None,
        deployment=Deployment(**values["deployment"]) if values["deployment"] else None,
        owner=values.get("owner"),  # which a file from before there were owners lacks
    )
