"""Put a whole file in place, or none."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace ``path``. Whoever reads it meanwhile has the old content or the new. ``mode`` holds from the start."""
    partial = path.with_name(f".part-{path.name}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    partial.replace(path)
