"""Keep what a stage is let in with out of all that it says, and name what a server refused to let it in with."""

from __future__ import annotations

import base64
import io
import os
import re
from urllib.parse import quote, unquote

from training.visible import visible

SECRET = re.compile(
    "token|secret|passw|api_?key|access_?key|private_?key|key_id|sql_uri", re.IGNORECASE
)  # in a variable's name
PLACE = re.compile("_(FILE|PATH|DIR)$", re.IGNORECASE)  # at its end: the value only says where a secret is
USER = re.compile(r"(?<=://)[^/\s:@]*:(?!\d+/)([^\s@]*)@")  # with a password, in a URL; no port
SHORTEST = 6  # characters, assumed: what is shorter is no secret, and would blot out words
MASK = "***"

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
S3_REFUSALS = {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
S3_REFUSALS |= {"400", "403"}  # the same of a HEAD, whose answer has no words
NO_S3_CREDENTIALS = {"NoCredentialsError", "PartialCredentialsError"}


def masked(text: str) -> str:
    """:return: the text without the values of the environment's secrets, and without users' passwords in URLs."""
    for secret in _secrets():
        text = text.replace(secret, MASK)
    return USER.sub(f"{MASK}@", text)


def _secrets() -> list[str]:
    values = {
        value.strip()
        for name, value in os.environ.items()
        if SECRET.search(name) and not PLACE.search(name) and len(value.strip()) >= SHORTEST
    }
    if password := os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        pair = f"{os.environ.get('MLFLOW_TRACKING_USERNAME', '')}:{password}"
        values.add(base64.b64encode(pair.encode()).decode())  # as the header Authorization has it
    passwords = {unquote(found[1]) for value in os.environ.values() for found in USER.finditer(value)}
    values |= {password for password in passwords if len(password) >= SHORTEST}
    values |= {quote(value, safe="") for value in values}
    return sorted(values, key=len, reverse=True)  # one may be a part of another


class MaskingStream(io.TextIOWrapper):
    """
    Standard output or error, whoever writes there: our log, a library's own, a warning, a traceback.

    What is data in it, such as a label or the name of an object, does nothing to a terminal.
    """

    def write(self, text: str) -> int:
        return super().write(visible(masked(text), keep="\n\t\r"))  # libraries write lines of progress over


def refusal(error: BaseException | None) -> str | None:
    """:return: which credentials to check, when a server refused ours or there are none; None: it is something else."""
    while error is not None:
        kinds = {kind.__name__ for kind in type(error).__mro__}  # by name: nothing is imported that was not used
        response = getattr(error, "response", None)
        if kinds & NO_S3_CREDENTIALS:
            return f"There are no AWS credentials ({error}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        if "ClientError" in kinds and isinstance(response, dict):
            if response.get("Error", {}).get("Code") in S3_REFUSALS:
                return (
                    f"S3 refused ({error}). Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, "
                    "or for a source those of its connection, and what they may do there."
                )
        elif "HfHubHTTPError" in kinds and getattr(response, "status_code", None) in (401, 403):
            return f"The Hub refused ({' '.join(str(error).split())}). Check HF_TOKEN and what it may read."
        error = error.__cause__ or error.__context__  # which is there even where a library hides it
    return None
