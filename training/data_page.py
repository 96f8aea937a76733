"""
Show a data report as one HTML page.

Standard library only, and nothing but the report goes in: a page can be made anew of any report, wherever it is read.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from training.contract import SPLITS
from training.page import code, document, table, text

SHOWN_LABELS = 30  # the others are there when they are asked for
ALL_LABELS = 400
LABEL_LENGTH = 80
PAIRS = 4  # the others are there when they are asked for
WORD = re.compile(r"\s*\S{1,100}")  # a word with the white space before it; one that never ends is cut

WHAT_BECAME = {
    "report": "reported",
    "drop": "left out",
    "quarantine": "new rows set aside",
    "fail": "the run ends",
    "redact": "masked",
    "ignore": "ignored",
}
TEST_CHANGES = ("added", "deleted", "corrected", "respelled")
SIDE_BY_SIDE = {  # checks whose examples are two texts
    "near_test": ("Nearest leaks", "Left the text, right that of the test split which it is like"),
    "near_duplicate": ("Nearest duplicates", "Left the text, right the one which it is like"),
}


def data_page(report: Mapping[str, Any]) -> str:
    """:param report: as training.data_report describes it. :return: a complete HTML document."""
    refused = report["quarantined"] is not None
    parts = [
        _header(report),
        _refused(report) if refused else "",
        _pairs(report),
        _other_examples(report),
        _rows(report),
        _labels(report),
        _lengths(report),
        "" if refused else _dropped(report),
        _objects(report),
        _identities(report),
    ]
    return document(f"Data report: {report['pipeline']}", "\n".join(filter(None, parts)), STYLE)


def _header(report: Mapping[str, Any]) -> str:
    rows, labels = sum(report["rows"]["now"].values()), len(report["labels"]) + report["labels_left_out"]
    if report["quarantined"]:
        tone, headline = "refused", "New rows refused"
        told = f"<p>{text(report['quarantined'])}.</p><p>The last good snapshot stays in force: {rows:,} rows.</p>"
    else:
        tone = "warned" if report["findings"] else "taken"
        headline = f"{rows:,} rows, {labels:,} labels"
        told = f"<p>{_difference_in_rows(report)}</p>"
    findings = "".join(f"<li>{_finding(one)}</li>" for one in report["findings"])
    return f"""<header class="{tone}">
<p class="about">{text(report["pipeline"])}, {text(_minute(report["made"]))}</p>
<h1>{headline}</h1>
{told}
{f"<ul>{findings}</ul>" if findings else ""}
</header>"""


def _difference_in_rows(report: Mapping[str, Any]) -> str:
    last = report["rows"]["last"]
    if last is None:
        return "There is no earlier snapshot to compare with."
    difference = sum(report["rows"]["now"].values()) - sum(last.values())
    if not difference:
        return "As many rows as in the last snapshot."
    return f"{abs(difference):,} {'more' if difference > 0 else 'fewer'} than in the last snapshot."


def _finding(one: Mapping[str, Any]) -> str:
    became = WHAT_BECAME.get(one["policy"], one["policy"])
    return f'{text(one["sentence"])} <span class="became">{text(one["check"])}: {text(became)}</span>'


def _rows(report: Mapping[str, Any]) -> str:
    now, last = report["rows"]["now"], report["rows"]["last"]
    rows = []
    for split, count in [*((split, now[split]) for split in SPLITS), ("all", sum(now.values()))]:
        row = [text(split), f"{count:,}"]
        if last is not None:
            before = last.get(split, 0) if split != "all" else sum(last.values())
            row += [f"{before:,}", _signed(count - before)]
        rows.append(row)
    head = ["split", "rows", *(["last snapshot", "change"] if last is not None else [])]
    title = "Rows of the snapshot in force" if report["quarantined"] else "Rows"
    return f"<h2>{title}</h2>{table(head, rows)}{_test_split(report)}"


def _test_split(report: Mapping[str, Any]) -> str:
    found = report.get("test_split")
    if not found:
        return ""
    told = f"Version {found['version']:,} of the test split"
    if found["version"] > 1:
        changes = (f"{'unknown' if found[one] is None else _value(found[one])} {one}" for one in TEST_CHANGES)
        told += f"; since version {found['version'] - 1:,}: {', '.join(changes)}"
    shown = ""
    for change in TEST_CHANGES:
        if rows := "".join(_test_change(one) for one in found["examples"] if one["change"] == change):
            shown += f'<details><summary>test rows {change}</summary><ul class="quotes">{rows}</ul></details>'
    return f"<p>{told}.</p>{shown}"


def _test_change(one: Mapping[str, Any]) -> str:
    label = _label(one["was"]) + (f" → {_label(one['label'])}" if one["label"] is not None else "")
    place = f"{text(one['file'] or 'an unknown object')}, row {one['row']:,}"
    return f'<li>{_quote(one.get("text"))}<p class="where">{label} · {place}</p></li>'


def _labels(report: Mapping[str, Any]) -> str:
    shares = sorted((_Share(one, report) for one in report["labels"]), key=lambda one: -one.now)
    if not shares:
        return ""
    widest = max(max(one.now, one.last or 0) for one in shares) or 1
    compared = report["rows"]["last"] is not None
    few = len(shares) <= SHOWN_LABELS
    if few or not compared:
        first, order = shares, "the most frequent first"
    else:
        first = sorted(shares, key=lambda one: -abs(one.change))
        order = f"the {SHOWN_LABELS} whose share moved most"
    legend = '<svg class="key" viewBox="0 0 24 12"><rect class="bar" y="2" width="24" height="8"/></svg> now'
    if compared:
        legend += (
            ' <svg class="key" viewBox="0 0 24 12"><rect class="bar" y="2" width="24" height="8" opacity=".25"/>'
            '<rect class="mark" x="11" width="2.5" height="12"/></svg> in the last snapshot'
        )
    shown = f"{_share_table(first[:SHOWN_LABELS], widest, compared=compared)}"
    if not few:
        rest = _share_table(shares[:ALL_LABELS], widest, compared=compared)
        left = len(shares) + report["labels_left_out"] - ALL_LABELS
        more = f"<p>and {left:,} more</p>" if left > 0 else ""
        count = len(shares) + report["labels_left_out"]
        shown += f"<details><summary>All {count:,} labels, the most frequent first</summary>{rest}{more}</details>"
    return f"<h2>Labels</h2><p>Shares of the training rows, {order}: {legend}</p>{shown}"


class _Share:
    """One label's share of the training rows, now and in the last snapshot."""

    def __init__(self, one: Mapping[str, Any], report: Mapping[str, Any]) -> None:
        self.label, self.rows = one["label"], one["now"]["train"]
        self.now = self.rows / (report["rows"]["now"]["train"] or 1)
        self.last = one["last"]["train"] / (report["rows"]["last"]["train"] or 1) if one["last"] else None
        self.change = self.now - (self.last or 0)


def _share_table(shares: Sequence[_Share], widest: float, *, compared: bool) -> str:
    rows = []
    for one in shares:
        mark = ""
        if one.last is not None:
            mark = (
                f'<rect class="mark" x="{max(0.0, min(1000 * one.last / widest, 997)) - 3:.1f}" width="6" height="24"/>'
            )
        bar = (
            '<svg class="share" viewBox="0 0 1000 24" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="bar" y="4" width="{1000 * one.now / widest:.1f}" height="16"/>{mark}</svg>'
        )
        row = [_label(one.label), bar, f"{one.rows:,}", f"{one.now:.2%}"]
        if compared:
            row += ["–" if one.last is None else f"{one.last:.2%}", _points(one)]
        rows.append(row)
    head = ["label", "", "rows", "share", *(["last", "change"] if compared else [])]
    return f'<div class="shares">{table(head, rows, text_columns=2)}</div>'


def _points(one: _Share) -> str:
    if one.last == 0:
        return "new" if one.now else "–"
    if not one.now:
        return "gone"
    return _rounded(100 * one.change)


def _lengths(report: Mapping[str, Any]) -> str:
    lengths = report["lengths"]
    shown = ""
    if counts := lengths.get("characters"):
        rows = sum(count for _length, count in counts)
        shown += (
            f"<h2>Length of the texts</h2><p>In characters: {rows:,} usable rows, before duplicates are left out</p>"
            f"{_histogram(counts)}"
        )
    return shown + _tokens(lengths.get("tokens"))


def _tokens(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    limit = found["limit"]
    told = (
        f"As {text(found['base_model'])} counts them, in a sample of {found['sample_rows']:,} of {found['new_rows']:,} "
        f"new texts: median {found['median']:,}, 99 per cent up to {found['percentile_99']:,}, longest "
        f"{found['longest']:,}. "
        f"Longer than {limit:,}, the most that may be read of one: {found['percent_cut']:.3g} per cent."
    )
    return f"<h2>Length in tokens</h2><p>{told}</p>{_histogram(found['histogram'], limit)}"


def _histogram(counts: Sequence[Sequence[int]], limit: float = math.inf) -> str:
    """
    :param counts: lower bound and rows of each group, in order.
    :param limit: groups from here on are too long.
    """
    if not counts:
        return ""
    step, height, top = 46, 150, 18
    bottom = top + height
    most = max(rows for _length, rows in counts) or 1
    total = sum(rows for _length, rows in counts) or 1
    bars = ""
    for i, (length, rows) in enumerate(counts):
        tall = max(height * rows / most, 1.0 if rows else 0.0)
        kind, left = "bar" if length < limit else "cut", i * step
        bars += (
            f'<rect class="{kind}" x="{left + 2}" y="{bottom - tall:.1f}" width="{step - 4}" height="{tall:.1f}">'
            f"<title>{rows:,} rows</title></rect>"
            f'<text x="{left + step / 2}" y="{bottom - tall - 5:.1f}">{_percent(rows / total)}</text>'
            f'<text class="edge" x="{left + 2}" y="{bottom + 16}">{length:,}</text>'
        )
    width = len(counts) * step + 10
    return (
        f'<div class="wide"><svg class="histogram" viewBox="0 0 {width} {bottom + 24}" width="{width}" '
        f'role="img"><title>Share of the rows by length</title>{bars}'
        f'<line x1="0" x2="{width}" y1="{bottom}" y2="{bottom}"/></svg></div>'
    )


def _percent(share: float) -> str:
    if share >= 0.095:
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.0005 else "&lt;0.1%" if share else ""


def _dropped(report: Mapping[str, Any]) -> str:
    if not report["dropped"]:
        return ""
    compared = report["last"] is not None
    rows = []
    for one in report["dropped"]:
        row = [text(one["reason"]), text(WHAT_BECAME.get(one["policy"], one["policy"])), f"{one['all']:,}"]
        rows.append([*row, f"{one['last']:,}", _signed(one["all"] - one["last"])] if compared else row)
    head = ["reason", "what becomes of it", "rows", *(["last snapshot", "change"] if compared else [])]
    return f"<h2>What was left out, and why</h2>{table(head, rows, text_columns=2)}{_examples(report['examples'])}"


def _refused(report: Mapping[str, Any]) -> str:
    if not report["dropped"]:
        return ""
    rows = [[text(one["reason"]), f"{one['new']:,}"] for one in report["dropped"]]
    return f"<h2>What is wrong with new rows</h2>{table(['', 'new rows'], rows)}{_examples(report['examples'])}"


def _examples(examples: Iterable[Mapping[str, Any]]) -> str:
    by_reason: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in examples:
        by_reason[one["reason"]].append(one)
    shown = ""
    for reason, found in by_reason.items():
        rows = "".join(map(_example, found))
        shown += f'<details open><summary>{text(reason)}</summary><ul class="quotes">{rows}</ul></details>'
    return shown


def _example(one: Mapping[str, Any]) -> str:
    label = f"{_label(one['label'])} · " if one.get("label") else ""
    return f'<li>{_quote(one.get("text"))}<p class="where">{label}{text(one["file"])}, row {one["row"]:,}</p></li>'


def _quote(value: object) -> str:
    if value is None:
        return '<p class="quote none">no text</p>'
    if not str(value).strip():
        return f'<p class="quote none">white space, {len(str(value)):,} characters</p>'
    return f'<p class="quote" dir="auto">{text(str(value).strip())}</p>'


def _pairs(report: Mapping[str, Any]) -> str:
    shown = ""
    for finding in report["findings"]:
        pairs = [one for one in finding["examples"] if one.get("text") and one.get("near_text")]
        if finding["check"] in SIDE_BY_SIDE and pairs:
            pairs.sort(key=lambda one: -(one.get("similarity") or 0))
            title, beside = SIDE_BY_SIDE[finding["check"]]
            rest = "".join(map(_pair, pairs[PAIRS:]))
            more = f"<details><summary>{len(pairs) - PAIRS:,} more</summary>{rest}</details>"
            shown += (
                f"<h2>{title}</h2><p>{beside}; the words that differ are marked.</p>"
                f"{''.join(map(_pair, pairs[:PAIRS]))}{more if rest else ''}"
            )
    return shown


def _pair(one: Mapping[str, Any]) -> str:
    left, right = _marked(one["text"], one["near_text"])
    similar = f"{one['similarity']:.0%} alike" if one.get("similarity") is not None else ""

    def side(words: str, where: str, prefix: str) -> str:
        place = f"{text(one.get(f'{prefix}file', ''))}, row {text(one.get(f'{prefix}row', ''))}"
        return f'<div><p class="quote" dir="auto">{words}</p><p class="where">{where}{place}</p></div>'

    return f'<div class="pair">{side(left, "", "")}{side(right, f"{similar} · ", "near_")}</div>'


def _marked(left: str, right: str) -> tuple[str, str]:
    """:return: both texts as HTML, with the words marked that the other has not."""
    one, other = WORD.findall(left), WORD.findall(right)
    matcher = SequenceMatcher(None, [word.strip() for word in one], [word.strip() for word in other], autojunk=False)
    shown: tuple[list[str], list[str]] = ([], [])
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        for words, target in ((one[i1:i2], shown[0]), (other[j1:j2], shown[1])):
            run = "".join(words)
            if kind == "equal" or not run:
                target.append(text(run))
            else:
                space = run[: len(run) - len(run.lstrip())]
                target.append(f"{space}<mark>{text(run.lstrip())}</mark>")
    return "".join(shown[0]), "".join(shown[1])


def _other_examples(report: Mapping[str, Any]) -> str:
    """What the other checks found, as it is: each check's examples say what they say."""
    shown = ""
    for finding in report["findings"]:
        if finding["check"] in SIDE_BY_SIDE or not finding["examples"]:
            continue
        names = list(dict.fromkeys(name for one in finding["examples"] for name in one if not _is_identity(name)))
        rows = [[_value(one.get(name)) for name in names] for one in finding["examples"]]
        head = [text(name.replace("_", " ")) for name in names]
        shown += (
            f"<details><summary>{text(finding['check'].replace('_', ' '))}: examples</summary>"
            f"{table(head, rows, text_columns=len(names))}</details>"
        )
    return f"<h2>What the checks found</h2>{shown}" if shown else ""


def _is_identity(name: str) -> bool:
    return name.endswith("_sha256")


def _objects(report: Mapping[str, Any]) -> str:
    counts, named = report["objects"]["counts"], report["objects"]["named"]
    rows = []
    for what in sorted(counts, key=lambda what: (what not in named, what)):
        names = [text(name) for name in named.get(what, ())]
        if named.get(what) and counts[what] > len(names):
            names.append(f"and {counts[what] - len(names):,} more")
        rows.append([text(what), f"{counts[what]:,}", "<br>".join(names)])
    return f'<div class="objects"><h2>Objects</h2>{table(["", "count", "names"], rows, text_columns=3)}</div>'


def _identities(report: Mapping[str, Any]) -> str:
    rows = [["snapshot", code(report["snapshot"]["digest"])]]
    if report["last"]:
        rows.append(["last snapshot", code(report["last"]["digest"])])
    rows += [[text(name), _value(value)] for name, value in report["source"].items() if value is not None]
    return "<h2>What was read</h2>" + table(["", ""], rows, text_columns=2)


def _label(label: str) -> str:
    return text(label if len(label) <= LABEL_LENGTH else label[:LABEL_LENGTH] + "…")


def _rounded(value: float) -> str:
    shown = f"{value:+.2f}".replace("-", "−")
    return "0.00" if shown in ("+0.00", "−0.00") else shown


def _signed(difference: int) -> str:
    return f"{difference:+,}".replace("-", "−") if difference else "0"


def _value(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return "–" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{text(name)} {_value(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return text(value)


def _minute(made: str) -> str:
    return f"{made[:16].replace('T', ' ')} UTC"


STYLE = """
header.taken { --tone: var(--good) } header.refused { --tone: var(--bad) } header.warned { --tone: var(--ask) }
header h1 { color: var(--ink) } header li { margin: .2rem 0 }
.became { color: var(--soft); font-size: .85em; white-space: nowrap }
.bar { fill: var(--bar) } .cut { fill: var(--bad) } .mark { fill: var(--ink) }
.key { width: 24px; height: 12px; vertical-align: baseline; margin-left: .4rem }
.shares table { width: 100% } .shares td:first-child { min-width: 14rem }
.shares td:nth-child(2) { width: 40%; min-width: 8rem } .objects td { max-width: none }
.shares td { padding-top: .15rem; padding-bottom: .15rem; vertical-align: middle }
.share { display: block; width: 100%; height: 1.1rem }
.histogram { display: block; max-width: none } .histogram line { stroke: var(--line) }
.histogram text { fill: var(--soft); font-size: 11px; text-anchor: middle } .histogram .edge { text-anchor: start }
.none { color: var(--soft); font-style: italic }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; padding: .6rem 0;
  border-bottom: 1px solid var(--line) }
mark { background: color-mix(in srgb, var(--ask) 30%, transparent); color: inherit; border-radius: 2px }
@media (max-width: 40rem) { main { padding: .8rem } .pair { grid-template-columns: 1fr; gap: .4rem }
  .shares td:first-child { min-width: 6rem } .shares td:nth-child(2) { min-width: 4rem; width: 25% } }
"""
