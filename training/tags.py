"""The tags that Ratchet gives runs and registered versions in MLflow. Standard library only: Airflow imports this."""

from __future__ import annotations

PIPELINE_TAG = "ratchet.pipeline"
KEY_TAG = "ratchet.key"  # of the training that made it
MODEL_TAG = "ratchet.model_digest"
SNAPSHOT_TAG = "ratchet.snapshot"  # digest of what it was trained on
DATA_REPORT_TAG = "ratchet.data_report"  # URI; of the run that keeps the report, too
CODE_TAG = "ratchet.code"  # version of the code of the stages
BASE_MODEL_TAG = "ratchet.base_model"
IMPORTED_TAG = "ratchet.imported"  # where a model is from that was not trained here
LICENSE_TAG = "ratchet.license"
REPORT_TAG = "ratchet.report"  # of a version: URI of the last report in which it was the candidate
VERDICT_TAG = "ratchet.verdict"  # of a version and of its run: the decision
OVERRIDE_TAG = "ratchet.override"  # of a version: who promoted it against the gate, and why
RELEASE_TAG = "ratchet.release"  # of a version: digest of the release that it was promoted with
ENDPOINT_TAG = "ratchet.endpoint"  # of a version
