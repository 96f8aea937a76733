"""
Draw what needs an axis, as SVG that stands in a page: matplotlib draws, the page's colours apply, words stay words.

No colour is left in what comes out, but the name of one that ``training.page`` gives a value for light and for dark. A
text of the data is shown as it is: none of it is markup or mathematics.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from training.visible import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
COLOURS = ("ink", "soft", "line", "panel", "good", "bad", "ask", "bar")
STAND_INS = {name: f"#0000{number:02x}" for number, name in enumerate(COLOURS, start=0xF0)}  # matplotlib wants numbers
NAME_CHARACTERS = 40  # of a name beside a row; the table has the whole of it
ROW_INCHES, WIDTH_INCHES = 0.25, 8.2
DASHED = (0, (4, 3))
POINTS = 72  # in an inch
PIXELS = 96 / POINTS  # of a page, for a point
SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib; the page shows its own
    "font.size": 10,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Row:
    """One line of a dot plot."""

    name: str
    note: str  # at the other end of the line
    value: float
    low: float
    high: float
    colour: str
    filled: bool = True


def dot_plot(rows: Sequence[Row], *, bound: float | None, ends: tuple[str, str], label: str) -> str:
    """
    :param bound: from here on to the right is well; None: nothing is marked.
    :param ends: what the left and the right of nothing mean.
    :param label: what is said to who cannot see it.
    :return: an ``svg`` element.
    """
    count = len(rows)
    height = (count + 2.4) * ROW_INCHES
    drawn = [abs(one.value) for one in rows] + [abs(end) for one in rows if one.filled for end in (one.low, one.high)]
    reach = 1.05 * max(0.01, 1.3 * abs(bound or 0), *drawn)
    with _figure(WIDTH_INCHES, height) as figure:
        axes = figure.add_axes((0.39, 1.3 * ROW_INCHES / height, 0.43, count * ROW_INCHES / height))
        axes.set(xlim=(-reach, reach), ylim=(count - 0.5, -0.5))
        if bound is not None:
            axes.axvspan(-reach, bound, color=STAND_INS["panel"], linewidth=0)
            axes.axvline(bound, color=STAND_INS["bad"], linewidth=1, linestyle=DASHED)
        axes.axvline(0, color=STAND_INS["soft"], linewidth=1)
        for place, one in enumerate(rows):
            colour, width = STAND_INS[one.colour], 2 if one.filled else 1
            face = colour if one.filled else "none"
            axes.plot([one.low, one.high], [place, place], color=colour, linewidth=width, solid_capstyle="butt")
            axes.plot([one.value], [place], marker="o", markersize=6, color=colour, markerfacecolor=face)
            _say(axes, one.note, (1, place), (8, 0), xycoords=("axes fraction", "data"), va="center")
        axes.set_yticks(range(count), [_short(one.name) for one in rows])
        axes.tick_params(axis="y", length=0, labelcolor=STAND_INS["ink"], pad=8)
        axes.xaxis.set_major_formatter(lambda value, _place: _signed(value))
        for side, end, align in zip(ends, (0, 1), ("left", "right"), strict=True):
            _say(axes, side, (end, 1), (0, 5), xycoords="axes fraction", ha=align)
        _quiet(axes)
        return _svg(figure, "dots", label)


def _say(axes: Axes, words: str, at: tuple[float, float], offset: tuple[int, int], **more: Any) -> None:
    """:param offset: from there, in points."""
    axes.annotate(words, at, offset, textcoords="offset points", color=STAND_INS["soft"], annotation_clip=False, **more)


def reliability(bins: Mapping[str, Sequence[Mapping[str, float]]], label: str) -> str:
    """
    :param bins: name of a model, two at most, to ``rows``, ``sure`` and ``right`` of answers that are equally sure.
    :return: an ``svg`` element.
    """
    with _figure(4.6, 4.4) as figure:
        axes = figure.add_axes((0.14, 0.12, 0.8, 0.8))
        axes.plot([0, 1], [0, 1], color=STAND_INS["line"], linewidth=1.5)
        for (name, found), (colour, style) in zip(bins.items(), (("bar", "-"), ("soft", DASHED)), strict=False):
            total = sum(one["rows"] for one in found) or 1
            sure, right = [one["sure"] for one in found], [one["right"] for one in found]
            sizes = [12 + 150 * one["rows"] / total for one in found]
            axes.plot(sure, right, color=STAND_INS[colour], linewidth=1.5, linestyle=style, label=name)
            axes.scatter(sure, right, s=sizes, color=STAND_INS[colour], linewidth=0, clip_on=False, zorder=3)
        axes.text(0.97, 0.05, "surer than it is right", ha="right", color=STAND_INS["soft"])
        axes.text(0, 1.04, "more often right than it is sure", color=STAND_INS["soft"])
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="how sure it is", ylabel="how often it is right")
        ticks = [0, 0.25, 0.5, 0.75, 1]
        axes.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.set_yticks(ticks, [f"{tick:.0%}" for tick in ticks])
        axes.tick_params(axis="y", labelcolor=STAND_INS["soft"])
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.1), frameon=False, labelcolor=STAND_INS["ink"])
        _quiet(axes)
        return _svg(figure, "reliability", label)


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """:return: a figure of this size in inches; whatever is drawn in it is drawn with our settings."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        yield Figure(figsize=(width, height), dpi=POINTS)


def _quiet(axes: Axes) -> None:
    """Leave of an axis what is needed to read it."""
    for spine in axes.spines.values():
        spine.set_color(STAND_INS["line"])
    axes.xaxis.label.set_color(STAND_INS["soft"])
    axes.yaxis.label.set_color(STAND_INS["soft"])
    axes.tick_params(axis="x", color=STAND_INS["line"], labelcolor=STAND_INS["soft"])
    axes.tick_params(axis="y", color=STAND_INS["line"])


def _svg(figure: Figure, name: str, label: str) -> str:
    """:param name: no other plot of the page has it."""
    import matplotlib

    written = io.StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": name}):
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the reader's browser has the letters
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return _for_page(ElementTree.fromstring(written.getvalue()), label)


def _for_page(root: ElementTree.Element, label: str) -> str:
    """:return: the drawing without what would reach beyond it: styles of every element, names, a size of its own."""
    for parent in root.iter():
        for child in [one for one in parent if one.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
            parent.remove(child)
    used = set(re.findall(r"#([\w-]+)", " ".join(value for one in root.iter() for value in one.attrib.values())))
    for one in root.iter():
        if one.get("id") not in used:
            one.attrib.pop("id", None)
        if style := one.get("style"):
            for colour, stand_in in STAND_INS.items():
                style = style.replace(stand_in, f"var(--{colour})")
            one.set("style", style)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    root.attrib.pop("height")
    root.attrib.update(
        {"class": "plot", "role": "img", "aria-label": label, "style": f"max-width: {width * PIXELS:.0f}px"}
    )
    return ElementTree.tostring(root, encoding="unicode")


def _short(name: str) -> str:
    """:return: on one line, with what does not fit left out of its middle."""
    line = visible(" ".join(name.split()))
    half = NAME_CHARACTERS // 2
    return line if len(line) <= NAME_CHARACTERS else f"{line[: half - 1]}…{line[len(line) - half :]}"


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", "−")


STYLE = """
.plot { display: block; width: 100%; height: auto; margin: .5rem 0 } .wide .plot { min-width: 38rem }
.plot * { stroke-linejoin: round; stroke-linecap: butt }
.plot text { font-family: inherit !important; fill: var(--ink) }
@media print { .plot { max-height: 23cm; break-inside: avoid } .wide .plot { min-width: 0 } }
"""
