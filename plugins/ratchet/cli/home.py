"""Say where the embedded stack keeps everything it owns."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def has_stack() -> bool:
    """:return: whether the embedded stack can be started from here: it comes with a checkout, not with the package."""
    return find_spec("ratchet.cli.stack") is not None


def ratchet_home() -> Path:
    """:return: ``RATCHET_HOME``, or ``.ratchet`` in the checkout."""
    return Path(os.environ.get("RATCHET_HOME") or CHECKOUT / ".ratchet").expanduser().absolute()
