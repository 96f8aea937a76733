"""Show where candidate and champion differ: in old and new rows, labels, slices, how sure they are, and mistakes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.page import folded, table, text
from training.plots import Row, dot_plot, reliability
from training.strip import better_by, gain, number, reach, strip

FIRST_LABELS = 12  # the others are there when they are asked for
PLOTTED = 100  # slices; the table has all of them
STRONGEST = 0.6  # of a cell's colour, so that its number stays legible
VETO = ' <span class="bad">✗ holds</span>'


def old_and_new(details: Mapping[str, Any]) -> str:
    """Rows that the champion was judged on, apart from those that joined since: it cannot know them."""
    new, parts = details["test_set"]["new_rows"], details["old_and_new"]
    if not parts:
        return f"<p>{new:,} of the test rows joined after the champion was judged.</p>" if new else ""
    names = {"old": "that the champion was judged on", "new": "that joined since"}
    rows = [
        [
            names[one["name"]],
            f"{one['rows']:,}",
            number(one["candidate"]["accuracy"]),
            number(one["champion"]["accuracy"]),
            gain(one["better_by"]),
            number(one["candidate"]["f1_macro"]),
            number(one["champion"]["f1_macro"]),
        ]
        for one in parts
    ]
    head = ["test rows", "rows", "accuracy", "champion's", "candidate is", "f1_macro", "champion's"]
    return f"<h2>Old and new test rows</h2><p>Shown apart, and decide nothing by themselves.</p>{table(head, rows)}"


def labels(details: Mapping[str, Any], vetoes: Collection[str]) -> str:
    found, count = details["labels"]["shown"], details["labels"]["count"]
    compared = any("champion" in one for one in found)
    lane = _Lane.of(found, details["rules"]["group_no_worse_by"])
    rows = [_label(one, vetoes, lane, compared=compared) for one in found]
    change = ["candidate is", "← worse &nbsp; better →"] if compared else []
    head = ["label", "rows", "F1", *change, "precision", "recall"]
    about = "The lowest F1 first."
    if compared:
        about = f"What got most worse first; small: what the champion has. {_moved(found)} {_veto(details, 'label')}"
    first = table(head, rows[:FIRST_LABELS])
    rest = f"The other {len(rows) - FIRST_LABELS:,} labels, in the same order"
    more = folded(rest, table(head, rows[FIRST_LABELS:])) if rows[FIRST_LABELS:] else ""
    left = f"<p>and {count - len(rows):,} more labels that are not shown</p>" if count > len(rows) else ""
    unknown = (details["models"].get("champion") or {}).get("unknown_labels")
    told = ""
    if unknown:
        names = ", ".join(map(text, unknown))
        told = f"<p>The champion does not know {names}; test rows with these labels count against it.</p>"
    return f'<section class="labels"><h2>Labels</h2><p>{about}</p>{told}{first}{more}{left}</section>'


def _moved(found: Sequence[Mapping[str, Any]]) -> str:
    changes = [one["better_by"] for one in found if "better_by" in one]
    fell, rose = (sum(kind in better_by(one["value"]) for one in changes) for kind in ("worse", "better"))
    return f"F1 fell in {fell:,} and rose in {rose:,} of {len(changes):,} labels, some of them by luck alone."


def _veto(details: Mapping[str, Any], kind: str) -> str:
    rules = details["rules"]
    margin = rules["group_no_worse_by"]
    if margin is None:
        return f"No {kind} can hold the candidate."
    return (
        f"A {kind} holds the candidate when it is shown to be more than {margin:g} worse, beyond the luck of so many; "
        f"one with fewer than {rules['group_rows']:,} rows decides nothing."
    )


def _label(one: Mapping[str, Any], vetoes: Collection[str], lane: _Lane, *, compared: bool) -> list[str]:
    own, before = one["candidate"], one.get("champion")
    vetoed = f"label {one['label']!r}" in vetoes
    f1, precision, recall = (
        number(own[part]) + (f"<br><small>{number(before[part])}</small>" if before else "")
        for part in ("f1", "precision", "recall")
    )
    change = [gain(one.get("better_by"), "bad" if vetoed else ""), lane.picture(one, vetoed=vetoed)] if compared else []
    return [text(one["label"]) + (VETO if vetoed else ""), _rows(one), f1, *change, precision, recall]


def _rows(one: Mapping[str, Any]) -> str:
    return f"{one['rows']:,}" + ("<br><small>too few</small>" if one.get("enough") is False else "")


@dataclass(frozen=True)
class _Lane:
    """One scale for all rows of a table, so that their pictures can be compared."""

    widest: float
    margin: float | None  # how much worse a slice or label may be

    @classmethod
    def of(cls, found: Sequence[Mapping[str, Any]], margin: float | None) -> _Lane:
        """:param found: parts of the test set; those with too few rows may reach beyond."""
        enough = [one["better_by"] for one in found if one.get("enough")]
        ends = [abs(one[end]) for one in enough for end in ("low", "high")]
        return cls(1.1 * max([*ends, 1.3 * (margin or 0.0), 0.01]), margin)

    def picture(self, one: Mapping[str, Any], *, vetoed: bool) -> str:
        found = one.get("better_by")
        if not found:
            return ""
        return strip(
            found["value"],
            found["low"],
            found["high"],
            scale=(-self.widest, self.widest),
            bound=None if self.margin is None else -self.margin,
            zero=0.0,
            label=f"{better_by(found['value'])}, {reach(found)}",
            kind="bad" if vetoed else "" if one["enough"] else "faint",
        )


def slices(details: Mapping[str, Any], vetoes: Collection[str]) -> str:
    found = details["slices"]
    if not found:
        return ""
    compared = sorted(
        (one for one in found if "better_by" in one), key=lambda one: (not one["enough"], one["better_by"]["value"])
    )
    rest = [one for one in found if "better_by" not in one]
    head = ["slice", "rows", "accuracy", *(["champion's", "candidate is"] if compared else [])]
    shown = table(head, [_slice(one, vetoes, compared=bool(compared)) for one in [*compared, *rest]])
    if not compared:
        return f'<section class="slices"><h2>Slices</h2>{shown}</section>'
    about = (
        "Accuracy in each slice, candidate against champion: the dot is the difference, the line its interval, dashed "
        f"what is allowed. {_veto(details, 'slice')}"
    )
    plot = f'<div class="wide">{_dots(compared[:PLOTTED], vetoes, details["rules"]["group_no_worse_by"])}</div>'
    if len(compared) > PLOTTED:
        about += f" Of {len(compared):,} the first {PLOTTED} are drawn."
    more = folded("The same as a table", shown)
    return f'<section class="slices"><h2>Slices</h2><p>{about}</p>{plot}{more}</section>'


def _dots(compared: Sequence[Mapping[str, Any]], vetoes: Collection[str], margin: float | None) -> str:
    rows = [
        Row(
            name=one["name"],
            note=f"{one['rows']:,} rows{'' if one['enough'] else ', too few'}",
            value=one["better_by"]["value"],
            low=one["better_by"]["low"],
            high=one["better_by"]["high"],
            colour="bad" if f"slice {one['name']!r}" in vetoes else "bar" if one["enough"] else "soft",
            filled=one["enough"],
        )
        for one in compared
    ]
    label = f"Difference of accuracy in {len(rows)} slices; the table beneath says the same"
    return dot_plot(rows, bound=None if margin is None else -margin, ends=("← worse", "better →"), label=label)


def _slice(one: Mapping[str, Any], vetoes: Collection[str], *, compared: bool) -> list[str]:
    vetoed = f"slice {one['name']!r}" in vetoes
    name = text(one["name"]) + (VETO if vetoed else "") + f"<br><small>{text(one['description'])}</small>"
    cells = [name, _rows(one), number(one.get("candidate"))]
    if compared:
        cells += [number(one.get("champion")), gain(one.get("better_by"), "bad" if vetoed else "")]
    return cells


def calibration(details: Mapping[str, Any]) -> str:
    """Whether a model that says 90 per cent is right in nine of ten answers."""
    found = details["calibration"]
    if not found:
        return ""
    errors = next(one for one in details["metrics"] if one["name"] == "calibration_error")
    told = ", ".join(f"{role} {number(errors[role])}" for role in found)
    label = f"How often an answer is right against how sure the model is; calibration error: {told}"
    rows = [
        [role, f"{one['sure']:.1%}", f"{one['right']:.1%}", f"{one['rows']:,}"]
        for role, bins in sorted(found.items())
        for one in bins
    ]
    head = ["", "how sure, on average", "how often right", "answers"]
    return (
        "<h2>How sure, and how often right</h2>"
        f"<p>On the line a model is right as often as it says; a larger dot stands for more answers. "
        f"Calibration error (average distance from the line): {told}.</p>"
        f"{reliability(found, label)}{folded('The same as a table', table(head, rows))}"
    )


def confusion(details: Mapping[str, Any]) -> str:
    found = details["confusion"]
    if "labels" not in found:
        return _commonest(found)
    before = found.get("champion")
    head = "".join(f'<th scope="col"><span>{text(label)}</span></th>' for label in found["labels"])
    body = ""
    for i, label in enumerate(found["labels"]):
        cells = "".join(_cell(found["candidate"][i], before and before[i], i, j) for j in range(len(found["labels"])))
        body += f'<tr><th scope="row">{text(label)}</th>{cells}</tr>'
    about = "Rows: true label; columns: what the candidate takes it for"
    if before:
        about += "; small: how many more or fewer than the champion. Coloured is what changed: green is better"
    return (
        f'<h2>What is taken for what</h2><p>{about}.</p><div class="wide"><table class="matrix">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(counts: Sequence[int], before: Sequence[int] | None, true: int, taken: int) -> str:
    total, count = sum(counts) or 1, counts[taken]
    if before is None:
        kind, strength, change = ("good" if true == taken else "bad"), count / total, ""
    else:
        more = count - before[taken]
        kind = "good" if (more > 0) == (true == taken) else "bad"
        strength = min(1.0, 5 * abs(more) / total)  # a fifth of the label's rows has the full colour
        change = f"<small>{signed(more)}</small>" if more else ""
    return f'<td class="{kind}" style="--share:{STRONGEST * strength:.3f}">{count:,}{change}</td>'


def _commonest(found: Mapping[str, Any]) -> str:
    compared = any(one["champion"] is not None for one in found["commonest"])
    rows = []
    for one in found["commonest"]:
        row = [text(one["true"]), text(one["taken_for"]), f"{one['candidate']:,}"]
        if compared:
            more = one["candidate"] - one["champion"]
            kind, word = ("bad", "more") if more > 0 else ("good", "fewer")
            row += [f"{one['champion']:,}", f'<span class="{kind}">{abs(more):,} {word}</span>']
        rows.append(row)
    head = ["true label", "taken for", "rows", *(["champion's rows", "that is"] if compared else [])]
    title = "Mistakes that became more or fewer" if compared else "The candidate's commonest mistakes"
    more = found["count"] - len(rows)
    left = f"<p>and {more:,} more that are not shown</p>" if more > 0 else ""
    first, rest = rows[:FIRST_LABELS], rows[FIRST_LABELS:]
    further = folded(f"{len(rest)} more", table(head, rest, text_columns=2)) if rest else ""
    return f"<h2>{title}</h2>{table(head, first, text_columns=2)}{further}{left}"


def signed(difference: int) -> str:
    return f"{difference:+,}".replace("-", "−")


STYLE = """
.labels td:first-child, .slices td:first-child { min-width: 9rem } .labels small, .slices small { color: var(--soft) }
.matrix th, .matrix td { padding: .3rem .4rem; max-width: 16rem } .matrix tbody th { min-width: 9rem }
.matrix td { text-align: right; min-width: 2.8rem; border: 1px solid var(--line); color: var(--ink) }
.matrix thead td { border: 0 } .matrix thead th { vertical-align: bottom; text-align: right }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 12rem; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis } .matrix small { display: block; line-height: 1.1 }
.matrix .good { background: color-mix(in srgb, var(--good) calc(var(--share) * 100%), transparent) }
.matrix .bad { background: color-mix(in srgb, var(--bad) calc(var(--share) * 100%), transparent) }
"""
