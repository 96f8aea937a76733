"""The section ``deploy``: where the champion serves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ratchet.location import ENDPOINT_NAME
from ratchet.spec.section import LONGEST_MINUTES, Section


class Deploy(Section):
    target: Literal["local"] = "local"
    """Where the endpoint is: on the local endpoint host. `sagemaker` and `huggingface` are planned."""
    endpoint: str = Field(default="", pattern=ENDPOINT_NAME)
    """Name of the endpoint. Unset: the pipeline's name, with `-` for `_`."""
    timeout_minutes: int = Field(default=15, ge=1, le=LONGEST_MINUTES)
    """Longest time until the endpoint serves the release, minutes; then the step fails and the old release stays."""
