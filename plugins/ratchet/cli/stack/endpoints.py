"""Say which endpoints there are, where each answers, and what it serves."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from ratchet.cli.ask import ask
from ratchet.cli.stack.settings import Settings
from training.tags import ENDPOINT_TAG, MODEL_TAG, RELEASE_TAG

ANSWER_SECONDS = 5  # of a server of this machine that is well; one that hangs must not hang whoever asks how it is


def endpoints(settings: Settings) -> list[tuple[str, str, str, str]] | None:
    """:return: name, state, address and model of each endpoint; None if the endpoint host does not answer."""
    found = _described(settings)
    if found is None:
        return None
    return [(each["name"], each["status"], each["url"], _serves(settings, each)) for each in found]


def difference(settings: Settings, pipeline: str, endpoint: str) -> str | None:
    """:return: a sentence, if the endpoint serves something else than the champion; None also if nobody can tell."""
    query = urlencode({"name": pipeline, "alias": "champion"})
    url = f"{settings.url('mlflow')}/api/2.0/mlflow/registered-models/alias?{query}"
    champion = (ask(url, timeout_seconds=ANSWER_SECONDS) or {}).get("model_version", {})
    digest = next((tag["value"] for tag in champion.get("tags", []) if tag["key"] == MODEL_TAG), None)
    found = _described(settings)
    if digest is None or found is None:
        return None
    live = next((each for each in found if each["name"] == endpoint and each["digest"]), None)
    if live is not None and live["model_digest"] == digest:
        return None
    served = _serves(settings, live) if live else "nothing"
    return (
        f"Endpoint {endpoint!r} serves {served}, but champion is version {champion['version']}: the alias was moved by "
        "hand, or a promotion failed. The next run that promotes brings them together."
    )


def _described(settings: Settings) -> list[dict[str, Any]] | None:
    token = settings.secrets["endpoint_token"]
    found = ask(f"{settings.url('endpoints')}/endpoints", token=token, timeout_seconds=ANSWER_SECONDS)
    return found if isinstance(found, list) else None


def _serves(settings: Settings, endpoint: dict[str, Any]) -> str:
    if not endpoint["digest"]:
        return "nothing"
    release = f"release {endpoint['digest'][:12]}"
    version = _version(settings, endpoint)
    return f"{version}, {release}" if version else release


def _version(settings: Settings, endpoint: dict[str, Any]) -> str | None:
    """
    :return: the newest registered version that was promoted with this release to this endpoint, else with this release
        to any, else that has these weights.
    """
    release = f"tags.`{RELEASE_TAG}` = '{endpoint['digest']}'"
    here = f"{release} AND tags.`{ENDPOINT_TAG}` = '{endpoint['name']}'"
    for found_by in (here, release, f"tags.`{MODEL_TAG}` = '{endpoint['model_digest']}'"):
        query = {
            "filter": found_by,
            "order_by": "creation_timestamp DESC",
            "max_results": 1,
        }
        url = f"{settings.url('mlflow')}/api/2.0/mlflow/model-versions/search?{urlencode(query)}"
        answer = ask(url, timeout_seconds=ANSWER_SECONDS)
        for version in (answer or {}).get("model_versions", []):
            return f"{version['name']} version {version['version']}"
    return None
