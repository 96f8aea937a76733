"""
Show a verdict and what it is about as one HTML page.

Nothing but ``verdict.json`` and ``details.json`` goes in, so that a page can be made anew wherever they lie, without a
text that was taken out of them meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training import plots, strip, verdict_examples, verdict_groups, verdict_origin, verdict_rules
from training.page import document, table, text
from training.report import HIGHER_IS_BETTER
from training.strip import better_by, gain, number
from training.verdict_origin import ROLES

FIRST_REASONS = 6  # the others are beneath, with their rules

HEADLINES = {"promote": "Promote", "hold": "Hold", "ask": "Ask a person"}


def verdict_page(verdict: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    """
    :param verdict: as training.verdict.Verdict has it.
    :param details: as training.verdict_details has them; empty: the report could not be used.
    :return: a complete HTML document.
    """
    model = (verdict["candidate"] or {}).get("model", "unknown candidate")
    title = f"{HEADLINES[verdict['decision']]}: {model}"
    parts = [_header(verdict, details), verdict_rules.rules(verdict["rules"]), _notes(verdict)]
    if details:
        vetoes = {one["name"].removeprefix("group.") for one in verdict["rules"] if one["name"].startswith("group.")}
        parts += [
            _metrics(details),
            verdict_groups.old_and_new(details),
            verdict_groups.labels(details, vetoes),
            verdict_groups.slices(details, vetoes),
            verdict_groups.calibration(details),
            verdict_groups.confusion(details),
            verdict_origin.serving(details),
            verdict_examples.examples(details),
            verdict_examples.behaviour(details),
            verdict_origin.origin(details),
        ]
    styled = (strip, plots, verdict_rules, verdict_groups, verdict_examples, verdict_origin)
    return document(title, "\n".join(filter(None, parts)), STYLE + "".join(part.STYLE for part in styled))


def _header(verdict: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    decision, reasons = verdict["decision"], verdict["reasons"]
    champion = (verdict["champion"] or {}).get("model")
    about = text((verdict["candidate"] or {}).get("model", "unknown candidate"))
    about += f" against {text(champion)}" if champion else ""
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


STYLE = """
header.promote { --tone: var(--good) } header.hold { --tone: var(--bad) } header.ask { --tone: var(--ask) }
header h1 { font-size: 2.4rem } .next { color: var(--ink); font-size: 1.1rem }
.by { margin: .9rem 0 0 } .figures { display: flex; flex-wrap: wrap; gap: .3rem 2.2rem; margin: 0 }
.figures dt { color: var(--soft); font-size: .85em } .figures dd { margin: 0; font-size: 1.5rem; line-height: 1.3;
  font-variant-numeric: tabular-nums } .figures small { display: block; font-size: .8rem }
.figures small:not(.bad), .metrics small { color: var(--soft) }
@media (max-width: 40rem) { main { padding: .8rem } td:first-child { min-width: 6.5rem }
  td, th { padding-right: .4rem } .number { padding-left: .4rem } }
"""
