"""Take an immutable, validated snapshot of labelled data."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException, AirflowSkipException

from ratchet import settings
from ratchet.arrivals import minute, too_early
from ratchet.hooks.model_registry import ModelRegistryHook
from ratchet.hooks.source_connection import access_to_source
from ratchet.ledger import HELD_OFF, INGESTED, Ledger
from ratchet.links import DataReportLink, push_links
from ratchet.location import checked_source, sql_source
from ratchet.note import write_note
from ratchet.operators.stage import StageOperator, as_bool
from training.contract import BadInput, Checks, IngestRequest, Policy, Reading, Unreachable
from training.tags import DATA_REPORT_TAG, PIPELINE_TAG, SNAPSHOT_TAG

if TYPE_CHECKING:
    from typing import Literal

    from airflow.sdk import Context

    from ratchet.hooks.source_connection import Access
    from ratchet.ledger import Record
    from training.contract import Format


NOTED = 300  # characters of a warning in the run's note


class IngestOperator(StageOperator):
    """
    Copy labelled rows into a snapshot named by its content; read only what is new since the last one.

    Safe to retry: the same data is the same snapshot, and half a snapshot is never seen. What was read is in the
    pipeline's ledger, as ``ingested``. New rows too many of which are unusable are refused as a whole: the last good
    snapshot is returned, and the run note says why.

    :param source: path or glob, ``s3://bucket/prefix/*.jsonl`` or ``hf://dataset@revision`` (templated).
    :param query: instead of ``source``, a SELECT for the database of ``source_conn_id``.
    :param source_conn_id: connection that opens the source: of type ``aws`` for ``s3://``, of a database for ``query``.
    :param text_column: column of the texts.
    :param label_column: column of the labels.
    :param time_column: column that says when a row came to be; without it a row is as old as its object.
    :param keep_columns: other columns whose values stay with their rows, as text, for slices of the test split.
    :param source_override: replaces ``source`` for this run when it is not empty (templated). Such a run reads
        everything, and the next one goes on from the run before it.
    :param validation: source of the validation split; without it the split is cut by the hash of the text (templated).
    :param test: source of the test split, likewise (templated).
    :param format: ``csv``, ``tsv``, ``jsonl``, ``parquet`` or ``arrow`` for files whose name does not say.
    :param test_percent: share of the hash buckets that are test rows, in per cent.
    :param validation_percent: likewise for validation.
    :param labels: the labels there are; without it those in the data.
    :param window_days: age at which a row leaves training and validation.
    :param max_rows_per_label: most rows of one label to train on.
    :param min_rows_per_label: fewest training rows of a label that is not rare.
    :param moved_share_percent: how far a label's share among the new rows may be from the last snapshot's, in
        percentage points.
    :param removed: ``drop`` or ``keep`` the rows of an object that is gone.
    :param phone_region: country, such as ``DE``, whose phone numbers are personal data as they are written there.
    :param policies: what becomes of data that fails a check: check to ``ignore``, ``report``, ``redact``,
        ``drop``, ``quarantine`` or ``fail``, as docs/spec.md lists them.
    :param bad_rows_percent: share of the new rows that may be unusable, in per cent.
    :param base_model: whose tokens ``long_text`` counts: a Hub id, or a directory that the stage can read (templated);
        without it that check is left out.
    :param max_length: tokens that training takes of a text; without it as many as the base model.
    :param date: take no snapshot; use the newest one from this day (UTC) or time, or before (templated). A backfill's
        run does so with its logical date.
    :param cooldown: shortest time since the last run that took in data; a run that comes sooner is skipped, unless it
        is forced.
    :param pipeline: name under which the ledger remembers (templated); the DAG's id if not given.
    :param store: URI of the store (templated); the setting ``[ratchet] store`` if not given.
    :param mlflow_conn_id: connection of the MLflow server that keeps each data report with a run of its own; None: it
        is in the store alone, as while the server is away.
    :param force: read every object again, and do so at once (templated).
    :return: ``snapshot`` (URI), ``digest``, ``rows`` by split, ``labels``, ``dropped`` by reason, ``objects``,
        ``quarantined``, ``warnings``, ``report`` (URI of the data report), ``hit`` and ``why``; for a past date
        ``snapshot``, ``digest``, ``rows``, ``report``, ``hit`` and ``why``.
    :raises AirflowFailException: the data cannot be used; the message names file and row. Nothing was written.
    """

    stage = "ingest"
    template_fields = (
        "source",
        "source_override",
        "validation",
        "test",
        "base_model",
        "date",
        "pipeline",
        "store",
        "force",
    )
    operator_extra_links = (DataReportLink(),)
    ui_color = "#e8f1fb"

    def __init__(
        self,
        *,
        source: str | None = None,
        query: str | None = None,
        source_conn_id: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
        time_column: str | None = Reading.time,
        keep_columns: list[str] | None = None,
        source_override: str | None = None,
        validation: str | None = Reading.validation,
        test: str | None = Reading.test,
        format: Format | None = Reading.format,
        test_percent: int = Reading.test_percent,
        validation_percent: int = Reading.validation_percent,
        labels: list[str] | None = Checks.labels,
        window_days: int | None = Checks.window_days,
        max_rows_per_label: int | None = Checks.max_rows_per_label,
        min_rows_per_label: int = Checks.min_rows_per_label,
        moved_share_percent: float = Checks.moved_share_percent,
        removed: Literal["drop", "keep"] = Checks.removed,
        phone_region: str | None = Checks.phone_region,
        policies: dict[str, Policy] | None = None,
        bad_rows_percent: float = Checks.bad_rows_percent,
        base_model: str | None = None,
        max_length: int | None = None,
        date: str | None = None,
        cooldown: timedelta | None = None,
        pipeline: str | None = None,
        store: str | None = None,
        mlflow_conn_id: str | None = ModelRegistryHook.default_conn_name,
        force: bool | str = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.query = query
        self.source_conn_id = source_conn_id
        self.text_column = text_column
        self.label_column = label_column
        self.time_column = time_column
        self.keep_columns = keep_columns
        self.source_override = source_override
        self.validation = validation
        self.test = test
        self.format = format
        self.test_percent = test_percent
        self.validation_percent = validation_percent
        self.labels = labels
        self.window_days = window_days
        self.max_rows_per_label = max_rows_per_label
        self.min_rows_per_label = min_rows_per_label
        self.moved_share_percent = moved_share_percent
        self.removed = removed
        self.phone_region = phone_region
        self.policies = policies
        self.bad_rows_percent = bad_rows_percent
        self.base_model = base_model
        self.max_length = max_length
        self.date = date
        self.cooldown = cooldown
        self.pipeline = pipeline
        self.store = store
        self.mlflow_conn_id = mlflow_conn_id
        self.force = force

    @cached_property
    def registry(self) -> ModelRegistryHook | None:
        return ModelRegistryHook(self.mlflow_conn_id) if self.mlflow_conn_id else None

    @cached_property
    def ledger(self) -> Ledger:
        from training.store import Store

        return Ledger(Store(self.store or settings.store_uri()), self.pipeline or self.dag_id)

    def execute(self, context: Context) -> dict[str, Any]:
        if not as_bool(self.force):
            self._respect_cooldown(context)
        if (end := self._date_of(context)) is not None:
            found = self._snapshot_at(end)
            self._keep_report(context, found)
            return found
        other_data = bool(self.source_override)
        if other_data:
            self.log.info("This run reads %s instead of %s", self.source_override, self.source or "the query")
        reading = self._reading()
        try:
            access = access_to_source(self.source_conn_id, reading)
        except BadInput as error:
            raise AirflowFailException(f"No snapshot was taken: {error}") from error
        while True:
            last = None if other_data else self.ledger.last(INGESTED)
            result = self._ingest(reading, access, last)
            if other_data or self._remember(context, result, last):
                break
            self.log.info("Another run took in data meanwhile: looking again at what is new since then")
        if other_data:  # versions are counted in the pipeline's own history, which this run is no part of
            result = {**result, "test_split": None}
        self._keep_report(context, result)
        if result.get("quarantined"):
            write_note(context, f"new data refused: {result['quarantined']}", self.log)
        elif warnings := result.get("warnings"):
            others = f" and {len(warnings) - 1} more" if len(warnings) > 1 else ""
            write_note(context, f"data: {shorten(warnings[0], NOTED).rstrip('.')}{others}", self.log)
        return result

    def _ingest(self, reading: Reading, access: Access, last: Record | None) -> dict[str, Any]:
        """:param last: the ledger's record that this run goes on from; None: it reads everything."""
        request = IngestRequest(
            pipeline=self.ledger_name,
            store=self.ledger.store.root,
            reading=reading,
            checks=Checks(
                labels=self.labels,
                window_days=self.window_days,
                max_rows_per_label=self.max_rows_per_label,
                min_rows_per_label=self.min_rows_per_label,
                moved_share_percent=self.moved_share_percent,
                removed=self.removed,
                phone_region=self.phone_region,
                policies=self.policies or {},
                bad_rows_percent=self.bad_rows_percent,
            ),
            watermark=None if last is None else last["watermark"],
            base_model=self.base_model,
            max_length=self.max_length,
            force=as_bool(self.force),
        )
        return self.run_stage(request, env=access.environment)

    def _keep_report(self, context: Context, result: dict[str, Any]) -> None:
        """Keep the data report with MLflow as well; when that cannot be, the snapshot counts all the same."""
        if self.registry is None or not result.get("report"):
            return
        from training.forgotten import Forgotten

        tags = {
            DATA_REPORT_TAG: result["report"],
            PIPELINE_TAG: self.ledger_name,
            SNAPSHOT_TAG: result["digest"],
            "airflow.dag_id": self.dag_id,
            "airflow.run_id": context["run_id"],
        }
        store, files = self.ledger.store, {}
        try:
            directory = store.key(result["report"])
            name = f"{self.ledger_name}-{directory.rpartition('/')[2][:8]}"
            with Forgotten.in_force(store).while_writing(store):  # whoever forgets meanwhile finds the run, by its tag
                for file_name in ("report.json", "report.html"):
                    with store.open(f"{directory}/{file_name}") as file:
                        files[file_name] = file.read().decode()
                run, experiment = self.registry.keep_files(
                    f"ratchet/{self.ledger_name}/data", name, files, tags, DATA_REPORT_TAG
                )
        except (BadInput, FileNotFoundError) as error:
            self.log.warning("No data report in MLflow: %s cannot be read (%s).", result["report"], error)
        except AirflowNotFoundException:
            self.log.info("No data report in MLflow: the connection %r does not exist.", self.mlflow_conn_id)
        except Unreachable as error:
            self.log.warning("%s; the data report is in %s, and the next run tries again.", error, result["report"])
        else:
            push_links(context, data_report=self.registry.artifact_url(run, experiment, "report.html"))

    @property
    def ledger_name(self) -> str:
        return self.pipeline or self.dag_id

    def _reading(self) -> Reading:
        """:raises AirflowFailException: a location that no stage reads."""
        for location in filter(None, (self.source, self.source_override, self.validation, self.test)):
            _require_location(location)
        query = None if self.source_override else self.query
        source = self.source_override or self.source or (sql_source(self.source_conn_id or "") if query else None)
        if source is None or (query is not None and not self.source_conn_id):
            raise AirflowFailException("No snapshot was taken: give source, or query and source_conn_id.")
        return Reading(
            source=source,
            query=query,
            text=self.text_column,
            label=self.label_column,
            time=self.time_column,
            keep=self.keep_columns or [],
            validation=self.validation,
            test=self.test,
            format=self.format,
            test_percent=self.test_percent,
            validation_percent=self.validation_percent,
        )

    def _respect_cooldown(self, context: Context) -> None:
        """:raises AirflowSkipException: it is too early for this run; everything after it is skipped as well."""
        early = too_early(self.ledger, self.cooldown, datetime.now(UTC))
        if early is None or early.run_id == context["run_id"]:  # a retry is not too early for itself
            return
        held: dict[str, Any] = {"reason": early.reason, "until": early.until.isoformat(timespec="milliseconds")}
        self.ledger.append(HELD_OFF, run_id=context["run_id"], **held)
        outcome = f"held off until {minute(held['until'])}: {early.reason}"
        context["ti"].xcom_push(key=HELD_OFF, value=held)
        write_note(context, outcome, self.log)
        raise AirflowSkipException(f"{outcome}. To run it all the same, start one with force.")

    def _remember(self, context: Context, result: dict[str, Any], last: Record | None) -> bool:
        """
        Say in the ledger what is read now, unless it says so already: a retry or a second run adds nothing.

        :param last: the record that the run went on from.
        :return: False: another run took in other data since ``last``. What this one read is not what is read now.
        """
        names = ("snapshot", "digest", "watermark", "rows", "objects", "quarantined", "test_split", "report")
        values = {name: result.get(name) for name in names}
        while True:
            history = self.ledger.since(INGESTED)
            newest = history[0] if history and history[0]["event"] == INGESTED else None
            if newest is not None and all(newest[name] == values[name] for name in ("snapshot", "watermark")):
                return True
            if (newest or {}).get("number") != (last or {}).get("number"):
                return False
            try:
                self.ledger.append(
                    INGESTED, after=history[-1]["number"] if history else 0, run_id=context["run_id"], **values
                )
            except FileExistsError:  # somebody wrote meanwhile: the trigger, or another run
                continue
            return True

    def _date_of(self, context: Context) -> datetime | None:
        """:return: until when a snapshot may have been taken that this run uses; None: it takes one itself."""
        run = context["dag_run"]
        end: datetime | None = None
        if self.date and self.date != "None":
            end = _end_of(self.date)
        elif run.run_type == "backfill":
            end = run.logical_date
        if end is not None and self.source_override:
            raise AirflowFailException(
                f"No snapshot was taken: a run for a past date ({end:%Y-%m-%d}) reads no data, and this one was given "
                f"{self.source_override}. Leave out one of the two."
            )
        return end

    def _snapshot_at(self, end: datetime) -> dict[str, Any]:
        """:raises AirflowFailException: there was no snapshot yet, or it is gone."""
        taken = self.ledger.records(INGESTED)
        found = next((record for record in reversed(taken) if datetime.fromisoformat(record["time"]) <= end), None)
        if found is None:
            first = f"the first one was taken at {minute(taken[0]['time'])}" if taken else "none was ever taken"
            raise AirflowFailException(
                f"No snapshot of {self.ledger_name} is from {end:%Y-%m-%d %H:%M} UTC or before: {first}. "
                "Nothing was trained. Choose a later date."
            )
        store = self.ledger.store
        if not store.is_complete(store.key(found["snapshot"])):
            raise AirflowFailException(
                f"{found['snapshot']}, the snapshot of {minute(found['time'])}, is gone or unfinished. Nothing was "
                "trained. Choose another date, or put the store back."
            )
        why = f"hit: the newest snapshot not after {end:%Y-%m-%d %H:%M} UTC, of {minute(found['time'])}"
        self.log.info("%s: %s", self.stage, why)
        values = {name: found.get(name) for name in ("snapshot", "digest", "rows", "test_split", "report")}
        return {**values, "hit": True, "why": why}


def _end_of(text: str) -> datetime:
    """:return: the end of a day, or the time itself. :raises AirflowFailException: it is neither."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return datetime.combine(date.fromisoformat(text), time.max, UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise AirflowFailException(f"{text!r} is no date such as 2026-03-31; nothing was done.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _require_location(location: str) -> None:
    try:
        checked_source(location)
        if "://" not in location and not location.startswith("/"):
            raise ValueError(f"expected an absolute path or a URI, found {location!r}")
    except ValueError as error:
        raise AirflowFailException(f"No snapshot was taken: {error}.") from error
