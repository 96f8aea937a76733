"""Ask what a trained model has to be better than: the commonest label, or somebody else's endpoint."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from training.answers import Answers
from training.contract import BadInput, Unreachable
from training.testset import TestSet

log = logging.getLogger(__name__)

MAJORITY = "majority"
TOKEN_VARIABLE = "RATCHET_BASELINE_TOKEN"
AT_ONCE = 8  # requests under way; assumed: few enough for an endpoint that somebody else uses as well
BATCH = 64  # texts between two looks at the time
REQUEST_SECONDS = 30.0
DEADLINE_SECONDS = 3600.0  # assumed: an endpoint that takes longer is not what production would ask
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses of a server that may answer later


def require_baseline(baseline: str) -> None:
    """:raises BadInput: nobody can be asked by this name."""
    if baseline == MAJORITY:
        return
    try:
        parts = urlsplit(baseline)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"The baseline {baseline!r} is neither {MAJORITY!r} nor the http(s):// URL of an endpoint.")
    if parts.username or parts.password or parts.query:
        raise BadInput(
            f"The baseline at {parts.hostname} has a user, a password or a query in its URL, which would be kept with "
            f"the answers. Give the URL alone, and the token in the environment variable {TOKEN_VARIABLE}."
        )


def ask_baseline(baseline: str, test_set: TestSet) -> Answers:
    """
    :param baseline: ``majority``, or the URL of an endpoint that classifies texts.
    :raises BadInput: the endpoint refuses, or answers other than a classifier of these labels.
    :raises Unreachable: it does not answer, or not in time.
    """
    return _majority(test_set) if baseline == MAJORITY else _ask_endpoint(baseline, test_set)


def digest_of_answers(answers: Answers) -> str:
    """:return: by which a baseline is known, whose weights nobody here has."""
    digest = hashlib.sha256(json.dumps(answers.labels).encode())
    digest.update(answers.scores.tobytes())
    return digest.hexdigest()


def _majority(test_set: TestSet) -> Answers:
    """Always the commonest label, and the labels' shares as its scores: what somebody knows who has read no text."""
    import numpy as np

    counts = Counter(test_set.labels)
    labels = sorted(counts, key=lambda label: (-counts[label], label))  # of equals the first one is taken
    shares = np.array([counts[label] for label in labels]) / len(test_set.labels)
    return Answers(tuple(labels), np.tile(shares, (len(test_set.labels), 1)))


def _ask_endpoint(url: str, test_set: TestSet) -> Answers:
    from huggingface_hub import InferenceClient

    token = os.environ.get(TOKEN_VARIABLE)
    # a header of None is left out; without it the client sends a token of the Hub to whoever is there
    header: dict[str, Any] = {"authorization": f"Bearer {token}" if token else None}
    client = InferenceClient(model=url, headers=header, timeout=REQUEST_SECONDS)
    rows: list[dict[str, float]] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(test_set.texts), BATCH):
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"The baseline {url} answered {len(rows)} of {len(test_set.texts)} texts within "
                    f"{DEADLINE_SECONDS:g} s; nothing was judged. Choose a faster endpoint, or none."
                )
            rows += pool.map(lambda text: _ask(client, url, text), test_set.texts[start : start + BATCH])
    return _by_name(url, rows, test_set)


def _ask(client: Any, url: str, text: str) -> dict[str, float]:
    """:return: score by label; of a server that says only the best one, that one."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        answer = client.text_classification(text)
        entries = answer if isinstance(answer, list) else [answer]  # [[...]], or [...] as some servers answer
        return {str(entry.label): float(entry.score) for entry in entries}
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = f"The baseline {url} answered {status} ({' '.join(str(error).split())[:300]})"
        if status in PASSING:
            raise Unreachable(f"{said}; nothing was judged.") from error
        raise BadInput(f"{said}. Check the URL, and the token in {TOKEN_VARIABLE}.") from error
    except HTTPError as error:
        raise Unreachable(f"The baseline {url} does not answer ({error}); nothing was judged.") from error
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise BadInput(
            f"The baseline {url} does not answer as a text classifier does ({type(error).__name__}: {error}). "
            "Expected is a list of labels with scores."
        ) from error


def _by_name(url: str, rows: Sequence[dict[str, float]], test_set: TestSet) -> Answers:
    import numpy as np

    labels = sorted({label for row in rows for label in row})
    if not {*labels} & {*test_set.labels}:
        raise BadInput(
            f"The baseline {url} answers with the labels {labels[:5]}, and the test set has "
            f"{sorted({*test_set.labels})[:5]}: none is the same, so nothing can be compared. Choose an endpoint that "
            "knows the labels."
        )
    scores = np.zeros((len(rows), len(labels)))
    for i, row in enumerate(rows):
        scores[i] = [row.get(label, 0.0) for label in labels]
    return Answers(tuple(labels), scores)
