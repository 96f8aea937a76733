"""The spec of one pipeline, and what the steps take from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from ratchet.spec.data import Data
from ratchet.spec.deploy import Deploy
from ratchet.spec.gate import RULES, Gate
from ratchet.spec.notification import Notification
from ratchet.spec.section import Section
from ratchet.spec.train import Train
from ratchet.spec.trigger import Trigger
from training.contract import IngestRequest


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


def sections() -> dict[str, type[Section]]:
    return {
        name: field.annotation
        for name, field in Sections.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


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
