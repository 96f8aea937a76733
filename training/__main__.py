"""``python -m training STAGE --in request.json --out result.json``: docs/architecture.md, "Stage"."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from training import contract
from training.stage import clean_up_on_sigterm, die_with_parent, log_to_stdout, run

# stage -> module, function, request: imported only when asked for, since most of them pull in torch
STAGES = {
    "ingest": ("training.ingest", "ingest", contract.IngestRequest),
    "train": ("training.train", "train", contract.TrainRequest),
    "import": ("training.import_model", "import_model", contract.ImportRequest),
    "evaluate": ("training.evaluate", "evaluate", contract.EvaluateRequest),
    "judge": ("training.judge", "judge", contract.JudgeRequest),
    "replay": ("training.replay", "replay", contract.ReplayRequest),
    "package": ("training.package", "package", contract.PackageRequest),
    "survey": ("training.survey", "survey", contract.SurveyRequest),
    "seen": ("training.seen", "seen", contract.SeenRequest),
    "forget": ("training.forget", "forget", contract.ForgetRequest),
    "check": ("training.arguments", "check", contract.CheckRequest),
    "plan": ("training.plan", "plan", contract.PlanRequest),
    "try": ("training.rehearse", "rehearse", contract.TryRequest),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", choices=sorted(STAGES))
    parser.add_argument("--in", dest="request", type=Path, required=True, metavar="request.json")
    parser.add_argument("--out", dest="result", type=Path, required=True, metavar="result.json")
    parser.add_argument("--watch-stdin", action="store_true", help="end when stdin does")
    options = parser.parse_args()
    sys.path += filter(None, os.environ.get(contract.USER_PATH, "").split(os.pathsep))
    if options.watch_stdin:
        die_with_parent()
    clean_up_on_sigterm()
    log_to_stdout()
    module, function, request_type = STAGES[options.stage]

    def stage(request: Any) -> contract.Message:
        return getattr(importlib.import_module(module), function)(request)  # what fails here is told as the rest

    return run(stage, request_type, options.request, options.result)


if __name__ == "__main__":
    sys.exit(main())
