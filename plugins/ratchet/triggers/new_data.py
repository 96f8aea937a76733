"""Wait for new data in a pipeline's source, and say so when enough of it has come to rest."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from ratchet import settings
from ratchet.arrivals import ASKED, WAITING, Patience, decide, last_waiting, seen_since
from ratchet.hooks.source_connection import access_to_source
from ratchet.hooks.stage import StageProcess
from ratchet.ledger import INGESTED, Ledger
from training.contract import Reading, SurveyRequest, SurveyResult

SURVEY_TIMEOUT = timedelta(minutes=30)  # assumed: longest time to list a source and to count what is new in it
LONGEST_PAUSE = timedelta(minutes=5)  # between two looks at a source that cannot be read
SHORTEST_PAUSE = timedelta(seconds=5)  # after a look, however many messages a burst sends
LONG_POLL_SECONDS = 20  # the longest that SQS holds a request open for


class NewDataTrigger(BaseEventTrigger):
    """
    Fire an event when new data is worth a run.

    An event is a hint: the run reads whatever is there by then. What was seen and asked for is in the pipeline's
    ledger, so that a trigger which was killed goes on where it was, and two of them ask for one run. A source that
    cannot be read is looked at again, less and less often; the trigger never ends by itself.

    :param pipeline: name under which the ledger remembers.
    :param reading: fields of ``training.contract.Reading``.
    :param min_rows: fewest new rows that are worth a run; a changed or removed object counts as one at least.
    :param quiet_minutes: how long the new data must have been left unchanged.
    :param poll_seconds: time between two looks at the source.
    :param removed: ``keep`` when an object that is gone is nothing new.
    :param source_conn_id: connection that opens the source.
    :param queue: URL of an SQS queue whose messages are a reason to look at once.
    :param store: URI of the store; the setting ``[ratchet] store`` if not given.
    """

    def __init__(
        self,
        *,
        pipeline: str,
        reading: dict[str, Any],
        min_rows: int = 1,
        quiet_minutes: float = 5,
        poll_seconds: float = 30,
        removed: str = "drop",
        source_conn_id: str | None = None,
        queue: str | None = None,
        store: str | None = None,
    ) -> None:
        super().__init__()
        self.pipeline = pipeline
        self.reading = reading
        self.min_rows = min_rows
        self.quiet_minutes = quiet_minutes
        self.poll_seconds = poll_seconds
        self.removed = removed
        self.source_conn_id = source_conn_id
        self.queue = queue
        self.store = store
        self._process: StageProcess | None = None
        self._left_behind: Path | None = None
        self._counted: dict[str, int] = {}
        self._seen: tuple[str, datetime] = ("", datetime.min.replace(tzinfo=UTC))

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = (
            "pipeline",
            "reading",
            "min_rows",
            "quiet_minutes",
            "poll_seconds",
            "removed",
            "source_conn_id",
            "queue",
            "store",
        )
        return f"{type(self).__module__}.{type(self).__qualname__}", {n: getattr(self, n) for n in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        poll = after_failure = timedelta(seconds=self.poll_seconds)
        while True:
            try:
                event, until = await self._look()
            except Exception as error:  # whatever it is: a trigger that ends is one that nobody starts again
                pause, after_failure = after_failure, min(after_failure * 2, max(poll, LONGEST_PAUSE))
                await asyncio.to_thread(self._remember_failure, error, pause)
            else:
                pause = poll if until is None else min(poll, max(until - self._now(), timedelta()))
                after_failure = poll
                if event is not None:
                    yield TriggerEvent(event)
            await self._wait(pause)

    async def _look(self) -> tuple[dict[str, Any] | None, datetime | None]:
        """Look once, in a thread, since neither the stage nor the store can be waited for otherwise."""
        try:
            return await asyncio.to_thread(self.look)
        except asyncio.CancelledError:
            if self._process is not None:
                await asyncio.to_thread(self._process.stop)
            raise

    def look(self) -> tuple[dict[str, Any] | None, datetime | None]:
        """:return: the event, if a run is to be asked for; when to look again, if that is known."""
        history = self._ledger.since(INGESTED)
        found = self._survey(history[0].get("watermark") if history else None)
        now = self._now()
        settled = self._seen[0] == found.digest
        if not settled:
            self._seen = (found.digest, seen_since(found.digest, history) or now)
        decision = decide(found, self._seen[1], history, self._patience, now)
        seen = {"digest": found.digest, "rows": found.rows, "objects": found.objects}
        if decision.state == "due":
            try:
                self._ledger.append(ASKED, after=history[-1]["number"] if history else 0, **seen)
            except FileExistsError:
                return None, now  # somebody wrote meanwhile, maybe the same: look again
            self._tell(decision.reason, seen)
            return {"pipeline": self.pipeline, **seen, "examples": found.examples}, None
        told = last_waiting(history)
        said = told["state"] if told is not None else "nothing"
        # Data on the move is another at each look. What is kept is the move's beginning, and where it came to rest.
        if decision.state != said or (settled and told is not None and told["digest"] != found.digest):
            self._note(decision.state, decision.reason, self._seen[1], **seen)
        return None, decision.until

    def _survey(self, watermark: str | None) -> SurveyResult:
        reading = Reading.from_dict(self.reading)
        request = SurveyRequest(
            store=self._ledger.store.root,
            reading=reading,
            watermark=watermark,
            removed=self.removed,  # type: ignore[arg-type]  # checked by the stage
            counted=self._counted,
        )
        access = access_to_source(self.source_conn_id, reading)
        self._process = StageProcess(
            "survey",
            request,
            python=settings.training_python(),
            work=settings.work_directory(),
            path=settings.training_path(),
            env=access.environment,
        )
        if self._left_behind is not None:  # by one that failed; of failures every few minutes the last is enough
            shutil.rmtree(self._left_behind, ignore_errors=True)
        self._left_behind = self._process.directory
        found = SurveyResult.from_dict(self._process.run(lambda line: self.log.debug("%s", line), SURVEY_TIMEOUT))
        self._counted = found.counted
        return found

    def _remember_failure(self, error: Exception, pause: timedelta) -> None:
        """Say once in the ledger that the source cannot be read; the log says it each time."""
        reason = f"the source cannot be read: {error}"
        self.log.warning("%s: %s Looking again in %.0f s.", self.pipeline, reason, pause.total_seconds())
        with contextlib.suppress(Exception):  # the store may be what is away
            told = last_waiting(self._ledger.since(INGESTED))
            if told is None or told["state"] != "unreadable":
                self._note("unreadable", reason, self._now(), digest="", rows=0, objects=0)

    def _note(self, state: str, reason: str, since: datetime, **seen: Any) -> None:
        self._tell(reason, seen)
        self._ledger.append(WAITING, state=state, reason=reason, since=since.isoformat(timespec="milliseconds"), **seen)

    def _tell(self, reason: str, seen: dict[str, Any]) -> None:
        self.log.info("%s: %s rows in %s objects wait: %s", self.pipeline, seen["rows"], seen["objects"], reason)

    async def _wait(self, pause: timedelta) -> None:
        """Wait for ``pause``, or for a message in the queue."""
        if self.queue is None:
            await self._sleep(pause)
            return
        await self._sleep(SHORTEST_PAUSE)
        message = asyncio.create_task(self._message())
        try:
            await asyncio.wait({message}, timeout=max(pause - SHORTEST_PAUSE, timedelta()).total_seconds())
            if message.done() and (error := message.exception()) is not None:
                self.log.warning("%s: the queue %s cannot be read: %s", self.pipeline, self.queue, error)
                await self._sleep(pause)
        finally:
            message.cancel()

    async def _message(self) -> None:
        """
        Wait for a message. It is gone from the queue before anybody acts on it, and the next one of the same burst is
        not, so that a message is only ever a reason to look.
        """
        # in a thread: it imports boto3, and the other triggers of this process must not stand still for it
        sqs = await asyncio.to_thread(import_module, "airflow.providers.amazon.aws.triggers.sqs")
        messages = sqs.SqsSensorTrigger(
            self.queue,
            aws_conn_id=self.source_conn_id,
            max_messages=10,
            wait_time_seconds=LONG_POLL_SECONDS,
            waiter_delay=1,
        )
        async for _event in messages.run():
            return

    @cached_property
    def _ledger(self) -> Ledger:
        from training.store import Store

        return Ledger(Store(self.store or settings.store_uri()), self.pipeline, self._now)

    @property
    def _patience(self) -> Patience:
        return Patience(self.min_rows, timedelta(minutes=self.quiet_minutes))

    # What a test stands in for
    def _now(self) -> datetime:
        return datetime.now(UTC)

    async def _sleep(self, pause: timedelta) -> None:
        await asyncio.sleep(pause.total_seconds())
