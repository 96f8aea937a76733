"""
What goes into each stage and what comes out: the JSON between the operators and the stage processes.

Standard library only: Airflow imports this module while the heavy half of the package stays in another environment.
A URI is ``file:///...`` or ``s3://...``; a digest is 64 hexadecimal characters of SHA-256.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, Self

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

USER_PATH = "RATCHET_TRAINING_PATH"  # directories of the user's own modules, which hide nobody else's

EXIT_BAD_INPUT = 2  # bad data or configuration: a retry cannot help; any other failure may be bad luck


class BadInput(Exception):
    """Data or configuration that no retry mends. The message names file, key or row, and what to do next."""


class Unreachable(Exception):
    """
    A server that does not answer just now, or a store that somebody works on: worth a retry.

    The message says it all, so that no traceback is shown.
    """


@dataclass(frozen=True, kw_only=True)
class Message:
    """A value that crosses a process boundary as one JSON object."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, allow_nan=False)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """:raises BadInput: a key is unknown, a required one is missing, or a value is of the wrong type."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        missing = sorted(
            name
            for name, f in fields.items()
            if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        )
        if unknown or missing:
            raise BadInput(f"{cls.__name__}: unknown keys {unknown}, missing keys {missing}; valid: {sorted(fields)}.")
        hints = typing.get_type_hints(cls)
        nested = {
            name: hint
            for name, hint in ((n, _message_type(h)) for n, h in hints.items())
            if hint is not None and isinstance(values.get(name), dict)
        }
        message = cls(**{**values, **{name: hint.from_dict(values[name]) for name, hint in nested.items()}})
        for name in fields:
            if not _fits(value := getattr(message, name), hints[name]):
                raise BadInput(f"{cls.__name__}: {name} is {value!r}; expected {_spoken(hints[name])}.")
        return message


def _fits(value: Any, hint: Any) -> bool:
    """:return: whether ``value``, as JSON gives it, is what the annotation says."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, arguments[1]) for item in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and not (hint is int and isinstance(value, bool))


def _spoken(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_spoken(argument) for argument in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in typing.get_args(hint))
    if hint is types.NoneType:
        return "None"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _message_type(hint: Any) -> type[Message] | None:
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and issubclass(candidate, Message):
            return candidate
    return None


@dataclass(frozen=True, kw_only=True)
class Tracking(Message):
    """Where the MLflow run and the model version go. Credentials travel as ``MLFLOW_TRACKING_*`` in the environment."""

    uri: str
    experiment: str
    model_name: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Made(Message):
    """What every keyed stage reports: the cache key, whether the work was already done, and why or why not."""

    key: str
    hit: bool
    why: str


LONGEST_WINDOW_DAYS = 36_500  # assumed: more is a slip, and much more is no date

Format = Literal["csv", "tsv", "jsonl", "parquet", "arrow"]
Policy = Literal["ignore", "report", "redact", "drop", "quarantine", "fail"]


@dataclass(frozen=True, kw_only=True)
class Reading(Message):
    """What is read of a source, and how: two of them that are equal read the same rows from the same objects."""

    source: str  # path or glob, s3://bucket/prefix/*.jsonl, hf://dataset@revision, sql://CONNECTION
    text: str
    label: str
    time: str | None = None  # column; None: a row is as old as its object
    keep: list[str] = field(default_factory=list)  # other columns that stay with each row, as text
    query: str | None = None  # of sql://; its columns are the rows'
    validation: str | None = None  # sources of their own; None: cut from ``source`` by the hash of the text
    test: str | None = None
    format: Format | None = None  # None: by the file's name
    test_percent: int = 15
    validation_percent: int = 10


@dataclass(frozen=True, kw_only=True)
class Checks(Message):
    """Which of the rows that were read a snapshot keeps, and when a batch of new rows is refused as a whole."""

    labels: list[str] | None = None  # None: whatever labels there are
    window_days: int | None = None  # training and validation rows that are older leave the snapshot
    max_rows_per_label: int | None = None  # of the training split
    min_rows_per_label: int = 10  # likewise; assumed: a label with fewer is rare
    moved_share_percent: float = 10.0  # percentage points that a label's share may move; assumed
    removed: Literal["drop", "keep"] = "drop"  # rows of objects that are gone
    bad_rows_percent: float = (
        10.0  # a batch with more rows that cannot be used, and more than two, is quarantined whole
    )
    phone_region: str | None = None  # country whose phone numbers are found without + as well
    policies: dict[str, Policy] = field(default_factory=dict)  # by check; the others as in training.checks


@dataclass(frozen=True, kw_only=True)
class IngestRequest(Message):
    pipeline: str
    store: str
    reading: Reading
    checks: Checks = field(default_factory=Checks)
    watermark: str | None = None  # URI of what the pipeline has read so far; None: nothing
    base_model: str | None = None  # whose tokens a text's length is counted in; None: it is not counted
    max_length: int | None = None  # tokens that training takes of a text; None: as many as the base model
    max_rows: int | None = None  # per source; None: all
    force: bool = False  # read every object again


@dataclass(frozen=True, kw_only=True)
class IngestResult(Made):
    snapshot: str  # URI of the directory snapshots/DIGEST
    digest: str
    rows: dict[str, int]  # kept, by split
    labels: list[str]
    dropped: dict[str, int]  # by reason, of all rows that the snapshot could have had
    source: dict[str, Any]  # what was read: uri, files, bytes, revision
    watermark: str  # URI of watermarks/KEY, for the next request
    objects: dict[str, int]  # new, changed, removed, unchanged, quarantined
    quarantined: str | None = None  # why the new rows were refused as a whole; the snapshot is the last good one
    warnings: list[str] = field(default_factory=list)  # what checks found
    test_split: dict[str, Any] | None = None  # version, rows, digest, and what changed since the version before
    report: str | None = None  # URI of the directory data-reports/KEY; of an unchanged run, the snapshot's


@dataclass(frozen=True, kw_only=True)
class SurveyRequest(Message):
    """Ask what a source holds that a pipeline has not read."""

    store: str
    reading: Reading
    watermark: str | None = None
    removed: Literal["drop", "keep"] = "drop"  # keep: an object that is gone does not wait
    counted: dict[str, int] = field(default_factory=dict)  # rows by object and version, from the survey before


@dataclass(frozen=True, kw_only=True)
class SurveyResult(Message):
    objects: int  # new, changed or removed
    rows: int  # in the new and changed ones
    emptied: int  # of the objects: removed, or changed and without a row now
    broken: int  # of the objects: cannot be read as they are, so that nobody knows their rows
    bytes: int
    digest: str  # of the names and versions of what waits; empty: nothing waits
    newest: str | None  # when the youngest of them was changed, ISO 8601 and UTC
    examples: list[str]  # names, a few
    counted: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class SeenRequest(Message):
    """Ask which model versions were trained, or tested, on objects or texts."""

    store: str
    tracking: Tracking
    objects: list[str] = field(default_factory=list)  # names or globs
    texts: list[str] = field(default_factory=list)  # identities (training.forgotten): no request holds a text
    snapshot: str | None = None  # digest of the one in force, which the next training takes


@dataclass(frozen=True, kw_only=True)
class SeenResult(Message):
    versions: list[dict[str, Any]]  # training.seen.Sighting with version, aliases and trained (ISO 8601), oldest first
    in_force: dict[str, Any] | None  # training.seen.Sighting in the snapshot that is in force; None: not in there
    unknown: list[str]  # versions whose snapshot is gone, so that nobody can tell
    forgotten: int  # of the texts and objects: taken out since, so that no snapshot tells of their rows any more


@dataclass(frozen=True, kw_only=True)
class ForgetRequest(Message):
    """Take texts and objects out of a store for good, for all pipelines that keep their data there."""

    store: str
    work: str  # local directory of the stages: unfinished trainings go
    tracking: Tracking | None = None  # experiment and model are those of any pipeline: all are looked through
    watermarks: list[str] = field(default_factory=list)  # URIs of those in force: say what is still in the sources
    objects: list[str] = field(default_factory=list)  # names, as sources give them
    texts: list[str] = field(default_factory=list)  # identities (training.forgotten): no request holds a text
    near: bool = False  # also the texts that are nearly these
    endpoints: str | None = None  # state directory of a local endpoint host, for its copies of releases
    resume: bool = False  # go on with what was begun before
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class ForgetResult(Message):
    counts: dict[str, int]  # what was taken out or corrected, by kind
    versions: list[str]  # models:/NAME/VERSION whose training, validation or test rows they were
    unknown: list[str]  # versions whose snapshot is gone
    in_source: int  # rows that the sources still have
    examples: list[str]  # object and row, of the first of these
    near: int  # texts that are nearly the forgotten ones; they are forgotten too if the request says so
    near_examples: list[str]  # object and row, of the first rows that have them
    left: list[str]  # what else could not be reached, a sentence each


@dataclass(frozen=True, kw_only=True)
class TrainRequest(Message):
    pipeline: str
    store: str
    work: str  # local directory for checkpoints, locks and copies of models; survives a retry
    snapshot: str
    base_model: str  # Hub id, id@revision, or a local directory
    arguments: dict[str, Any] = field(default_factory=dict)  # TrainingArguments fields that override our defaults
    class_weights: Literal["balanced"] | None = None
    trainer: str | None = None  # module:Class of a Trainer subclass
    max_length: int | None = None  # tokens; None: from the training texts, at most what the model takes
    early_stopping_epochs: int | None = 2  # epochs without a better validation loss; None: never stop early
    tracking: Tracking | None = None  # None: no MLflow at all
    force: bool = False
    run: str | None = None  # whose attempt this is; a forced one continues only what the same run has begun


@dataclass(frozen=True, kw_only=True)
class TrainResult(Made):
    model: str  # URI of the directory models/DIGEST: an ordinary transformers checkpoint with its tokenizer
    digest: str
    metrics: dict[str, float]  # of the best epoch on the validation split
    epochs: float  # epochs trained
    seconds: float
    run_id: str | None = None  # MLflow
    experiment_id: str | None = None
    version: str | None = None  # registered model version


@dataclass(frozen=True, kw_only=True)
class ImportRequest(Message):
    """Take a model as the candidate that was trained elsewhere."""

    pipeline: str
    store: str
    work: str  # local directory for locks and copies of models
    model: str  # as EvaluateRequest.candidate; a Hub id also as hf://ID@REVISION
    snapshot: str  # whose test split it will be judged by
    labels: dict[str, str] = field(default_factory=dict)  # what the model calls a label to what the data calls it
    tracking: Tracking | None = None  # None: no MLflow at all
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class ImportResult(Made):
    model: str  # URI of the directory models/DIGEST, as TrainResult.model
    digest: str
    source: str  # where it is from, with revision or version
    license: str | None  # as its card states it
    labels: list[str]  # in the order of the ids
    run_id: str | None = None  # MLflow
    experiment_id: str | None = None
    version: str | None = None  # registered model version


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(Message):
    pipeline: str
    store: str
    work: str  # local directory for copies of models
    candidate: str  # models:/NAME/VERSION, models:/NAME@ALIAS, a URI or path of a transformers checkpoint, a Hub id
    test_set: str  # URI of a snapshot, or of one Parquet file
    champion: str | None = None
    best: str | None = None  # the best version that was ever promoted, where it is not the champion
    baseline: str | None = None  # "majority", or the URL of an endpoint that classifies texts
    text: str = "text"  # columns of a Parquet test set that is no snapshot
    label: str = "label"
    batch_size: int = 64
    golden_examples: int = 32
    slices: dict[str, Any] = field(default_factory=dict)  # name to the fields of training.slices.Slice
    behaviour: list[dict[str, Any]] = field(default_factory=list)  # fields of training.behaviour.BehaviourTest each
    tracking: Tracking | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class EvaluateResult(Made):
    report: str  # URI of report.json; its shape is in docs/architecture.md
    golden: str  # URI of golden.json: texts with the candidate's labels and scores
    release: str | None  # URI of the candidate's; None: it answers NaN, so nobody can serve it
    rows: int
    metrics: dict[str, float | None]  # the candidate's, overall
    champion_metrics: dict[str, float | None] | None = None


@dataclass(frozen=True, kw_only=True)
class JudgeRequest(Message):
    pipeline: str
    store: str
    report: str  # URI, as EvaluateResult.report
    rules: dict[str, Any] = field(default_factory=dict)  # training.rules.Rules
    barred: dict[str, str] = field(default_factory=dict)  # digest of a model to why it is not to be promoted
    known: dict[str, str] = field(default_factory=dict)  # what the caller knows of where this comes from, for the page
    base_license: str | None = None  # for the card: of the base model; None: as its own card states it
    data_license: str | None = None  # likewise of the data
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class JudgeResult(Made):
    verdict: dict[str, Any]  # training.verdict.Verdict; of very many rules some
    page: str  # URI of the verdict and its evidence as one HTML file; beside it lies what it is made of
    card: str | None = None  # URI of the candidate's model card; None: there is no candidate to speak of


@dataclass(frozen=True, kw_only=True)
class ReplayRequest(Message):
    """Ask what a gate would have said of versions that were judged before."""

    versions: list[dict[str, Any]]  # training.replay.Version, oldest first
    rules: dict[str, Any] = field(default_factory=dict)  # training.rules.Rules
    champion: dict[str, Any] | None = None  # likewise: of the time before the oldest
    best: dict[str, Any] | None = None  # the best version that had been promoted by then


@dataclass(frozen=True, kw_only=True)
class ReplayResult(Message):
    versions: list[dict[str, Any]]  # training.replay.Replayed


@dataclass(frozen=True, kw_only=True)
class PackageRequest(Message):
    pipeline: str
    store: str
    work: str  # local directory for copies of models
    model: str  # as EvaluateRequest.candidate
    golden: str | None = None  # URI; None: a few neutral texts scored by the model itself
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class PackageResult(Made):
    release: str  # URI of the directory releases/DIGEST
    digest: str
    model_digest: str


@dataclass(frozen=True, kw_only=True)
class CheckRequest(Message):
    """The part of the other requests that only the training environment can judge."""

    arguments: dict[str, Any] = field(default_factory=dict)
    trainer: str | None = None
    slices: dict[str, Any] = field(default_factory=dict)  # as EvaluateRequest.slices
    keep: list[str] = field(default_factory=list)  # columns that slices may ask


@dataclass(frozen=True, kw_only=True)
class CheckResult(Message):
    problems: dict[str, str]  # field of TrainRequest, with dots for what is inside it, to what is wrong with it
    slices: dict[str, str] = field(default_factory=dict)  # name to what is wrong with its condition


@dataclass(frozen=True, kw_only=True)
class PlanRequest(Message):
    ingest: IngestRequest
    train: dict[str, Any]  # TrainRequest without ``snapshot``
    evaluate: dict[str, Any] = field(default_factory=dict)  # slices and behaviour of an EvaluateRequest


@dataclass(frozen=True, kw_only=True)
class PlanResult(Message):
    steps: list[dict[str, str]]  # step, state (hit | miss | unknown), why
    dropped: dict[str, int]  # rows, by reason
    warnings: list[str] = field(default_factory=list)  # what checks found beside what single rows are dropped for


@dataclass(frozen=True, kw_only=True)
class TryRequest(Message):
    ingest: IngestRequest
    train: dict[str, Any]  # TrainRequest without ``snapshot``; its ``work`` keeps the base model for the next time
    evaluate: dict[str, Any] = field(default_factory=dict)  # slices and behaviour of an EvaluateRequest
    rules: dict[str, Any] = field(default_factory=dict)  # training.rules.Rules


@dataclass(frozen=True, kw_only=True)
class TryResult(Message):
    decision: str
    reasons: list[str]
    metrics: dict[str, float | None]
    predictions: list[dict[str, Any]]  # text, label, score: from the packaged release
    seconds: dict[str, float]  # by step
    notes: list[str] = field(default_factory=list)  # of the verdict
