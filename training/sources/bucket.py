"""
Open the bucket of a source with keys of its own: ``AWS_*`` by themselves are the store's.

What a connection does not say is taken from ``AWS_*``, so that a connection without keys leaves them to the machine.
"""

from __future__ import annotations

import os
from typing import Any

PREFIX = "RATCHET_SOURCE_"  # before the name of AWS's variable; the operator sets it


def connection_options() -> dict[str, Any]:
    """:return: what s3fs is told of the source's connection; empty: there is none, and ``AWS_*`` open the bucket."""

    def told(name: str) -> str | None:
        return os.environ.get(f"{PREFIX}{name}")

    options: dict[str, Any] = {"endpoint_url": told("AWS_ENDPOINT_URL_S3")}
    if told("AWS_ACCESS_KEY_ID"):  # also without a token: one of the machine's fits the machine's keys alone
        options |= {
            "key": told("AWS_ACCESS_KEY_ID"),
            "secret": told("AWS_SECRET_ACCESS_KEY"),
            "token": told("AWS_SESSION_TOKEN"),
        }
    if region := told("AWS_DEFAULT_REGION"):
        options["client_kwargs"] = {"region_name": region}
    return {name: value for name, value in options.items() if value}
