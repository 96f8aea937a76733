"""
Show a verdict and what it is about as one HTML page.

Nothing but ``verdict.json`` and ``details.json`` goes in, so that a page can be made anew wherever they lie, without a
text that was taken out of them meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training import strip, verdict_examples, verdict_groups
from training.page import code, document, folded, table, text
from training.report import HIGHER_IS_BETTER, LATENCIES
from training.strip import better_by, gain, number

FIRST_REASONS = 6  # the others are beneath, with their rules
FIRST_RULES = 30  # of those that do not pass; the others are there when they are asked for
FIRST_OBJECTS = 10
ROLES = {"candidate": "candidate", "champion": "champion", "best": "best ever", "baseline": "baseline"}

HEADLINES = {"promote": "Promote", "hold": "Hold", "ask": "Ask a person"}
OUTCOMES = {
    "fail": '<span class="bad">✗ fail</span>',
    "undecided": '<span class="unsure">? undecided</span>',
    "pass": '<span class="good">✓ pass</span>',
}
COLOURS = {"fail": "bad", "undecided": "unsure", "pass": "good"}
COMPARING = ("no_worse_by.", "mark.", "better.", "group.")
COUNTS = ("agreement", "barred", "labels_measured")  # rules whose value and bound are counts


def verdict_page(verdict: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    """
    :param verdict: as training.verdict.Verdict has it.
    :param details: as training.verdict_details has them; empty: the report could not be used.
    :return: a complete HTML document.
    """
    model = (verdict["candidate"] or {}).get("model", "unknown candidate")
    title = f"{HEADLINES[verdict['decision']]}: {model}"
    parts = [_header(verdict, details), _rules(verdict["rules"]), _notes(verdict)]
    if details:
        vetoes = {one["name"].removeprefix("group.") for one in verdict["rules"] if one["name"].startswith("group.")}
        parts += [
            _metrics(details),
            verdict_groups.old_and_new(details),
            verdict_groups.labels(details, vetoes),
            verdict_groups.slices(details, vetoes),
            verdict_groups.calibration(details),
            verdict_groups.confusion(details),
            _serving(details),
            verdict_examples.examples(details),
            verdict_examples.behaviour(details),
            _origin(details),
        ]
    style = STYLE + strip.STYLE + verdict_groups.STYLE + verdict_examples.STYLE
    return document(title, "\n".join(filter(None, parts)), style)


def _header(verdict: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    decision, reasons = verdict["decision"], verdict["reasons"]
    champion = (verdict["champion"] or {}).get("model")
    about = f"{text((verdict['candidate'] or {}).get('model', 'unknown candidate'))}" + (
        f" against {text(champion)}" if champion else ""
    )
    told = "".join(f"<li>{text(reason)}</li>" for reason in reasons[:FIRST_REASONS])
    if (more := len(reasons) - FIRST_REASONS) > 0:
        told += f"<li>and {more:,} more, below</li>"
    return f"""<header class="{decision}">
<p class="about">{about}</p>
<h1>{HEADLINES[decision]}</h1>
<p class="next">{text(_consequence(verdict))}</p>
<ul>{told}</ul>
{_main_figure(details)}
</header>"""


def _consequence(verdict: Mapping[str, Any]) -> str:
    decision, champion = verdict["decision"], (verdict["champion"] or {}).get("model")
    if verdict["candidate"] is None:
        return "Production stays as it is: nothing can be promoted before the evaluation is run again."
    if champion and verdict["candidate"]["digest"] == verdict["champion"]["digest"]:
        return "The candidate is the champion already: production stays as it is."
    if decision == "promote":
        return "The candidate is deployed, and becomes the champion once its endpoint answers as it should."
    stays = f"{champion} goes on serving" if champion else "nothing is deployed"
    if decision == "ask":
        return f"A person decides. Until then {stays}."
    return f"Production stays as it is: {stays}, unless a person overrides the gate."


def _main_figure(details: Mapping[str, Any]) -> str:
    """The metric that candidate and champion are compared by, large enough to be read first."""
    if not details:
        return ""
    found = next(one for one in details["metrics"] if one["name"] == details["rules"]["metric"])
    figures = [(role, number(found[role])) for role in ("candidate", "champion") if role in found]
    if better := found.get("better_by"):
        said = f'<span class="{strip.tone(better)}">{better_by(better["value"])}</span>'
        between = strip.reach(better)
        figures.append(("difference", f"{said}<small>{between}</small>"))
    elif interval := found.get("interval"):
        between = f"{number(interval['low'])} to {number(interval['high'])}"
        figures[0] = ("candidate", f"{figures[0][1]}<small>{between}</small>")
    if "baseline" in found:
        figures.append(("baseline", number(found["baseline"]) + _than_baseline(found)))
    shown = "".join(f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>" for name, value in figures)
    rows = f"<div><dt>test rows</dt><dd>{details['test_set']['rows']:,}</dd></div>"
    return f'<p class="by">{text(_spoken(found["name"]))}</p><dl class="figures">{shown}{rows}</dl>'


def _than_baseline(found: Mapping[str, Any]) -> str:
    """Whether training was worth it."""
    more = found["baseline"] - found["candidate"]
    better = more if found["name"] in HIGHER_IS_BETTER else -more
    if better > 0:
        return f'<small class="bad">{better_by(better)} than the candidate</small>'
    return f"<small>{better_by(better)} than the candidate</small>" if better else "<small>as the candidate</small>"


def _spoken(metric: str) -> str:
    return metric if metric in HIGHER_IS_BETTER else f"{metric} (lower is better)"


def _rules(rules: Sequence[Mapping[str, Any]]) -> str:
    if not rules:
        return ""
    ranked = sorted(rules, key=lambda one: list(OUTCOMES).index(one["outcome"]))
    head = ["rule", "outcome", "where it lies", "value", "bound", "rows"]
    about = (
        "<p>In the pictures right is better: the dot is the value, the line what other rows of the same kind might "
        "have said, the shaded part what the rule lets through.</p>"
    )
    first = table(head, [_rule(one) for one in ranked[:FIRST_RULES]], text_columns=3)
    rest = [_rule(one) for one in ranked[FIRST_RULES:]]
    more = folded(f"{len(rest):,} more", table(head, rest, text_columns=3)) if rest else ""
    return f'<section class="rules"><h2>Rules</h2>{about}{first}{more}</section>'


def _rule(rule: Mapping[str, Any]) -> list[str]:
    name = f"{code(rule['name'])}<br><small>{text(rule['reason'])}</small>"
    value, bound = _value_and_bound(rule)
    outcome = OUTCOMES[rule["outcome"]]
    if needed := rule["rows_to_decide"]:
        outcome += f"<br><small>about {float(f'{needed:.2g}'):,.0f} rows would decide</small>"
    rows = "–" if rule["rows"] is None else f"{rule['rows']:,}"
    return [name, outcome, _picture(rule), value, bound, rows]


def _value_and_bound(rule: Mapping[str, Any]) -> tuple[str, str]:
    name, value, bound = rule["name"], rule["value"], rule["bound"]
    if name.startswith(COMPARING):
        found = {"value": value} | ({} if rule["low"] is None else {"low": rule["low"], "high": rule["high"]})
        allowed = "better" if name.startswith("better.") else f"at most {better_by(bound)}" if bound else "not worse"
        return gain(found, "bad" if rule["outcome"] == "fail" else ""), allowed
    if name.startswith(COUNTS):
        return f"{value:,.0f}", f"at {'least' if name == 'labels_measured' else 'most'} {bound:,.0f}"
    at_most = name.startswith("maximum.")
    if name.startswith("behaviour."):
        return f"{value:.1%}", f"at least {bound:.1%}"
    return _plain(value), f"at {'most' if at_most else 'least'} {_plain(bound)}"


def _plain(value: float) -> str:
    return number(value) if value < 10 else f"{value:,.1f}"


def _picture(rule: Mapping[str, Any]) -> str:
    """Value and interval on a scale of their own, with the better side to the right, also of a cost."""
    name = rule["name"]
    if name.startswith(COUNTS):
        return ""
    side = -1 if name.startswith("maximum.") else 1
    value, bound = side * rule["value"], side * rule["bound"]
    low, high = rule["low"], rule["high"]
    zero = 0.0 if name.startswith(COMPARING) else None
    points = [one for one in (value, bound, low, high, zero) if one is not None]
    room = 0.15 * ((max(points) - min(points)) or abs(value) or 1)
    return strip.strip(
        value,
        low,
        high,
        scale=(min(points) - room, max(points) + room),
        bound=bound,
        zero=zero,
        kind=COLOURS[rule["outcome"]],
        label=rule["reason"],
    )


def _notes(verdict: Mapping[str, Any]) -> str:
    if not verdict["notes"]:
        return ""
    return f"<h2>Notes</h2><ul>{''.join(f'<li>{text(note)}</li>' for note in verdict['notes'])}</ul>"


def _metrics(details: Mapping[str, Any]) -> str:
    metrics, rows = details["metrics"], details["test_set"]["rows"]
    roles = [role for role in ROLES if role in metrics[0]]
    compared = "champion" in roles
    beside = [role for role in roles if role not in ("candidate", "champion")]
    shown = []
    for one in metrics:
        row = [text(_spoken(one["name"])), _alone(one)]
        if compared:
            row += [number(one["champion"]), gain(one.get("better_by")), _difference_picture(one)]
        shown.append(row + [number(one[role]) for role in beside])
    head = ["metric", "candidate"]
    head += ["champion", "candidate is", "← worse &nbsp; better →"] if compared else []
    sure = f"{details['rules']['confidence']:.0%}"
    about = f"Each end of an interval holds with {sure} confidence, by what these rows say."
    if not compared:
        about = f"There is no champion to compare with yet. {about}"
    return (
        f"<h2>Metrics on {rows:,} test rows</h2><p>{about}</p>"
        f'<div class="metrics">{table([*head, *(ROLES[role] for role in beside)], shown)}</div>'
    )


def _alone(one: Mapping[str, Any]) -> str:
    interval = one.get("interval")
    within = (
        f'<br><small class="reach">{number(interval["low"])} to {number(interval["high"])}</small>' if interval else ""
    )
    return number(one["candidate"]) + within


def _difference_picture(one: Mapping[str, Any]) -> str:
    found = one.get("better_by") or {}
    if "low" not in found:
        return ""
    reach = 1.15 * max(abs(found["low"]), abs(found["high"]), 1e-9)
    said = f"{one['name']}: {better_by(found['value'])}, {strip.reach(found)}"
    return strip.strip(
        found["value"], found["low"], found["high"], scale=(-reach, reach), zero=0.0, label=said, kind=strip.tone(found)
    )


def _serving(details: Mapping[str, Any]) -> str:
    served = {name: one["serving"] for name, one in _models(details) if one["serving"]}
    if not served:
        return ""
    lines = {
        **{f"latency {each}, ms": [f"{one['latency_ms'][each]:.1f}" for one in served.values()] for each in LATENCIES},
        "texts per second": [f"{one['throughput']:,.0f}" for one in served.values()],
        "on disk, MB": [f"{one['disk_bytes'] / 1e6:,.1f}" for one in served.values()],
        "in memory, MB": [f"{one['memory_bytes'] / 1e6:,.1f}" for one in served.values()],
        "precision": [text(one["precision"]) for one in served.values()],
        "same label as the checkpoint": [f"{one['agreement']['labels']:.2%}" for one in served.values()],
        "largest difference of a score": [f"{one['agreement']['largest_difference']:.1e}" for one in served.values()],
        "rows beyond the tolerance": [
            f"{one['agreement']['rows_beyond_tolerance']:,} (±{one['agreement']['tolerance']:g})"
            for one in served.values()
        ],
    }
    about = (
        "<p>Measured when each was evaluated, whatever else that machine did; the latency is of one text alone, "
        "without network. Half of the texts take p50 at most, 99 in a hundred p99.</p>"
    )
    return f"<h2>Serving</h2>{about}{table(['', *served], [[name, *cells] for name, cells in lines.items()])}"


def _origin(details: Mapping[str, Any]) -> str:
    lineage = details["lineage"]
    rows = [[name, text(one["model"]), code(one["digest"])] for name, one in _models(details)]
    rows.append(["test set", text(details["test_set"]["uri"]), code(details["test_set"]["digest"])])
    compared = table(["", "name", "SHA-256"], rows, text_columns=3)
    facts = [[text(name), text(value)] for name, value in lineage["known"].items()]
    for name, key in (("imported from", "imported"), ("base model", "base_model"), ("MLflow run", "run_id")):
        if lineage.get(key):
            facts.append([name, text(lineage[key])])
    for name, key in (("key of the training", "key"), ("snapshot that it was trained on", "snapshot")):
        if lineage.get(key):
            facts.append([name, code(lineage[key])])
    if lineage.get("rows"):
        facts.append(["rows that it was trained on", ", ".join(f"{text(s)} {n:,}" for s, n in lineage["rows"].items())])
    for name, one in _models(details):
        if one["serving"]:
            facts.append([f"release of the {name}", text(one["serving"]["release"])])
    made = table(["", ""], facts, text_columns=2) if facts else ""
    return f'<section class="origin"><h2>Where it comes from</h2>{compared}{made}{_objects(lineage)}</section>'


def _models(details: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, details["models"][role]) for role, name in ROLES.items() if role in details["models"]]


def _objects(lineage: Mapping[str, Any]) -> str:
    objects = lineage.get("objects") or []
    if not objects:
        return ""

    def listed(some: Sequence[Mapping[str, Any]]) -> str:
        rows = [[text(one["name"]), text(one["version"]), f"{one['rows']:,}"] for one in some]
        return table(["object of the source", "version", "rows read"], rows, text_columns=2)

    rest, untold = objects[FIRST_OBJECTS:], lineage["object_count"] - len(objects)
    left = f"<p>and {untold:,} smaller ones that are not shown</p>" if untold > 0 else ""
    more = folded(f"{len(rest):,} more objects", listed(rest)) if rest else ""
    return listed(objects[:FIRST_OBJECTS]) + more + left


STYLE = """
header.promote { --tone: var(--good) } header.hold { --tone: var(--bad) } header.ask { --tone: var(--ask) }
header h1 { font-size: 2.4rem } .next { color: var(--ink); font-size: 1.1rem } .unsure { color: var(--ask) }
.by { margin: .9rem 0 0 } .figures { display: flex; flex-wrap: wrap; gap: .3rem 2.2rem; margin: 0 }
.figures dt { color: var(--soft); font-size: .85em } .figures dd { margin: 0; font-size: 1.5rem; line-height: 1.3;
  font-variant-numeric: tabular-nums } .figures small { display: block; font-size: .8rem }
.figures small:not(.bad) { color: var(--soft) }
.rules td:first-child { min-width: 13rem } .rules small, .metrics small { color: var(--soft) }
.rules td:nth-child(2) { min-width: 6.5rem } .origin td { max-width: none }
.origin td:first-child { min-width: 9rem }
.plot { display: block; width: 100%; height: auto; margin: .5rem 0 }
.plot * { stroke-linejoin: round; stroke-linecap: butt }
.plot text { font-family: inherit !important; fill: var(--ink) } .wide .plot { min-width: 38rem }
@media (max-width: 40rem) { main { padding: .8rem } .rules td:first-child { min-width: 12rem }
  td:first-child { min-width: 6.5rem } td, th { padding-right: .4rem } .number { padding-left: .4rem } }
@media print { .plot { max-height: 23cm; break-inside: avoid } .wide .plot { min-width: 0 } }
"""
