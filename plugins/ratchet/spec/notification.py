"""The section ``notify``: who is told what became of a run."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from ratchet.document import SECRET_NAME, SECRET_VALUE
from ratchet.notify import EVENTS, Event
from ratchet.spec.section import Section

DOTTED_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"


class Notification(Section):
    notifier: str = Field(pattern=DOTTED_PATH)
    """Dotted path of any notifier of Airflow's providers, or of your own: a subclass of `airflow.sdk.BaseNotifier`. A
    module of your own may stand beside the spec."""
    arguments: dict[str, Any] = Field(default={})
    """What its class is called with. Its templates find the task's context, and under `ratchet` the `event`,
    `pipeline`, `subject` (a line), `text` (lines with addresses), `reasons` (a list), `report_url` and `answer_url`.
    No secrets: name an Airflow connection."""
    on: list[Event] = Field(default=list(EVENTS), min_length=1)
    """Of what it tells: `ask` (a person is asked), `hold` (held or rejected), `promote`, `rollback`, `failure` (a step
    failed for good), `stale` (see `gate.stale_after_holds`)."""

    @field_validator("arguments")
    @classmethod
    def _without_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        if (name := _secret_in(value)) is not None:
            raise ValueError(f"{name} looks like a secret; expected the id of an Airflow connection that holds it")
        return value


def _secret_in(value: Any, name: str = "a value") -> str | None:
    """:return: what names the first secret of a value, if there is one."""
    if isinstance(value, dict):
        names = (_secret_in(held, key) for key, held in value.items())
        return next((one for one in names if one), None)
    if isinstance(value, list):
        return next((one for held in value if (one := _secret_in(held, name))), None)
    is_secret = SECRET_NAME.search(name) or (isinstance(value, str) and SECRET_VALUE.search(value))
    return name if is_secret and value is not None else None
