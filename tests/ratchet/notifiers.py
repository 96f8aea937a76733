"""Notifiers that remember what they were told."""

from __future__ import annotations

import sys
import threading
from typing import ClassVar

from airflow.sdk import BaseNotifier


class Remembering(BaseNotifier):
    """:param to: who is told. :param text: what, as a template."""

    template_fields = ("text",)
    told: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, to, text="{{ ratchet.event }}: {{ ratchet.subject }}"):
        super().__init__()
        self.to, self.text = to, text

    def notify(self, context):
        self.told.append((self.to, self.text))


class Broken(BaseNotifier):
    """The service is away."""

    def notify(self, context):
        raise ConnectionError("the service is away")


class Exiting(BaseNotifier):
    """Thinks that the step is a program of its own."""

    def notify(self, context):
        sys.exit("no account")


class Hanging(BaseNotifier):
    """The service takes the connection and never answers."""

    def notify(self, context):
        threading.Event().wait()


class Abstract(BaseNotifier):
    """What is made of it may tell; this one cannot."""


class NoNotifier:
    pass
