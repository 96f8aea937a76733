"""Show each rule of a gate with its value, the interval of it and the bound, as numbers and as a small picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.page import code, folded, table, text
from training.strip import better_by, gain, number, strip

FIRST_RULES = 30  # those that do not pass before the others; the rest is there when it is asked for

OUTCOMES = {
    "fail": '<span class="bad">✗ fail</span>',
    "undecided": '<span class="unsure">? undecided</span>',
    "pass": '<span class="good">✓ pass</span>',
}
COLOURS = {"fail": "bad", "undecided": "unsure", "pass": "good"}
COMPARING = ("no_worse_by.", "mark.", "better.", "group.")
COUNTS = ("agreement", "barred", "labels_measured")  # rules whose value and bound are counts


def rules(rules: Sequence[Mapping[str, Any]]) -> str:
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
    return strip(
        value,
        low,
        high,
        scale=(min(points) - room, max(points) + room),
        bound=bound,
        zero=zero,
        kind=COLOURS[rule["outcome"]],
        label=rule["reason"],
    )


STYLE = """
.unsure { color: var(--ask) } .rules td:first-child { min-width: 13rem } .rules td:nth-child(2) { min-width: 6.5rem }
.rules small { color: var(--soft) }
@media (max-width: 40rem) { .rules td:first-child { min-width: 12rem } }
"""
