"""Ask a running server the golden examples and compare its answers with the recorded ones."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from serving.release import Release

SCORE_TOLERANCE = 0.05  # docs/architecture.md
REQUEST_SECONDS = 60.0  # assumed: a golden text of full length on one busy core, many times over

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # an endpoint is never behind our own proxy


class SmokeTestFailed(Exception):
    """The server does not answer as the model did at evaluation. The message says where it differs."""


def smoke_test(url: str, release: Release, *, token: str | None = None) -> None:
    """
    Ask for the digests and, one by one, for the golden texts: together they may exceed what a request may hold.

    A label may differ only where the recorded scores of the best two lie within the tolerance.

    :param release: what should be running at ``url``.
    :raises SmokeTestFailed: another release answers, a label differs, or a score is off by more than the tolerance.
    """
    metadata = ask(url, "/metadata", token=token)
    found = {"release": metadata.get("release"), "model_digest": metadata.get("model_digest")}
    wanted = {"release": release.digest, "model_digest": release.model_digest}
    if found != wanted:
        raise SmokeTestFailed(f"{url} reports {found}; expected {wanted}.")

    golden = release.golden()
    for i, (text, label, scores) in enumerate(zip(golden.texts, golden.labels, golden.scores, strict=True)):
        answer = ask(url, "/invocations", {"inputs": text, "parameters": {"top_k": None}}, token=token)
        try:
            answered = {entry["label"]: float(entry["score"]) for entry in answer}
        except (KeyError, TypeError, ValueError) as error:
            raise SmokeTestFailed(f"Golden text {i}: the answer is no list of labels and scores.") from error
        recorded = dict(zip(release.labels, scores, strict=True))
        if set(answered) != set(recorded):
            raise SmokeTestFailed(f"Golden text {i}: labels {sorted(answered)}; expected {sorted(recorded)}.")
        best = max(answered, key=lambda name: answered[name])
        if best != label and _margin(scores) > SCORE_TOLERANCE:
            raise SmokeTestFailed(
                f"Golden text {i}: {best} ({answered[best]:.3f}); recorded {label} ({recorded[label]:.3f})."
            )
        # "not <=" refuses NaN as well
        off = [name for name in recorded if not abs(answered[name] - recorded[name]) <= SCORE_TOLERANCE]
        if off:
            name = off[0]
            raise SmokeTestFailed(
                f"Golden text {i}: score of {name} is {answered[name]:.3f}, recorded {recorded[name]:.3f} "
                f"(tolerance {SCORE_TOLERANCE})."
            )


def _margin(scores: list[float]) -> float:
    best, *others = sorted(scores, reverse=True)
    return best - others[0] if others else best


def ask(
    url: str, path: str, body: Any = None, *, token: str | None = None, timeout_seconds: float = REQUEST_SECONDS
) -> Any:
    """
    Send one request on a connection of its own.

    :raises SmokeTestFailed: no answer, an error status, or an answer that is not JSON.
    """
    request = urllib.request.Request(url.rstrip("/") + path)
    if body is not None:
        request.data = json.dumps(body, ensure_ascii=False).encode()
        request.add_header("Content-Type", "application/json")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with _opener.open(request, timeout=timeout_seconds) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise SmokeTestFailed(
                f"{path} answered {error.code}: {error.read(500).decode(errors='replace')}"
            ) from error
    except (OSError, ValueError) as error:
        raise SmokeTestFailed(f"{path} did not answer: {type(error).__name__}: {error}") from error
