"""Tell people what a run came to, by any of Airflow's notifiers. A message that does not go out fails no run."""

from __future__ import annotations

import importlib
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:  # whoever reads a spec comes by here, and need not wait for Airflow
    from airflow.sdk import BaseNotifier, Context

    from ratchet.spec import PipelineSpec

Event = Literal["ask", "hold", "promote", "rollback", "failure", "stale"]
EVENTS: tuple[Event, ...] = get_args(Event)
DEADLINE_SECONDS = 30.0  # assumed: three times what a slow mail server takes; nobody may hold up a step for longer
# What ``notify`` of a spec has: notifier, arguments and on; or the folder of the specs, where the pipeline's has it
Notifications = Sequence[Mapping[str, Any]] | str

log = logging.getLogger(__name__)


def tell(
    notifications: Notifications,
    context: Context,
    event: Event,
    pipeline: str,
    what: str,
    *,
    reasons: Iterable[str] = (),
    report_url: str | None = None,
    answer_url: str | None = None,
) -> None:
    """
    Tell everybody who wants to know of this event; whoever cannot be told is a warning in the log.

    :param what: happened, in a few words. The arguments after it are what templates find under ``ratchet`` as well.
    """
    from ratchet.links import run_url

    if isinstance(notifications, str):
        spec = spec_in(notifications, pipeline)
        notifications = spec.notifications() if spec else []
    subject, reasons = f"{pipeline}: {what}", list(reasons)
    addresses = (("Answer", answer_url), ("Report", report_url), ("Run", run_url(context)))
    lines = [subject, *(f"- {reason}" for reason in reasons)]
    lines += [f"{name}: {address}" for name, address in addresses if address]
    news = {
        "event": event,
        "pipeline": pipeline,
        "subject": subject,
        "text": "\n".join(lines),
        "reasons": reasons,
        "report_url": report_url,
        "answer_url": answer_url,
    }
    for one in notifications:
        if event in one["on"]:
            _tell(one, {**context, "ratchet": news}, event)


def _tell(notification: Mapping[str, Any], context: Any, event: Event) -> None:
    path = notification["notifier"]
    error = _failure(lambda: notifier_class(path)(**notification["arguments"])(context))
    if error is None:
        log.info("%s told of %r", path, event)
    else:
        log.warning("%s did not tell of %r: %s: %s", path, event, type(error).__name__, error)


def _failure(call: Callable[[], Any]) -> BaseException | None:
    """
    Run somebody else's code, which may raise, exit, or never return.

    It runs in a thread of its own that a step which ends does not wait for. A signal would reach only a main thread,
    and is taken already: Airflow ends a step that ran for too long by it.

    :return: what it raised; TimeoutError after DEADLINE_SECONDS; None: it returned.
    """
    raised: list[BaseException] = []

    def catch() -> None:
        try:
            call()
        except BaseException as error:  # SystemExit as well: the step goes on, whatever a notifier thinks
            raised.append(error)

    thread = threading.Thread(target=copy_context().run, args=(catch,), daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    if thread.is_alive():
        return TimeoutError(f"no answer within {DEADLINE_SECONDS:g} seconds")
    return raised[0] if raised else None


class TellFailure:
    """
    Airflow calls it when a task has failed for good: in its worker, or in the DAG processor where that is gone.

    :param pipeline: None: the one that the run's parameter names.
    """

    def __init__(self, pipeline: str | None, notifications: Notifications) -> None:
        self.pipeline, self.notifications = pipeline, notifications

    def __call__(self, context: Context) -> None:
        from airflow.sdk.log import redact

        error = context.get("exception")
        # an error may quote a password of a connection; in a log Airflow would mask it
        reason = str(redact(str(error))) if error else "its worker is gone, or somebody marked it as failed"
        what = f"{context['ti'].task_id} failed"
        pipeline = self.pipeline or (context.get("params") or {}).get("pipeline")
        if pipeline is None:
            log.warning("Nobody is told that %s, since nobody knows of which pipeline.", what)
            return
        tell(self.notifications, context, "failure", pipeline, what, reasons=[reason])


def spec_in(specs: str, pipeline: str) -> PipelineSpec | None:
    """
    :param specs: folder of the specs.
    :return: the pipeline's; None, with a warning in the log, where it cannot be read, so that nobody is told.
    """
    from ratchet.document import SpecError
    from ratchet.spec import load_spec

    try:
        return load_spec(Path(specs) / f"{pipeline}.yaml")
    except SpecError as error:
        log.warning("Nobody is told about %s, since its spec cannot be read: %s", pipeline, error)
        return None


def notifier_class(path: str) -> type[BaseNotifier]:
    """
    :param path: dotted.
    :raises ValueError: there is no such class, or it is no notifier.
    """
    from airflow.sdk import BaseNotifier

    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot be imported ({error}); install its provider, or correct its name") from error
    except (Exception, SystemExit) as error:  # whatever somebody else's module does
        raise ValueError(f"cannot be imported ({type(error).__name__}: {error}); correct its module") from error
    if not (inspect.isclass(found) and issubclass(found, BaseNotifier) and found is not BaseNotifier):
        raise ValueError("is no subclass of airflow.sdk.BaseNotifier")
    if inspect.isabstract(found) or found.notify is BaseNotifier.notify:
        raise ValueError("tells nobody, since it has no method notify; name a class that is made of it")
    return found


def check(notification: Mapping[str, Any]) -> None:
    """:raises ValueError: the class cannot be imported, is no notifier, or does not take these arguments."""
    error = _failure(lambda: _check(notification))
    if isinstance(error, TimeoutError):
        raise ValueError(f"cannot be imported ({error}); its module must not wait for anything") from error
    if error is not None:
        raise error


def _check(notification: Mapping[str, Any]) -> None:
    found = notifier_class(notification["notifier"])
    try:
        inspect.signature(found).bind(**notification["arguments"])
    except TypeError as error:
        raise ValueError(f"does not take these arguments: {error}") from error
