"""Take an immutable, validated snapshot of labelled data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from ratchet import settings
from ratchet.location import checked_source
from ratchet.operators.stage import StageOperator, as_bool
from training.contract import IngestRequest

if TYPE_CHECKING:
    from airflow.sdk import Context


class IngestOperator(StageOperator):
    """
    Copy labelled rows into a snapshot named by its content.

    Safe to retry: the same data is the same snapshot, and half a snapshot is never seen.

    :param source: path or glob, ``s3://bucket/prefix/*.jsonl`` or ``hf://dataset@revision`` (templated).
    :param text_column: column of the texts.
    :param label_column: column of the labels.
    :param source_override: replaces ``source`` for this run when it is not empty (templated).
    :param validation: source of the validation split; without it the split is cut by the hash of the text (templated).
    :param test: source of the test split, likewise (templated).
    :param format: ``csv``, ``tsv``, ``jsonl`` or ``parquet`` for files whose name does not say.
    :param test_percent: share of the hash buckets that are test rows, in per cent.
    :param validation_percent: likewise for validation.
    :param pipeline: name under which the last snapshot is remembered (templated); the DAG's id if not given.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param force: write the snapshot anew (templated).
    :return: ``snapshot`` (URI), ``digest``, ``rows`` by split, ``labels``, ``dropped`` by reason, ``hit`` and ``why``.
    :raises AirflowFailException: the data cannot be used; the message names file and row. Nothing was written.
    """

    stage = "ingest"
    template_fields = ("source", "source_override", "validation", "test", "pipeline", "store", "force")
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        source: str,
        text_column: str = "text",
        label_column: str = "label",
        source_override: str | None = None,
        validation: str | None = None,
        test: str | None = None,
        format: str | None = None,
        test_percent: int = 15,
        validation_percent: int = 10,
        pipeline: str | None = None,
        store: str | None = None,
        force: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.text_column = text_column
        self.label_column = label_column
        self.source_override = source_override
        self.validation = validation
        self.test = test
        self.format = format
        self.test_percent = test_percent
        self.validation_percent = validation_percent
        self.pipeline = pipeline
        self.store = store
        self.force = force

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        for location in filter(None, (self.source, self.source_override, self.validation, self.test)):
            _require_location(location)
        if self.source_override:
            self.log.info("This run reads %s instead of %s", self.source_override, self.source)
        return self.run_stage(
            IngestRequest(
                pipeline=self.pipeline or self.dag_id,
                store=self.store or settings.store_uri(),
                source=self.source_override or self.source,
                text=self.text_column,
                label=self.label_column,
                validation=self.validation,
                test=self.test,
                format=self.format,  # type: ignore[arg-type]  # checked by the stage
                test_percent=self.test_percent,
                validation_percent=self.validation_percent,
                force=as_bool(self.force),
            )
        )


def _require_location(location: str) -> None:
    try:
        checked_source(location)
        if "://" not in location and not location.startswith("/"):
            raise ValueError(f"expected an absolute path or a URI, found {location!r}")
    except ValueError as error:
        raise AirflowFailException(f"No snapshot was taken: {error}.") from error
