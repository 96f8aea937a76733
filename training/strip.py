"""Say in words and in a small picture how a number lies to what is allowed: right is better, wherever it is shown."""

from __future__ import annotations

from collections.abc import Mapping

from training.page import text

WIDTH, HEIGHT = 160, 16
DOT = 4.5


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}".replace("-", "−")


def better_by(value: float) -> str:
    """:param value: positive where the candidate is better."""
    if float(f"{value:.4f}") == 0:
        return "equal"
    return f"{abs(value):.4f} {'better' if value > 0 else 'worse'}"


def reach(found: Mapping[str, float]) -> str:
    """:return: the interval in words; empty where there is none."""
    if "low" not in found:
        return ""
    low, high = better_by(found["low"]), better_by(found["high"])
    ends = low.split(), high.split()
    if low == high:
        return low
    if len(ends[0]) == len(ends[1]) == 2 and ends[0][1] == ends[1][1]:
        return f"{ends[0][0]} to {high}"
    return f"{low} to {high}"


def tone(found: Mapping[str, float]) -> str:
    """:return: CSS class of a difference: only one that is not the luck of these rows has a colour."""
    if found.get("low", 0) > 0:
        return "good"
    return "bad" if found.get("high", 0) < 0 else ""


def gain(found: Mapping[str, float] | None, kind: str | None = None) -> str:
    """
    :param kind: CSS class; None: that of the difference alone.
    :return: HTML of a difference in words, with its interval beneath.
    """
    if not found:
        return "–"
    said = f'<span class="{tone(found) if kind is None else kind}">{better_by(found["value"])}</span>'
    return said + (f'<br><small class="reach">{reach(found)}</small>' if "low" in found else "")


def strip(
    value: float,
    low: float | None,
    high: float | None,
    *,
    scale: tuple[float, float],
    label: str,
    bound: float | None = None,
    zero: float | None = None,
    kind: str = "",
) -> str:
    """
    :param scale: what the left and the right end stand for.
    :param label: what is said to who cannot see it.
    :param bound: from here on to the right is well, which is shaded.
    :param zero: where to mark that nothing differs.
    :param kind: CSS class of dot and line.
    :return: an ``svg`` element.
    """

    def x(number: float) -> float:
        share = (number - scale[0]) / ((scale[1] - scale[0]) or 1)
        return DOT + (WIDTH - 2 * DOT) * min(max(share, 0.0), 1.0)

    middle, parts = HEIGHT / 2, []
    if bound is not None:
        parts.append(f'<rect class="well" x="{x(bound):.1f}" width="{WIDTH - x(bound):.1f}" height="{HEIGHT}"/>')
        parts.append(f'<rect class="bound" x="{x(bound) - 1:.1f}" width="2" height="{HEIGHT}"/>')
    if zero is not None:
        parts.append(f'<rect class="zero" x="{x(zero) - 0.5:.1f}" width="1" height="{HEIGHT}"/>')
    if low is not None and high is not None:
        parts.append(
            f'<rect class="reach" x="{x(low):.1f}" y="{middle - 1}" width="{x(high) - x(low):.1f}" height="2"/>'
        )
    parts.append(f'<circle cx="{x(value):.1f}" cy="{middle}" r="{DOT - 0.5}"/>')
    return (
        f'<svg class="strip {kind}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">'
        f"{''.join(parts)}</svg>"
    )


STYLE = """
.strip { display: block; width: 8.5rem; min-width: 7rem; height: auto; margin: .2rem 0 }
.strip .well { fill: color-mix(in srgb, var(--good) 16%, transparent) } .strip .bound { fill: var(--soft) }
.strip .zero { fill: var(--soft) } .strip .reach, .strip circle { fill: var(--ink) }
.strip.good .reach, .strip.good circle { fill: var(--good) } .strip.bad .reach, .strip.bad circle { fill: var(--bad) }
.strip.unsure .reach, .strip.unsure circle { fill: var(--ask) } .strip.faint { opacity: .45 }
small.reach { color: var(--soft); font-size: .85em }
"""
