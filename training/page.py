"""
The parts of a page that shows what a step found: no script, nothing loaded from elsewhere, every value escaped.

Standard library only: the gate runs inside Airflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from training.visible import visible


def document(title: str, body: str, style: str = "") -> str:
    """
    :param body: HTML.
    :param style: CSS beside ``STYLE``.
    :return: a complete HTML document, which may be shown to anybody whatever the values in it are.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{text(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """:param rows: escaped cells; all but the first ``text_columns`` are numbers."""

    def kind(column: int) -> str:
        return "" if column < text_columns else ' class="number"'

    top = "".join(f'<th scope="col"{kind(i)}>{name}</th>' for i, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def folded(summary: str, body: str) -> str:
    """:param body: HTML that is there when it is asked for, and on paper."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"


def code(value: object) -> str:
    return f"<code>{text(value)}</code>"


def text(value: object) -> str:
    """
    :return: HTML that shows the value as it is, also in an attribute: no character of it is markup, or turns the
        direction of what follows; one that nobody sees is shown by its number.
    """
    return visible(escape(str(value), quote=True))


STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #fff; --line: #d5dae0; --panel: #f5f7f9;
  --good: #176f2c; --bad: #b3261e; --ask: #8a5a00; --bar: #3f7cac }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --paper: #14171b; --line: #343b44;
  --panel: #1c2127; --good: #6fd388; --bad: #ff8f87; --ask: #f0bd5b; --bar: #6ba8d6 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem }
header { border-left: 6px solid var(--tone); background: var(--panel); padding: 1rem 1.25rem; border-radius: 4px }
header h1 { margin: 0; color: var(--tone); font-size: 1.9rem; line-height: 1.2 }
header p { margin: .25rem 0 } header ul { margin: .6rem 0 0; padding-left: 1.2rem }
.about, p { color: var(--soft) } header li, header p { overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2rem 0 .4rem } h2 + p { margin: 0 0 .4rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  max-width: 26rem; overflow-wrap: anywhere }
thead th { color: var(--soft); font-weight: 600; overflow-wrap: normal }
.number { text-align: right; padding-left: 1rem; white-space: nowrap }
.good { color: var(--good) } .bad { color: var(--bad) }
code { font-size: .85em } td:has(code) { max-width: none }
details { margin: .5rem 0 } summary { cursor: pointer; overflow-wrap: anywhere } details .wide { margin-top: .4rem }
.quotes { list-style: none; padding: 0; margin: .3rem 0 } .quotes li { margin: .3rem 0 .6rem }
.quote { margin: 0; color: var(--ink); border-inline-start: 3px solid var(--line); padding-inline-start: .7rem;
  overflow: clip; overflow-wrap: anywhere; white-space: pre-line }
.where { margin: 0; padding-left: .8rem; font-size: .85em; overflow-wrap: anywhere }
@media print { body { font-size: 11px; print-color-adjust: exact; -webkit-print-color-adjust: exact }
  main { max-width: none; padding: 0 } tr, header { break-inside: avoid } h2 { break-after: avoid }
  .wide { overflow: visible } details::details-content { content-visibility: visible; height: auto } }
"""
