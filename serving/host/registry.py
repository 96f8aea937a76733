"""Find, create and remove the endpoints of one host."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Literal

from serving.host.endpoint import Endpoint, HostSettings
from serving.host.releases import ReleaseCache
from serving.host.state import EndpointRecord, StateDirectory

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

Outcome = Literal["live", "started", "joined"]


class StateInUse(Exception):
    """Another host works on the same state directory."""


class Busy(Exception):
    """Another release is being deployed on the endpoint."""


class NotTheOwner(Exception):
    """The endpoint belongs to another registered model."""


class Registry:
    """All endpoints by name. One host at a time works on a state directory."""

    def __init__(self, root: Path, *, host: str, token: str) -> None:
        """:raises StateInUse: nothing was touched."""
        root.mkdir(parents=True, exist_ok=True)
        self._lock = (root / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateInUse(
                f"{root} is in use by another endpoint host; stop it or choose another --state."
            ) from error
        self.state, self.cache = StateDirectory(root), ReleaseCache(root)
        self.settings = HostSettings(host, root / "logs", token)
        self.endpoints: dict[str, Endpoint] = {}
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by name: one put or delete at once

    def restore(self) -> None:
        """Open every endpoint that the state directory knows."""
        for record in self.state.load():
            self._open(record)

    def _open(self, record: EndpointRecord) -> Endpoint:
        endpoint = Endpoint(record, self.state, self.cache, self.settings)
        self.endpoints[record.name] = endpoint
        endpoint.open()
        return endpoint

    async def put(self, name: str, uri: str, digest: str, owner: str | None = None) -> Outcome:
        """
        Have ``name`` serve a release: create the endpoint if there is none, and deploy unless that is live already.

        :param owner: the registered model that the release is a version of; the first one keeps the endpoint. None: no
            registered model's.
        :raises NotTheOwner: the endpoint is another model's.
        :raises Busy: another release is being deployed there.
        """
        async with self._changing[name]:
            endpoint = self.endpoints.get(name) or self._open(EndpointRecord(name=name, port=0, owner=owner))
            if endpoint.record.owner is None and owner is not None:
                endpoint.give_to(owner)
            elif endpoint.record.owner != owner:
                raise NotTheOwner(
                    f"{name!r} belongs to the registered model {endpoint.record.owner!r}; nothing was changed. "
                    f"Deploy to another endpoint, or free this one first: DELETE /endpoints/{name}."
                )
            if (deploying := endpoint.deploying) is not None:
                if deploying.digest == digest:
                    return "joined"
                raise Busy(f"{name!r} is deploying {deploying.digest} ({deploying.status}); try again when it is done.")
            if await endpoint.serves(digest):
                return "live"
            endpoint.deploy(uri, digest)
            self.cache.prune(self._referenced())
            return "started"

    async def delete(self, name: str) -> None:
        """:raises KeyError: there is no such endpoint."""
        async with self._changing[name]:
            endpoint = self.endpoints.pop(name)
            await endpoint.close()
            self.state.forget(name)
            shutil.rmtree(endpoint.logs, ignore_errors=True)
            self.cache.prune(self._referenced())

    def _referenced(self) -> set[str]:
        records = [endpoint.record for endpoint in self.endpoints.values()]
        return {part.digest for record in records for part in (record.live, record.previous, record.deployment) if part}

    async def close(self) -> None:
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints.values()))
        self._lock.close()
