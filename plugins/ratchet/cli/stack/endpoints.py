"""Say which endpoints there are, where each answers, and what it serves."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from ratchet.cli.ask import ask
from ratchet.cli.stack.settings import Settings

ANSWER_SECONDS = 5  # of a server of this machine that is well; one that hangs must not hang whoever asks how it is


def endpoints(settings: Settings) -> list[tuple[str, str, str, str]] | None:
    """:return: name, state, address and model of each endpoint; None if the endpoint host does not answer."""
    token = settings.secrets["endpoint_token"]
    found = ask(f"{settings.url('endpoints')}/endpoints", token=token, timeout_seconds=ANSWER_SECONDS)
    if not isinstance(found, list):
        return None
    return [(each["name"], each["status"], each["url"], _serves(settings, each)) for each in found]


def _serves(settings: Settings, endpoint: dict[str, Any]) -> str:
    if not endpoint["digest"]:
        return "nothing"
    release = f"release {endpoint['digest'][:12]}"
    version = _version(settings, endpoint)
    return f"{version}, {release}" if version else release


def _version(settings: Settings, endpoint: dict[str, Any]) -> str | None:
    """:return: the newest registered version that was promoted with this release, else that has these weights."""
    for tag, digest in (("release", endpoint["digest"]), ("model_digest", endpoint["model_digest"])):
        query = {
            "filter": f"tags.`ratchet.{tag}` = '{digest}'",
            "order_by": "creation_timestamp DESC",
            "max_results": 1,
        }
        url = f"{settings.url('mlflow')}/api/2.0/mlflow/model-versions/search?{urlencode(query)}"
        answer = ask(url, timeout_seconds=ANSWER_SECONDS)
        for version in (answer or {}).get("model_versions", []):
            return f"{version['name']} version {version['version']}"
    return None
