"""What every section of a spec has in common."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
LONGEST_MINUTES = 30 * 24 * 60  # assumed: more is a slip, and much more is no timedelta


class Section(BaseModel):
    # strict: 15 is a number and "15" is not; what a key means never depends on how forgiving a parser is
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def without_template(value: Any) -> Any:
    """:raises ValueError: Airflow would render it: the operators' own users write templates, a spec holds values."""
    if re.search(r"\{[{%#]", json.dumps(value)):
        raise ValueError("expected no {{, {% or {#, which Airflow would take for the start of a template")
    return value


def listed(value: Any) -> list[Any]:
    """:return: a value that stands alone as a list of one."""
    return value if isinstance(value, list) else [value]
