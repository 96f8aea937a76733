"""Lay out rows, counts and addresses for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote, urlsplit


def table(rows: Iterable[Sequence[str]], indent: str = "") -> str:
    """:return: the rows with their columns aligned; the last column is as long as it is."""
    rows = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    return "\n".join(
        indent + "  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    )


def page_of(report: str) -> str:
    """:param report: URI of a data report. :return: path or URI of its page."""
    page = f"{report}/report.html"
    return unquote(urlsplit(page).path) if page.startswith("file://") else page


def dropped_rows(by_reason: Mapping[str, int]) -> str:
    """:return: how many rows were dropped and why, the most frequent reason first."""
    reasons = sorted(by_reason.items(), key=lambda reason: -reason[1])
    return f"dropped {sum(by_reason.values()):,}: " + ", ".join(f"{reason} {count:,}" for reason, count in reasons)
