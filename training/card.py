"""
Write the card of a version: what it was made of, how it did, and what is not known of it.

It is a Hugging Face model card, so that whoever takes the model elsewhere finds it where they look, and holds names and
counts: no text of the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.release import MANIFEST as RELEASE_MANIFEST
from training.contract import BadInput
from training.markdown import code, sentence
from training.model import is_hub_id
from training.report import REPORTED
from training.snapshot import open_snapshot, read_manifest
from training.store import MANIFEST, Store

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

NOT_STATED = "not stated"
HUB_METRICS: Mapping[str, tuple[str, dict[str, str] | None]] = {  # to the Hub's name and arguments
    "accuracy": ("accuracy", None),
    "f1_macro": ("f1", {"average": "macro"}),
    "f1_weighted": ("f1", {"average": "weighted"}),
}
SPLITS = ("train", "validation", "test")
SHOWN = 10  # names in a sentence


@dataclass(frozen=True)
class Facts:
    """What is known of a candidate beside its verdict."""

    pipeline: str
    model: Mapping[str, Any] = field(default_factory=dict)  # manifest of its checkpoint; empty: nobody knows its making
    snapshot: Mapping[str, Any] = field(default_factory=dict)  # manifest; empty: it was tested on something else
    trained_on: str | None = None  # digest of a snapshot; None: nobody knows
    max_length: int | None = None  # tokens that the release takes of a text; None: nobody knows
    base_license: str | None = None  # as the spec states it, which goes before what the base model's card does
    data_license: str | None = None

    @property
    def training(self) -> Mapping[str, Any]:
        return self.model.get("training") or {}

    @property
    def imported(self) -> Mapping[str, Any]:
        return self.model.get("imported") or {}

    @property
    def license(self) -> str | None:
        """Of the base model, or of a model that was trained elsewhere, for which the spec does not speak."""
        return self.imported.get("license") if self.imported else self.base_license or self.training.get("license")

    @property
    def source(self) -> str:
        return str((self.snapshot.get("source") or {}).get("uri") or "")


def facts_of(
    store: Store,
    pipeline: str,
    details: Mapping[str, Any],
    *,
    base_license: str | None = None,
    data_license: str | None = None,
) -> Facts:
    """:return: what the store still knows; what is gone is left out."""
    candidate = details["models"]["candidate"]
    release = (candidate["serving"] or {}).get("release")
    return Facts(
        pipeline=pipeline,
        model=_read(store, f"models/{candidate['digest']}/{MANIFEST}"),
        snapshot=_snapshot(details["test_set"]["uri"]),
        trained_on=details.get("lineage", {}).get("snapshot"),
        max_length=_read(store, f"releases/{release.rpartition('/')[2]}/{RELEASE_MANIFEST}").get("max_length")
        if release
        else None,
        base_license=base_license,
        data_license=data_license,
    )


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        return dict(store.read_json(key))
    except (OSError, ValueError, TypeError):
        return {}


def _snapshot(uri: str) -> dict[str, Any]:
    try:
        return read_manifest(*open_snapshot(uri))
    except (BadInput, OSError):
        return {}


def model_card(verdict: Mapping[str, Any], details: Mapping[str, Any], facts: Facts) -> str:
    """
    :param verdict: a training.verdict.Verdict that names a candidate. :param details: of training.verdict_details.
    :return: Markdown, with the metadata of a model card before it.
    """
    from huggingface_hub import ModelCardData

    name = _named(verdict["candidate"]["model"])
    base = str(facts.training.get("parameters", {}).get("base_model") or "").partition("@")[0]
    metadata = ModelCardData(
        license=facts.license,
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=base if is_hub_id(base) else None,
        datasets=[_data_set(facts.source)] if facts.source.startswith("hf://") else None,
        tags=["ratchet"],
        model_name=name,
        eval_results=list(_results(details, facts.pipeline)),
    )
    sections = {
        "Data": _data(facts),
        "Training": _training(facts),
        "Evaluation": _evaluation(verdict, details),
        "Slices": _slices(details),
        "Behaviour": _behaviour(details),
        "Limits": ["\n".join(f"- {each}" for each in _limits(verdict, details, facts))],
        "Licences": [_licenses(facts)],
    }
    parts = [f"# {sentence(name)}"]
    for title, content in sections.items():
        parts += [f"## {title}", *content]
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _named(model: str) -> str:
    """:return: ``NAME version N`` of a registered version, else what it is called."""
    name, _, version = model.removeprefix("models:/").rpartition("/")
    return f"{name} version {version}" if model.startswith("models:/") else model


def _data_set(source: str) -> str:
    """:return: the name of the Hub's data set."""
    return "/".join(source.removeprefix("hf://").partition("@")[0].partition("?")[0].split("/")[:2])


def _results(details: Mapping[str, Any], pipeline: str) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    reached = {one["name"]: one["candidate"] for one in details["metrics"]}
    for name, (kind, arguments) in HUB_METRICS.items():
        yield EvalResult(
            task_type="text-classification",
            dataset_type=pipeline,
            dataset_name=f"{pipeline}, test split",
            dataset_split="test",
            dataset_revision=details["test_set"]["digest"],
            metric_type=kind,
            metric_name=name,
            metric_args=arguments,
            metric_value=round(reached[name], 6),
        )


def _data(facts: Facts) -> Iterator[str]:
    known = facts.snapshot
    if not known:
        yield "It was tested on rows that are no snapshot of a pipeline, or on one that is gone."
        return
    if facts.imported:
        yield "It was tested on this data, and trained elsewhere."
    elif facts.trained_on not in (None, known["digest"]):
        yield f"It was tested on this data, and trained on snapshot {code(str(facts.trained_on))}."
    window = (known["layout"].get("window") or {}).get("start")
    about = [
        ("pipeline", code(facts.pipeline)),
        ("snapshot", code(known["digest"])),
        ("source", code(facts.source) if facts.source else "unknown"),
        ("training rows from", code(window) if window else "any time"),
    ]
    yield _table(("", ""), about)
    counts = known["label_rows"]
    labels = sorted({label for split in SPLITS for label in counts[split]})
    rows = [(code(label), *(f"{counts[split].get(label, 0):,}" for split in SPLITS)) for label in labels]
    yield _table(("label", *SPLITS), [*rows, ("all", *(f"{known['rows'][split]:,}" for split in SPLITS))])


def _training(facts: Facts) -> Iterator[str]:
    if facts.imported:
        yield f"Trained elsewhere: it is {code(facts.imported['from'])}, and what it learned from is not known here."
    elif not facts.training:
        yield "Nobody knows how it was trained."
    else:
        trained = facts.training
        about = [
            ("base model", code(str(trained["base_model"]))),
            ("key", code(str(facts.model.get("key")))),
            ("rows", ", ".join(f"{split} {count:,}" for split, count in trained["rows"].items())),
        ]
        yield _table(("", ""), about)
        chosen = sorted(item for item in trained["parameters"].items() if item[1] is not None)
        yield _table(("argument", "value"), [(code(name), code(str(value))) for name, value in chosen])


def _evaluation(verdict: Mapping[str, Any], details: Mapping[str, Any]) -> Iterator[str]:
    tested, champion = details["test_set"], verdict["champion"]
    split = code(tested["digest"][:12])
    yield f"On the {tested['rows']:,} rows of the test split {split}, by the answers of the release."
    yield f"The verdict: **{verdict['decision']}**."
    metrics = sorted(details["metrics"], key=lambda one: REPORTED.index(one["name"]))
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    if champion:
        head = ("metric", "this version", f"{sentence(_named(champion['model']))}, champion then", "better by")
        rows = [(_number(one["candidate"]), _number(one["champion"]), _difference(one)) for one in metrics]
    else:
        head = ("metric", "this version", "between")
        rows = [(_number(one["candidate"]), _between(one)) for one in metrics]
    yield _table(head, [(code(one["name"]), *row) for one, row in zip(metrics, rows, strict=True)])
    yield _table(
        ("label", "test rows", "precision", "recall", "F1"),
        [
            (
                code(one["label"]),
                f"{one['rows']:,}",
                *(_number(one["candidate"][part]) for part in ("precision", "recall", "f1")),
            )
            for one in sorted(details["labels"]["shown"], key=lambda one: one["label"])
        ],
    )


def _slices(details: Mapping[str, Any]) -> Iterator[str]:
    if not details["slices"]:
        yield "No part of the test split was looked at by itself."
        return
    rows = [
        (code(one["name"]), sentence(one["description"]), f"{one['rows']:,}", _number(one.get("candidate")))
        for one in details["slices"]
    ]
    yield _table(("slice", "of what", "test rows", "accuracy"), rows)


def _behaviour(details: Mapping[str, Any]) -> Iterator[str]:
    if not details["behaviour"]:
        yield "There is no behavioural test."
        return
    rows = [
        (
            code(one["name"]),
            sentence(one["description"]),
            f"{one['cases']:,}",
            f"{one['failures']:,}",
            "passed" if one["passed"] else "failed",
        )
        for one in details["behaviour"]
    ]
    yield _table(("test", "what", "cases", "failures", ""), rows)


def _limits(verdict: Mapping[str, Any], details: Mapping[str, Any], facts: Facts) -> Iterator[str]:
    yield "It answers one of its labels to every text, also where none of them fits."
    if facts.max_length is not None:
        cut = facts.training.get("parameters", {}).get("truncated_rows")
        longer = f"; {cut:,} of its training texts were longer" if cut else ""
        yield f"Of a text it reads the first {facts.max_length:,} tokens{longer}."
    yield "Nobody looked at which languages the texts are in: it is tested for those of the test split."
    if untested := [one["label"] for one in details["labels"]["shown"] if not one["rows"]]:
        yield f"No test row has {_some(untested)}, so nothing is known of these."
    for note in verdict["notes"]:
        yield f"{sentence(note)}."
    enough = details["rules"]["group_rows"]
    if small := [one["name"] for one in details["slices"] if one["rows"] < enough]:
        yield f"Fewer than {enough:,} test rows are in {_some(small)}: too few to say much."
    if unknown := details["models"]["candidate"]["unknown_labels"]:
        yield f"It does not know {_some(unknown)}, which test rows have."
    if facts.imported:
        yield "Test rows may have been among those that it was trained on; then its scores are too good."


def _licenses(facts: Facts) -> str:
    of_model = "base model" if facts.training else "model"
    return _table(
        ("of", "licence"),
        [
            (of_model, sentence(facts.license) if facts.license else NOT_STATED),
            ("data", sentence(facts.data_license) if facts.data_license else NOT_STATED),
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """:param head: cells, as those of each row, that are Markdown already."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _difference(metric: Mapping[str, Any]) -> str:
    by = metric["better_by"]
    return f"{by['value']:+.4f}" + (f" ({by['low']:+.4f} to {by['high']:+.4f})" if "low" in by else "")


def _between(metric: Mapping[str, Any]) -> str:
    return f"{metric['interval']['low']:.4f} to {metric['interval']['high']:.4f}" if "interval" in metric else "-"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(code, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN:,} more"
