"""The section ``trigger``: when a run starts by itself."""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import timedelta
from typing import Any

from pydantic import Field, field_validator

from ratchet.spec.problems import nearest
from ratchet.spec.section import Section

PRESETS = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")


class NewData(Section):
    min_rows: int = Field(default=1, ge=1)
    """Fewest new rows that start a run. A changed or removed object counts as one at least."""
    quiet_minutes: float = Field(default=5, ge=0)
    """How long what is new must have been left unchanged, minutes, so that no run starts on half a delivery."""
    cooldown_hours: float = Field(default=0, ge=0)
    """Shortest time between two runs that take in data, hours. Whatever starts a second one, that run says until when
    it is held off and skips all its steps, unless it is forced. What came meanwhile starts a run when the time has
    passed."""
    poll_seconds: float = Field(default=30, ge=5)
    """Time between two looks at the source, seconds."""
    queue: str | None = Field(default=None, pattern=r"^https?://[^/\s@]+/\S+$")
    """URL of an SQS queue that the bucket notifies: a message is a reason to look at once. Each pipeline needs a queue
    of its own."""


class Trigger(Section):
    schedule: str | None = None
    """When to retrain: a cron expression of five fields, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@quarterly`,
    `@yearly`, `@once`. Unset: only on new data, or when somebody starts a run."""
    timezone: str = "UTC"
    """Time zone of `schedule`, such as `Europe/Berlin`."""
    new_data: NewData | None = None
    """Start a run when there is new data: the keys are those below, each with a default. Unset: never."""

    @property
    def cooldown(self) -> timedelta | None:
        hours = self.new_data.cooldown_hours if self.new_data else 0
        return timedelta(hours=hours) if hours else None

    @field_validator("new_data", mode="before")
    @classmethod
    def _nothing_but_defaults(cls, value: Any) -> Any:
        return {} if value is None else value  # ``new_data:`` with nothing but comments below it

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            close = difflib.get_close_matches(value, zoneinfo.available_timezones(), n=1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"expected an IANA time zone such as Europe/Berlin{meant}") from None
        return value

    @field_validator("schedule")
    @classmethod
    def _cron_or_preset(cls, value: str | None) -> str | None:
        if value is None or value in PRESETS:
            return value
        from croniter import CroniterError, croniter  # Airflow's own reader of cron expressions

        if value.startswith("@"):
            raise ValueError("unknown preset; " + nearest(value, PRESETS))
        if len(value.split()) != 5:
            raise ValueError("expected five fields: minute, hour, day of month, month, day of week")
        try:
            croniter(value).get_next()
        except CroniterError as error:
            raise ValueError(f"expected a cron expression ({str(error).splitlines()[0]})") from None
        return value
