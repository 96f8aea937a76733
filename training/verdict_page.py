"""Show a verdict and its evidence as one HTML page."""

from __future__ import annotations

from typing import Any

from training.page import code, document, table, text
from training.report import HIGHER_IS_BETTER, LATENCIES, REPORTED, Report, Scored, UnusableReport, read_report
from training.verdict import RuleOutcome, Verdict

MATRIX_LABELS = 16  # beyond this the confusion matrix is unreadable and gives way to a list of the commonest mistakes
MISTAKES = 30
STRONGEST = 0.6  # of a cell's colour, so that its number stays legible

HEADLINES = {"promote": "Promote", "hold": "Hold", "ask": "Ask a person"}
CONSEQUENCES = {
    "promote": "The candidate may replace the champion.",
    "hold": "Production stays as it is.",
    "ask": "A person decides; until then production stays as it is.",
}


def verdict_page(report: dict[str, Any], verdict: Verdict) -> str:
    """
    :param report: the evaluation report that was judged; of one that cannot be used only the verdict is shown.
    :return: a complete HTML document.
    """
    try:
        evidence = _evidence(read_report(report))
    except UnusableReport as fault:
        evidence = f"<p>The evaluation report is not shown because it cannot be used: {text(fault)}</p>"
    model = (verdict.candidate or {}).get("model", "unknown candidate")
    title = f"{HEADLINES[verdict.decision]}: {model}"
    body = f"""<header class="{verdict.decision}">
<p class="about">{text(model)}</p>
<h1>{text(HEADLINES[verdict.decision])}</h1>
<p>{text(CONSEQUENCES[verdict.decision])}</p>
<ul>{"".join(f"<li>{text(reason)}</li>" for reason in verdict.reasons)}</ul>
</header>
{_notes(verdict)}
{_rules(verdict)}
{evidence}"""
    return document(title, body, STYLE)


def _notes(verdict: Verdict) -> str:
    if not verdict.notes:
        return ""
    return f"<h2>Notes</h2><ul>{''.join(f'<li>{text(note)}</li>' for note in verdict.notes)}</ul>"


def _rules(verdict: Verdict) -> str:
    if not verdict.rules:
        return ""
    marks = {
        "pass": '<span class="good">✓ pass</span>',
        "fail": '<span class="bad">✗ fail</span>',
        "undecided": '<span class="unsure">? undecided</span>',
    }
    rows = [
        [text(rule.name), marks[rule.outcome], _number(rule.value), _interval(rule), _bound(rule), _count(rule.rows)]
        for rule in verdict.rules
    ]
    head = ["rule", "outcome", "value", "interval", "bound", "rows"]
    return "<h2>Rules</h2>" + table(head, rows, text_columns=2)


def _interval(rule: RuleOutcome) -> str:
    if rule.low is None or rule.high is None:
        return "–"
    return f"{_number(rule.low)} to {_number(rule.high)}"


def _bound(rule: RuleOutcome) -> str:
    at_most = rule.name.startswith(("maximum.", "agreement", "barred"))
    return f"at {'most' if at_most else 'least'} {_number(rule.bound)}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _evidence(report: Report) -> str:
    return "\n".join(
        [
            _metrics(report),
            _serving(report),
            _labels(report),
            _confusion(report, report.candidate),
            _identities(report),
        ],
    )


def _metrics(report: Report) -> str:
    champion = report.champion
    others = _others(report)
    rows = []
    for name in REPORTED:
        value = report.candidate.metrics[name]
        row = [text(name), _number(value)]
        if champion:
            before = champion.metrics[name]
            row += [_number(before), _difference(value - before, higher_is_better=name in HIGHER_IS_BETTER)]
        rows.append([*row, *(_number(other.metrics[name]) for other in others.values())])
    head = ["metric", "candidate", *(["champion", "difference"] if champion else []), *others]
    note = "" if champion else "<p>There is no champion to compare with yet.</p>"
    if report.test_set.new_rows:
        note += f"<p>{report.test_set.new_rows:,} of the rows joined after the champion was judged.</p>"
    return f"<h2>Metrics on {report.test_set.rows:,} test rows</h2>{note}{table(head, rows)}"


def _others(report: Report) -> dict[str, Scored]:
    """:return: what stands beside candidate and champion, by the name of its column."""
    found = {"best ever": report.best, "baseline": report.baseline}
    return {name: scored for name, scored in found.items() if scored}


def _serving(report: Report) -> str:
    models = {"candidate": report.candidate, "champion": report.champion, "best ever": report.best}
    served = {name: scored.serving for name, scored in models.items() if scored and scored.serving}
    lines = {
        **{f"latency {each}, ms": [f"{one.latency_ms[each]:.1f}" for one in served.values()] for each in LATENCIES},
        "texts per second": [f"{one.throughput:,.0f}" for one in served.values()],
        "on disk, MB": [f"{one.disk_bytes / 1e6:,.1f}" for one in served.values()],
        "in memory, MB": [f"{one.memory_bytes / 1e6:,.1f}" for one in served.values()],
        "precision": [text(one.precision) for one in served.values()],
        "same label as the checkpoint": [f"{one.agreement.labels:.2%}" for one in served.values()],
        "largest difference of a score": [f"{one.agreement.largest_difference:.1e}" for one in served.values()],
        "rows beyond the tolerance": [
            f"{one.agreement.rows_beyond_tolerance:,} (±{one.agreement.tolerance:g})" for one in served.values()
        ],
    }
    about = "<p>measured where it was evaluated; the latency is of one text alone, without network</p>"
    return f"<h2>Serving</h2>{about}{table(['', *served], [[name, *cells] for name, cells in lines.items()])}"


def _labels(report: Report) -> str:
    candidate, champion = report.candidate.labels, report.champion.labels if report.champion else None

    def change(label: str) -> float:
        return (candidate[label].f1 or 0) - ((champion[label].f1 or 0) if champion else 0)

    def row(label: str) -> list[str]:
        own = candidate[label]
        cells = [text(label), f"{own.support:,}", *map(_number, (own.precision, own.recall, own.f1))]
        if champion:
            cells += [_number(champion[label].f1), _difference(change(label))]
        return cells

    head = ["label", "rows", "precision", "recall", "F1", *(["champion's F1", "difference"] if champion else [])]
    order = "largest loss first" if champion else "lowest F1 first"
    rows = [row(label) for label in sorted(report.test_set.labels, key=lambda label: (change(label), label))]
    return f"<h2>Labels</h2><p>{order}</p>{table(head, rows)}{_unknown(report)}"


def _unknown(report: Report) -> str:
    if not report.champion or not report.champion.unknown_labels:
        return ""
    names = ", ".join(map(text, report.champion.unknown_labels))
    return f"<p>The champion does not know {names}; test rows with these labels count against it.</p>"


def _confusion(report: Report, scored: Scored) -> str:
    labels = report.test_set.labels
    if len(labels) > MATRIX_LABELS:
        return _mistakes(labels, scored)
    head = "".join(f'<th scope="col"><span>{text(label)}</span></th>' for label in labels)
    body = ""
    for i, label in enumerate(labels):
        total = sum(scored.confusion[i]) or 1
        cells = "".join(
            f'<td class="{"right" if i == j else "wrong"}" '
            f'style="--share:{STRONGEST * count / total:.3f}">{count:,}</td>'
            for j, count in enumerate(scored.confusion[i])
        )
        body += f'<tr><th scope="row">{text(label)}</th>{cells}</tr>'
    return (
        "<h2>What the candidate takes for what</h2><p>rows: true label; columns: predicted label</p>"
        f'<div class="wide"><table class="matrix"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _mistakes(labels: tuple[str, ...], scored: Scored) -> str:
    found = sorted(
        (-count, labels[i], labels[j], count / sum(row))
        for i, row in enumerate(scored.confusion)
        for j, count in enumerate(row)
        if count and i != j
    )
    rows = [[text(true), text(taken), f"{-count:,}", f"{share:.0%}"] for count, true, taken, share in found[:MISTAKES]]
    left = f"<p>and {len(found) - MISTAKES:,} more</p>" if len(found) > MISTAKES else ""
    head = ["true label", "taken for", "rows", "of the label"]
    return f"<h2>The candidate's commonest mistakes</h2>{table(head, rows, text_columns=2)}{left}"


def _identities(report: Report) -> str:
    rows = [["candidate", text(report.candidate.model), code(report.candidate.digest)]]
    for name, scored in {"champion": report.champion, **_others(report)}.items():
        if scored:
            rows.append([name, text(scored.model), code(scored.digest)])
    rows.append(["test set", text(report.test_set.uri), code(report.test_set.digest)])
    return "<h2>What was compared</h2>" + table(["", "name", "SHA-256"], rows, text_columns=3)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}".replace("-", "−")


def _difference(value: float, *, higher_is_better: bool = True) -> str:
    shown = f"{value:+.4f}".replace("-", "−")
    if float(f"{value:.4f}") == 0:
        return "0.0000"
    return f'<span class="{"good" if (value > 0) == higher_is_better else "bad"}">{shown}</span>'


STYLE = """
header.promote { --tone: var(--good) } header.hold { --tone: var(--bad) } header.ask { --tone: var(--ask) }
.unsure { color: var(--ask) }
.matrix th, .matrix td { padding: .3rem .4rem; max-width: 16rem } .matrix tbody th { min-width: 9rem }
.matrix td { text-align: right; min-width: 2.6rem; border: 1px solid var(--line) } .matrix thead td { border: 0 }
.matrix thead th { vertical-align: bottom; text-align: right }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 12rem; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis }
.right { background: color-mix(in srgb, var(--good) calc(var(--share) * 100%), transparent) }
.wrong { background: color-mix(in srgb, var(--bad) calc(var(--share) * 100%), transparent) }
"""
