"""What a person may give a run of a pipeline: the parameters of its DAG."""

from __future__ import annotations

from airflow.sdk import Param

from ratchet.location import MODEL_PATTERN, SOURCE_PATTERN
from training.visible import SEEN

PARAMS = {
    "force": Param(False, type="boolean", title="Recompute", description="Do every step again, finished or not."),
    # null as well as text: the form would not start a run with an empty text
    "note": Param(
        None, type=["null", "string"], title="Note", maxLength=500, description="Why this run; shown on the run."
    ),
    "override": Param(
        None,
        type=["null", "string"],
        title="Override",
        pattern=SEEN,
        maxLength=500,
        description="Promote the candidate whatever the gate says; no approver is asked. The reason is kept for ever, "
        "with your name.",
    ),
    "source": Param(
        None,
        type=["null", "string"],
        title="Other data",
        pattern=SOURCE_PATTERN,  # refused here, a password is in no run's configuration
        description="Read this instead of the spec's data.source, in this run only: a full path, s3:// or hf://.",
    ),
    "date": Param(
        None,
        type=["null", "string"],
        format="date",
        title="Past date",
        description="Take no snapshot; use the newest one from this day (UTC) or before.",
    ),
    "model": Param(
        None,
        type=["null", "string"],
        title="A model that is there",
        pattern=MODEL_PATTERN,
        description="Train none; take this one as the candidate: a Hub id, id@revision, models:/NAME/VERSION or a "
        "full path.",
    ),
    "model_labels": Param(
        None,
        type=["null", "object"],
        title="Its labels",
        additionalProperties={"type": "string"},
        description='What that model calls a label, and what the data calls it: {"LABEL_0": "negative"}.',
    ),
}
