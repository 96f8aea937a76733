"""How many processors there are to work with."""

from __future__ import annotations


def cores() -> int:
    """:return: those that this process may use, also within the limits of a container."""
    from joblib import cpu_count

    return max(1, cpu_count())
