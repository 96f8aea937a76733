"""Notifiers that remember what they were told."""

from __future__ import annotations

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


class NoNotifier:
    pass
