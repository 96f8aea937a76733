"""The section ``train``: how the candidate is made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from ratchet.document import SECRET_VALUE
from ratchet.location import checked_model
from ratchet.spec.section import LONGEST_MINUTES, Section, without_template


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
        return without_template(value)

    @field_validator("base_model")
    @classmethod
    def _hub_id_or_directory(cls, value: str) -> str:
        return checked_model(without_template(value))
