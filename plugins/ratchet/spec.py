"""
The spec of one pipeline: every key, its default and its unit; docs/spec.md is made from this file.

Imported whenever Airflow parses a DAG file, so nothing here may be slow to import. What stands beneath a field is its
description in the reference; pydantic itself does not read it, which would cost 30 ms (measured).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ratchet.document import SECRET_NAME, SECRET_VALUE, Document, KeyPath, Problem, SpecError, dotted, read_document
from ratchet.location import (
    ENDPOINT_NAME,
    ENDPOINT_NAME_RULE,
    behaviour_path,
    checked_model,
    checked_source,
    resolve_model,
    resolve_source,
    sql_source,
)
from ratchet.notify import EVENTS, Event
from training.checks import CHECKS
from training.contract import LONGEST_WINDOW_DAYS, Checks, Format, IngestRequest, Policy, Reading
from training.rows import kept_of
from training.rules import BUDGETS, Rules
from training.slices import TAKEN, are_bounds

BoundedMetric = Literal["accuracy", "f1_macro", "f1_weighted"]
Name = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

if TYPE_CHECKING:
    Check = str
    Budget = str
else:
    Check = Literal[tuple(CHECKS)]  # their names are stated once, where the stage has them from
    Budget = Literal[tuple(BUDGETS)]

# What the design has and this version has not. A spec that asks for it is refused, never half obeyed.
PLANNED_VALUES: dict[KeyPath, tuple[str, ...]] = {
    ("train", "target"): ("sagemaker", "huggingface"),
    ("deploy", "target"): ("sagemaker", "huggingface"),
}

PRESETS = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly")
DOTTED_PATH = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
LONGEST_MINUTES = 30 * 24 * 60  # assumed: more is a slip, and much more is no timedelta
RESERVED_NAMES = ("airflow", "ratchet", "serving", "training")  # dags/ is on Airflow's import path
# where ${NAME} and relative paths are resolved
LOCATIONS = {
    ("data", "source"): resolve_source,
    ("data", "validation"): resolve_source,
    ("data", "test"): resolve_source,
    ("train", "base_model"): resolve_model,
}


def _without_template(value: Any) -> Any:
    """:raises ValueError: Airflow would render it: the operators' own users write templates, a spec holds values."""
    if re.search(r"\{[{%#]", json.dumps(value)):
        raise ValueError("expected no {{, {% or {#, which Airflow would take for the start of a template")
    return value


class Section(BaseModel):
    # strict: 15 is a number and "15" is not; what a key means never depends on how forgiving a parser is
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Data(Section):
    source: str | None = Field(default=None, min_length=1)
    """Labelled rows: a path or glob, `file://`, `s3://bucket/prefix/*.jsonl` or
    `hf://ORG/NAME@REVISION[/CONFIG][?split=NAME]`, whose own test and validation splits are used as such. A relative
    path starts at the folder of the spec; `${NAME}` is an environment variable. Either this or `query`."""
    text: str = Field(min_length=1)
    """Column that holds the text."""
    label: str = Field(min_length=1)
    """Column that holds the label; another one than `text`."""
    query: str | None = Field(default=None, min_length=1)
    """Instead of `source`: a SELECT whose columns are the rows', asked of the database that `connection` names."""
    connection: str | None = Field(default=None, pattern=r"^[\w.-]+$")
    """Airflow connection: of type `aws` for `s3://`, with access key, secret key, region and endpoint, which open the
    source alone: the store is opened with the environment's `AWS_*`, and so is the source when no connection is named.
    Of a database for `query`."""
    license: str | None = Field(default=None, min_length=1, max_length=100)
    """Licence of the rows, for the model cards, as cards name licences: `cc-by-4.0`. Unset: not stated."""
    time: str | None = Field(default=Reading.time, min_length=1)
    """Column that says when a row came to be. Unset: a row is as old as its object."""
    keep: list[Name] = Field(default=[])
    """Other columns whose values stay with their rows, as text, for `gate.slices`."""
    validation: str | None = Field(default=Reading.validation, min_length=1)
    """Source of the validation split. Unset: cut from `source` by the hash of the text."""
    test: str | None = Field(default=Reading.test, min_length=1)
    """Source of the test split. Unset: cut from `source` by the hash of the text, so that a row stays in its split."""
    format: Format | None = Reading.format
    """Format of the files. Unset: by the file's name."""
    test_percent: int = Field(default=Reading.test_percent, ge=1, le=90)
    """Share of `source` that becomes the test split, per cent. Not used when `test` is given."""
    validation_percent: int = Field(default=Reading.validation_percent, ge=1, le=90)
    """Share of `source` that becomes the validation split, per cent. Not used when `validation` is given."""
    window_days: int | None = Field(default=Checks.window_days, ge=1, le=LONGEST_WINDOW_DAYS)
    """Age at which a row leaves training and validation, days; never the test split. Unset: rows stay."""
    max_rows_per_label: int | None = Field(default=Checks.max_rows_per_label, ge=1)
    """Most rows of one label to train on. Unset: all."""
    min_rows_per_label: int = Field(default=Checks.min_rows_per_label, ge=0)
    """Fewest training rows of a label that `checks` does not call a `rare_label`."""
    moved_share_percent: float = Field(default=Checks.moved_share_percent, ge=0, le=100)
    """How far a label's share among the new rows may be from that in the last snapshot before `checks` calls it a
    `moved_share`, percentage points."""
    removed: Literal["drop", "keep"] = Checks.removed
    """What becomes of the rows of an object that is gone from the source."""
    labels: list[Name] | None = Checks.labels
    """The labels there are; a row with another one is what `checks` calls `unknown_label`. Unset: those in the
    data."""
    phone_region: str | None = Field(default=Checks.phone_region, pattern=r"^[A-Z]{2}$")
    """Country whose phone numbers `checks.personal_data` finds as they are written there, by its two capital letters
    (ISO 3166): `DE` adds 030 901820 to +49 30 901820. Unset: only numbers that begin with `+`."""
    checks: dict[Check, Policy] = Field(default={})
    """What becomes of data that fails a check: `report` counts it and says so, `redact` takes it out of the text,
    `drop` leaves the row out and counts it, `quarantine` refuses the new rows as a whole and keeps the last good
    snapshot in force, `fail` ends the run, `ignore` does not look. Each check with its default is listed below."""
    bad_rows_percent: float = Field(default=Checks.bad_rows_percent, ge=0, le=100)
    """Share of the new rows that may be dropped as unusable, per cent; beyond it all of them are quarantined. One
    or two bad rows are dropped from however small a delivery, unless this is 0."""

    @field_validator("label")
    @classmethod
    def _another_column(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("text"):
            raise ValueError("expected another column than data.text")
        return value

    @field_validator("keep")
    @classmethod
    def _other_columns(cls, value: list[str], info: ValidationInfo) -> list[str]:
        ours = {(info.data.get(key) or "").casefold(): f"data.{key}" for key in ("text", "label", "time")}
        for name in value:
            if name.casefold() in ours:
                raise ValueError(f"expected other columns than data.text, data.label and data.time; {name!r} is one")
        if len({name.casefold() for name in value}) < len(value):
            raise ValueError("expected each column once; upper and lower case are the same")
        return value

    @field_validator("source", "validation", "test")
    @classmethod
    def _readable_location(cls, value: str | None) -> str | None:
        return value if value is None else checked_source(_without_template(value))

    @field_validator("query")
    @classmethod
    def _instead_of_source(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("source") is not None:
            raise ValueError("expected either source or query, not both")
        if value is not None and not re.match(r"\s*(select|with)\b", value, re.IGNORECASE):
            raise ValueError("expected a query that begins with SELECT or WITH")
        return value

    @field_validator("checks")
    @classmethod
    def _policies_to_choose_from(cls, value: dict[str, Policy]) -> dict[str, Policy]:
        wrong = [
            f"{name} cannot be {policy}, expected {' or '.join(CHECKS[name].policies)}"
            for name, policy in value.items()
            if policy not in CHECKS[name].policies
        ]
        if wrong:
            raise ValueError("; ".join(wrong))
        return value

    @field_validator("labels")
    @classmethod
    def _labels_to_tell_apart(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(set(value)) < 2:
            raise ValueError("expected at least two different labels")
        if value is not None and (twice := [label for label in dict.fromkeys(value) if value.count(label) > 1]):
            raise ValueError(f"expected each label once; given twice: {', '.join(twice)}")
        return value

    @model_validator(mode="after")
    def _something_to_read(self) -> Data:
        if self.source is None and self.query is None:
            raise ValueError("expected source, or connection and query")
        if self.query is not None and self.connection is None:
            raise ValueError("query needs connection: the Airflow connection of its database")
        return self

    @model_validator(mode="after")
    def _rows_left_to_train_on(self) -> Data:
        if self.test_percent + self.validation_percent >= 100:
            raise ValueError(
                f"test_percent {self.test_percent} and validation_percent {self.validation_percent} leave no rows to "
                "train on; expected a sum below 100"
            )
        return self

    def reading(self) -> Reading:
        """:return: what is read and how, the query's connection by its name alone."""
        given = {name: value for name, value in self if name in READING and name != "source"}
        return Reading(source=self.source or sql_source(self.connection or ""), **given)

    def kept(self) -> Checks:
        """:return: which of the rows a snapshot keeps."""
        return Checks(policies=dict(self.checks), **{name: value for name, value in self if name in KEPT_BY})


READING = {field.name for field in dataclasses.fields(Reading)}
KEPT_BY = {field.name for field in dataclasses.fields(Checks)}


class Train(Section):
    base_model: str = Field(default="sentence-transformers/all-MiniLM-L6-v2", min_length=1)
    """Checkpoint to fine-tune: a Hub id, `id@revision`, or a local directory, which starts with `/`, `./`, `../` or
    `${NAME}`. The default has 22M parameters: it trains on two processor cores in minutes."""
    target: Literal["local"] = "local"
    """Where training runs: on the Airflow worker. `sagemaker` and `huggingface` are planned."""
    license: str | None = Field(default=None, min_length=1, max_length=100)
    """Licence of the base model, for the model cards. Unset: as the base model's own card states it."""
    arguments: dict[str, Any] = Field(default={})
    """Any field of `transformers.TrainingArguments`; overrides Ratchet's defaults. `ratchet validate` checks them
    against the installed version."""
    class_weights: Literal["balanced"] | None = None
    """`balanced` weighs each label's loss by the inverse of its frequency. Unset: every row counts the same."""
    trainer: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """`module:Class` of a `transformers.Trainer` subclass that the training environment can import."""
    max_length: int | None = Field(default=None, ge=8, le=1_000_000)
    """Longest input, tokens; the rest is cut off, in training as in serving. Unset: from the training texts."""
    early_stopping_epochs: int | None = Field(default=2, ge=1)
    """Stop after this many epochs without a better validation loss. `null`: never."""
    timeout_minutes: int = Field(default=720, ge=1, le=LONGEST_MINUTES)
    """Longest training time, minutes; then the step fails. A retry continues from the last checkpoint."""

    @field_validator("arguments")
    @classmethod
    def _without_secrets_and_templates(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, argument in value.items():
            if name.endswith("token") or (isinstance(argument, str) and SECRET_VALUE.search(argument)):
                raise ValueError(
                    f"{name} would be shown in the Airflow UI; expected no secret here. Give it to the training "
                    "environment instead (HF_TOKEN)"
                )
        return _without_template(value)

    @field_validator("base_model")
    @classmethod
    def _hub_id_or_directory(cls, value: str) -> str:
        return checked_model(_without_template(value))


def _one_or_more(value: Any) -> Any:
    """A value alone is a list of one; numbers and booleans are meant as the rows have them, which is as text."""
    written = [kept_of(one) if isinstance(one, str | int | float) else None for one in listed(value)]
    if not written or None in written:
        raise ValueError("expected a value, or a list of some")
    return written


def listed(value: Any) -> list[Any]:
    """:return: a value that stands alone as a list of one."""
    return value if isinstance(value, list) else [value]


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
    no_worse_by: Share = 0.03
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


RULES = {field.name for field in dataclasses.fields(Rules)}


class Deploy(Section):
    target: Literal["local"] = "local"
    """Where the endpoint is: on the local endpoint host. `sagemaker` and `huggingface` are planned."""
    endpoint: str = Field(default="", pattern=ENDPOINT_NAME)
    """Name of the endpoint. Unset: the pipeline's name, with `-` for `_`."""
    timeout_minutes: int = Field(default=15, ge=1, le=LONGEST_MINUTES)
    """Longest time until the endpoint serves the release, minutes; then the step fails and the old release stays."""


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


class Sections(Section):
    """What a spec file holds."""

    data: Data
    """The labelled rows and how they are split."""
    train: Train = Train()
    """How the candidate is made."""
    gate: Gate = Gate()
    """When the candidate may replace the champion."""
    deploy: Deploy = Deploy()
    """Where the champion serves."""
    trigger: Trigger = Trigger()
    """When a run starts by itself."""
    notify: list[Notification] = Field(default=[])
    """Who is told what became of a run."""

    @field_validator("notify", mode="before")
    @classmethod
    def _nobody(cls, value: Any) -> Any:
        return [] if value is None else value  # ``notify:`` with nothing but comments below it

    @field_validator("train", "gate", "deploy", "trigger", mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        return {} if value is None else value  # ``train:`` with nothing but comments below it


class PipelineSpec(Sections):
    """The spec of the pipeline ``name``, with its locations and the endpoint's name resolved."""

    name: str
    path: Path
    behaviour: list[dict[str, Any]]  # fields of training.behaviour.BehaviourTest, of NAME.behaviour.yaml if it is there

    def ingest_request(
        self, store: str, *, watermark: str | None = None, max_rows: int | None = None, force: bool = False
    ) -> IngestRequest:
        """:param watermark: URI of what the pipeline has read so far; None: as if it had read nothing."""
        return IngestRequest(
            pipeline=self.name,
            store=store,
            reading=self.data.reading(),
            checks=self.data.kept(),
            watermark=watermark,
            base_model=self.train.base_model,
            max_length=self.train.max_length,
            max_rows=max_rows,
            force=force,
        )

    def train_request(self, store: str, work: str) -> dict[str, Any]:
        """:return: the fields of a TrainRequest that are known before ingest: all but ``snapshot``."""
        settings = self.train.model_dump(exclude={"target", "timeout_minutes", "license"})
        return {"pipeline": self.name, "store": store, "work": work, **settings}

    def evidence(self) -> dict[str, Any]:
        """:return: the fields of an EvaluateRequest that say what is looked at beside the whole test split."""
        baseline = {"baseline": self.gate.baseline} if self.gate.baseline else {}
        return {"slices": self.gate.wanted_slices(), "behaviour": self.behaviour, **baseline}

    def notifications(self) -> list[dict[str, Any]]:
        """:return: who is told what, as ``ratchet.notify`` takes it."""
        return [one.model_dump() for one in self.notify]

    def gate_rules(self) -> dict[str, Any]:
        """:return: the fields of ``training.rules.Rules``."""
        return self.gate.model_dump(include=RULES)


def load_spec(path: Path, environment: Mapping[str, str] = os.environ) -> PipelineSpec:
    """
    Read ``NAME.yaml``.

    :param environment: what ``${NAME}`` in a location stands for.
    :raises SpecError: everything that is wrong with the file, with lines.
    """
    name = _name(path)
    document = read_document(path)
    values, problems = _resolve_locations(document, path, environment)
    try:
        checked = Sections.model_validate(values)
    except ValidationError as error:
        problems += [
            problem_of(each, document, _keys_beside, _other_sections) for each in error.errors(include_url=False)
        ]
    else:
        problems += _problems_between_keys(checked, document)
    if problems := document.problems + problems:
        raise SpecError(path, problems)
    endpoint = checked.deploy.endpoint or name.replace("_", "-")
    resolved = {**dict(checked), "deploy": checked.deploy.model_copy(update={"endpoint": endpoint})}
    behaviour = []
    if (tests := behaviour_path(path)).exists():
        from ratchet.behaviour import load_behaviour  # which is made of the parts here, and few pipelines need it

        behaviour = load_behaviour(tests)
    return PipelineSpec.model_construct(name=name, path=path.absolute(), behaviour=behaviour, **resolved)


def _name(path: Path) -> str:
    """:return: the pipeline's name, which is also a DAG's, a registered model's and, with hyphens, an endpoint's."""
    if path.suffix != ".yaml" or not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", path.stem):
        message = "expected a file NAME.yaml, NAME of at most 63 lower-case letters, digits, - and _, no - or _ first."
    elif path.stem in RESERVED_NAMES:
        message = f"the name {path.stem!r} would hide the package {path.stem}; choose another."
    else:
        return path.stem
    raise SpecError(path, [Problem(1, "", message)])


def _resolve_locations(
    document: Document, path: Path, environment: Mapping[str, str]
) -> tuple[dict[str, Any], list[Problem]]:
    """:return: the values with variables replaced and relative paths made absolute; what could not be replaced."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in document.values.items()}
    problems = []
    for (section, key), resolve in LOCATIONS.items():
        holder = values.get(section)
        if not isinstance(holder, dict) or not isinstance(location := holder.get(key), str):
            continue
        try:
            holder[key] = resolve(location, path.absolute().parent, environment)
        except ValueError as error:
            at = (section, key)
            problems.append(Problem(document.line(at), dotted(at), f"{error}, found {document.shown(at)}."))
            holder[key] = "/"  # a value that raises no second problem
    return values, problems


def _problems_between_keys(checked: Sections, document: Document) -> Iterator[Problem]:
    """Yield what is wrong although each key by itself is right."""

    def problem(at: KeyPath, message: str) -> Problem:
        return Problem(document.line(at), dotted(at), message)

    data, new_data = checked.data, checked.trigger.new_data
    locations = [location or "" for location in (data.source, data.validation, data.test)]
    if data.connection and data.query is None and not any(location.startswith("s3://") for location in locations):
        yield problem(("data", "connection"), "nothing here uses it; expected s3:// or a query beside it.")
    if data.phone_region is not None and data.checks.get("personal_data", "ignore") == "ignore":
        yield problem(("data", "phone_region"), "nothing here uses it; expected checks.personal_data beside it.")
    if checked.gate.approval == "never":
        given = {
            "approvers": bool(checked.gate.approvers),
            "approval_hours": "approval_hours" in checked.gate.model_fields_set,
        }
        for key in (key for key, is_given in given.items() if is_given):
            yield problem(("gate", key), "nobody is asked; expected approval: undecided or always beside it.")
        for place in (place for place, one in enumerate(checked.notify) if one.on == ["ask"]):
            yield problem(("notify", place, "on"), "nobody is asked; expected gate.approval: undecided or always.")
    for key in ("stale_after_holds", "stale_after_days"):
        is_given = key in checked.gate.model_fields_set and getattr(checked.gate, key) is not None
        if is_given and not any("stale" in one.on for one in checked.notify):
            yield problem(("gate", key), "nobody is told; expected notify with one whose events, on, have stale.")
    for name, one in checked.gate.slices.items():
        at = ("gate", "slices", name)
        if one.column is not None and one.column not in data.keep:
            kept = nearest(one.column, data.keep) if data.keep else "it names none."
            yield problem((*at, "column"), f"expected a column that data.keep names; {kept}")
        if data.labels and (unknown := [label for label in one.label or () if label not in data.labels]):
            yield problem((*at, "label"), f"no label of data.labels; {nearest(unknown[0], data.labels)}")
        if one.age_days is not None and data.query is not None and data.time is None:
            yield problem((*at, "age_days"), "needs data.time, since the answer to a query has no date of its own.")
    if data.query is not None and data.window_days is not None and data.time is None:
        message = "needs data.time, since the answer to a query has no date of its own."
        yield problem(("data", "window_days"), message)
    if new_data is not None and data.query is not None:
        message = "a query is not watched, since only asking it tells what is new; expected a schedule instead."
        yield problem(("trigger", "new_data"), message)
    elif new_data is not None and new_data.queue is not None and not locations[0].startswith("s3://"):
        message = "expected a source on s3://; nothing else sends notifications."
        yield problem(("trigger", "new_data", "queue"), message)


def problem_of(
    error: Any,
    document: Document,
    keys_beside: Callable[[KeyPath], list[str]],
    belongs_in: Callable[[KeyPath], list[str]] = lambda _loc: [],
) -> Problem:
    """
    One of pydantic's errors in the words of the file.

    :param keys_beside: the valid keys where an unknown one is.
    :param belongs_in: where such a key is valid, if that is elsewhere.
    """
    loc: KeyPath = tuple(part for part in error["loc"] if part != "[key]")
    key, kind, context = dotted(loc), error["type"], error.get("ctx", {})
    found = document.shown(loc)
    if loc == ("data", "source") and isinstance(error["input"], dict):
        message = "expected a path, file://, s3:// or hf://; connection and query are keys beside it."
    elif kind == "literal_error" and error["input"] in PLANNED_VALUES.get(loc, ()):
        message = f"{error['input']!r} is planned and not there yet; expected {context['expected']}."
    elif kind == "extra_forbidden":
        message = f"unknown key; {_meant(loc, keys_beside(loc), belongs_in(loc))}."
    elif error["loc"][-1] == "[key]":
        what = "check" if loc[:2] == ("data", "checks") else "metric"
        message = f"unknown {what}; {nearest(str(error['input']), _quoted(context['expected']))}."
    elif kind == "missing":
        message = "missing; expected " + ("a section." if loc == ("data",) else "a value, it has no default.")
    elif kind in ("model_type", "dict_type"):
        message = f"expected keys and values, found {found}."
    elif kind == "value_error":
        message = f"{context['error']}" + (f", found {found}." if len(loc) > 1 else ".")
    elif kind == "string_pattern_mismatch":
        message = f"expected {PATTERNS[_without_places(loc)]}, found {found}."
    elif kind == "string_type":
        message = f"expected text, found {found}" + (
            "; put it in quotes." if isinstance(error["input"], int | float) else "."
        )
    elif kind == "string_too_short":
        message = "expected some text, found none."
    else:
        message = f"{error['msg'].replace('Input should be', 'expected')}, found {found}."
    return Problem(document.line(loc), key, message)


def _quoted(expected: str) -> list[str]:
    """:return: the words in pydantic's list of what it expected."""
    return re.findall(r"'([^']*)'", expected)


PATTERNS: dict[KeyPath, str] = {
    ("data", "connection"): "the id of an Airflow connection: letters, digits, _, - and .",
    ("data", "phone_region"): "a country's two capital letters, such as DE",
    ("gate", "baseline"): "majority, or the URL of an endpoint, with nothing secret in it: https://HOST/PATH",
    ("trigger", "new_data", "queue"): "the URL of an SQS queue, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    ("train", "trainer"): "module:Class",
    ("deploy", "endpoint"): ENDPOINT_NAME_RULE,
    ("notify", "notifier"): "the dotted path of a class: airflow.providers.smtp.notifications.smtp.SmtpNotifier",
}


def _without_places(loc: KeyPath) -> KeyPath:
    """:return: the keys alone, without the places in lists."""
    return tuple(part for part in loc if isinstance(part, str))


def sections() -> dict[str, type[Section]]:
    return {
        name: field.annotation
        for name, field in Sections.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def _keys_beside(loc: KeyPath) -> list[str]:
    if len(loc) == 1:
        return list(Sections.model_fields)
    inside: dict[str, type[Section]] = {"slices": Slice, "new_data": NewData, "notify": Notification}
    model = next((model for key, model in inside.items() if key in loc[:-1]), None) or sections()[str(loc[0])]
    return [field.alias or name for name, field in model.model_fields.items()]


def _other_sections(loc: KeyPath) -> list[str]:
    return [f"{name}: {loc[-1]}" for name, model in sections().items() if loc[-1] in model.model_fields]


def _meant(loc: KeyPath, siblings: list[str], elsewhere: list[str]) -> str:
    if elsewhere and not difflib.get_close_matches(str(loc[-1]), siblings, cutoff=0.8):
        return f"it belongs in {' or '.join(elsewhere)}"
    return nearest(str(loc[-1]), siblings)


def nearest(word: str, valid: Iterable[str]) -> str:
    """:return: the valid word that was probably meant, and all of them."""
    valid = list(valid)
    close = [one for one in valid if one.startswith(word)]
    if len(close) != 1:
        close = difflib.get_close_matches(word, valid, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + "valid: " + ", ".join(valid)
