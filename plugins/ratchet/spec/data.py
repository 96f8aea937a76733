"""The section ``data``: the labelled rows and how they are split."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ratchet.location import checked_source, sql_source
from ratchet.spec.section import Name, Section, without_template
from training.checks import CHECKS
from training.contract import LONGEST_WINDOW_DAYS, Checks, Format, Policy, Reading

if TYPE_CHECKING:
    Check = str
else:
    Check = Literal[tuple(CHECKS)]  # their names are stated once, where the stage has them from

READING = {field.name for field in dataclasses.fields(Reading)}
KEPT_BY = {field.name for field in dataclasses.fields(Checks)}


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
        return value if value is None else checked_source(without_template(value))

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
