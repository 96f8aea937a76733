"""Show with their texts: rows that got worse, rows that got better, and failures of behavioural tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.page import folded, text

TITLES = {
    "worse": ("Rows that got worse", "The champion is right, the candidate is not."),
    "better": ("Rows that got better", "The candidate is right, the champion is not."),
    "wrong": ("Rows that the candidate gets wrong", "There is no champion to compare with."),
}
FIRST = 8  # the others are there when they are asked for


def examples(details: Mapping[str, Any]) -> str:
    found = details["examples"]
    return "".join(_examples(*told, found[kind]) for kind, told in TITLES.items() if kind in found)


def _examples(title: str, about: str, found: Mapping[str, Any]) -> str:
    count, shown = found["count"], found["shown"]
    heading = f"<h2>{title}: {count:,}</h2>"
    if not count:
        return f"{heading}<p>None.</p>"
    rows = [_example(one) for one in shown]
    rest = rows[FIRST:]
    first = f'<ul class="quotes">{"".join(rows[:FIRST])}</ul>'
    more = folded(f"{len(rest)} more", f'<ul class="quotes">{"".join(rest)}</ul>') if rest else ""
    left = f"<p>and {count - len(shown):,} more that are not shown</p>" if count > len(shown) else ""
    return f"{heading}<p>{about} Those of which the candidate is surest come first.</p>{first}{more}{left}"


def _example(one: Mapping[str, Any]) -> str:
    answers = [_answer(role, one[role], one["label"]) for role in ("candidate", "champion") if role in one]
    told = " · ".join([f"true label: {text(one['label'])}", *answers])
    return f'<li>{_quote(one.get("text"))}<p class="where">{told}</p></li>'


def _answer(role: str, answer: Mapping[str, Any], label: str) -> str:
    kind = "good" if answer["label"] == label else "bad"
    return f'{role}: <span class="{kind}">{text(answer["label"])}</span> {_share(answer["score"])}'


def _quote(value: object) -> str:
    if value is None:
        return '<p class="quote none">the text could not be read again</p>'
    return f'<p class="quote" dir="auto">{text(str(value).strip()) or "white space"}</p>'


def behaviour(details: Mapping[str, Any]) -> str:
    tests = details["behaviour"]
    if not tests:
        return ""
    failed_first = sorted(tests, key=lambda one: (one["passed"], -one["failures"]))
    return "<h2>Behaviour</h2>" + "".join(map(_test, failed_first))


def _test(test: Mapping[str, Any]) -> str:
    mark = '<span class="good">✓ pass</span>' if test["passed"] else '<span class="bad">✗ fail</span>'
    told = (
        f"{test['failures']:,} of {test['cases']:,} cases failed; {test['pass']:.0%} have to pass"
        if test["cases"]
        else "nothing in the test split is what it is about"
    )
    shown = "".join(map(_failure, test["examples"]))
    more = test["failures"] - len(test["examples"])
    left = f"<p>and {more:,} more that are not shown</p>" if more > 0 and shown else ""
    body = f'<ul class="quotes">{shown}</ul>{left}' if shown else ""
    failures = (
        f"<details{'' if test['passed'] else ' open'}><summary>failures</summary>{body}</details>" if body else ""
    )
    return (
        f'<div class="test"><p>{mark} <b>{text(test["name"])}</b> · {text(told)}<br>'
        f"<small>{text(test['kind'])}: {text(test['description'])}</small></p>{failures}</div>"
    )


def _failure(one: Mapping[str, Any]) -> str:
    changed = f'<p class="arrow">became</p>{_quote(one["changed_text"])}' if "changed_text" in one else ""
    if "expected" in one:
        said = f"expected {text(one['expected'])} · answered {text(one['answer'])} {_share(one['probability'])}"
    else:
        said = f"probability of {text(one['label'])}: {_share(one['was'])} became {_share(one['now'])}"
    return f'<li>{_quote(one.get("text"))}{changed}<p class="where">{said}</p></li>'


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}" if value < 0.995 else f"{value:.1%}"


STYLE = """
.none { color: var(--soft); font-style: italic }
.test { margin: .6rem 0 } .test p { margin: 0; color: var(--ink) }
.test .arrow { margin: .1rem 0 .1rem .8rem; font-size: .85em; color: var(--soft) }
.test small, .test .where { color: var(--soft) }
"""
