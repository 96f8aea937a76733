"""Say where the embedded stack keeps everything it owns."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def ratchet_home() -> Path:
    """:return: ``RATCHET_HOME``, or ``.ratchet`` in the checkout."""
    return Path(os.environ.get("RATCHET_HOME") or CHECKOUT / ".ratchet").expanduser().absolute()
