"""The section ``gate``: when the candidate may replace the champion."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ratchet.spec.section import LONGEST_MINUTES, Name, Section, Share, listed
from training.rows import kept_of
from training.rules import BUDGETS, Rules
from training.slices import TAKEN, are_bounds

BoundedMetric = Literal["accuracy", "f1_macro", "f1_weighted"]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

if TYPE_CHECKING:
    Budget = str
else:
    Budget = Literal[tuple(BUDGETS)]  # their names are stated once, where the gate has them from

RULES = {field.name for field in dataclasses.fields(Rules)}


def _one_or_more(value: Any) -> Any:
    """A value alone is a list of one; numbers and booleans are meant as the rows have them, which is as text."""
    written = [kept_of(one) if isinstance(one, str | int | float) else None for one in listed(value)]
    if not written or None in written:
        raise ValueError("expected a value, or a list of some")
    return written


def _bounds(value: Any) -> Any:
    if not isinstance(value, list) or not are_bounds(value):
        raise ValueError("expected [from, below]: two numbers from 0, the first one lower; null is no bound")
    return value


Values = Annotated[
    list[Name], BeforeValidator(_one_or_more, json_schema_input_type=str | int | float | bool | list[Any])
]
Bounds = Annotated[list[float | None], BeforeValidator(_bounds)]


class Slice(Section):
    column: str | None = Field(default=None, min_length=1)
    """A column that `data.keep` names. Alone, it makes a slice of each of its 20 commonest values, `NAME=VALUE`."""
    is_: Values | None = Field(default=None, alias="is")
    """The column's value, or a list of them."""
    text_length: Bounds | None = None
    """`[from, below]`: how many characters the text has; `null` is no bound."""
    label: Values | None = None
    """The label that the rows have, or a list of labels."""
    source: str | None = Field(default=None, min_length=1)
    """Name of the object that the rows came from, or a glob: `*/chat-*.jsonl`."""
    age_days: Bounds | None = None
    """`[from, below]`: how many days older than the newest row of the snapshot; by `data.time`, else by the date of the
    object."""
    where: str | None = Field(default=None, min_length=1)
    """An expression in DuckDB's SQL about `text`, `label`, `source`, `time` (UTC) and the columns of `data.keep`, which
    are text: `try_cast(amount AS DOUBLE) > 100`. It can look at nothing but its row."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Slice:
        given = self.model_fields_set - {"is_"}
        alone = "is_" not in self.model_fields_set
        if len(given) != 1 or not (alone or (given == {"column"} and self.is_)):
            kinds = "column, text_length, label, source, age_days, where"
            raise ValueError(f"expected one of {kinds}; `is` only beside column, with a value")
        return self

    def wanted(self) -> dict[str, Any]:
        """:return: the fields of ``training.slices.Slice``."""
        given = self.model_dump(exclude_none=True)
        return {"values" if name == "is_" else name: value for name, value in given.items()}


class Gate(Section):
    minimum: dict[BoundedMetric, Share] = Field(default={})
    """Lowest value of a metric on the test split that may be promoted, from 0 to 1: `accuracy`, `f1_macro` or
    `f1_weighted`. Unset, a first model is promoted whatever its quality."""
    maximum: dict[Budget, NotNegative] = Field(default={})
    """Highest value that may be promoted: `log_loss`, `calibration_error`, and of the release `latency_p50_ms`,
    `latency_p95_ms`, `latency_p99_ms` (one text alone), `disk_mb` and `memory_mb`."""
    metric: Literal["accuracy", "f1_macro", "f1_weighted", "log_loss"] = "f1_macro"
    """The metric that is compared with the champion's: `accuracy`, `f1_macro`, `f1_weighted` or `log_loss`."""
    slices: dict[str, Slice] = Field(default={})
    """Named parts of the test split, which can hold a candidate by themselves: `{short: {text_length: [0, 20]}}`. The
    keys of one are those below."""
    baseline: str | None = Field(default=None, pattern=r"^(majority|https?://[^/\s@?#]+(/[^\s@?#]*)?)$")
    """What any model should be better than, shown beside the candidate in the report; it decides nothing: `majority`,
    which always answers the commonest label, or the URL of an endpoint that classifies texts. Its token is the
    environment variable `RATCHET_BASELINE_TOKEN`."""
    no_worse_by: Share = Field(default=Rules.no_worse_by)  # type: ignore[assignment]  # a pipeline always compares
    """How much worse than the champion's `metric` may be on the same test split, from 0 to 1, and than that of the best
    version ever promoted, so that small losses do not add up. By the bound of a paired bootstrap: what the test rows
    cannot tell is undecided."""
    better: bool = False
    """Promote only a candidate that is shown to be better than the champion."""
    group_no_worse_by: Share | None = 0.1
    """How much worse a slice's accuracy or a label's F1 may be, from 0 to 1: a candidate that is shown to be worse in
    one of them (Holm's correction) is held whatever the average says. `null`: they are reported alone."""
    group_rows: int = Field(default=50, ge=1)
    """Fewest test rows of a slice or a label that decides."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of each bound, above 0.5 and below 1. A higher one lets fewer worse models through and leaves more
    undecided."""
    approval: Literal["never", "undecided", "always"] = Rules.approval
    """When a person is asked before a candidate is deployed: `undecided`, when the test rows do not decide and nothing
    failed, which is held under `never`; `always`, also when every rule passed. The run waits in Airflow, without a
    worker, and so does the pipeline's next one."""
    approvers: list[Name] = Field(default=[])
    """Who may answer: ids of users as Airflow's auth manager has them, which are names in the simple one and numbers in
    that of FAB. Unset: whoever may answer for the DAG. A run with an override asks none of them."""
    approval_hours: float = Field(default=72, gt=0, le=LONGEST_MINUTES // 60)
    """How long there is to answer, hours. Then the candidate counts as rejected."""
    stale_after_holds: int | None = Field(default=5, ge=1)
    """From how many candidates in a row that were held or rejected on `notify` tells so, as `stale`. `null`: never."""
    stale_after_days: float | None = Field(default=None, gt=0)
    """From what age of the champion on `notify` tells so, as `stale`, days; and again after as many. Unset: never."""

    @field_validator("slices")
    @classmethod
    def _names_to_show(cls, value: dict[str, Slice]) -> dict[str, Slice]:
        if wrong := [name for name in value if not name.strip() or not name.isprintable() or name in TAKEN]:
            raise ValueError(f"expected names that can be shown, and another one than {wrong[0]!r}")
        return value

    def wanted_slices(self) -> dict[str, dict[str, Any]]:
        """:return: name to the fields of ``training.slices.Slice``."""
        return {name: one.wanted() for name, one in self.slices.items()}
