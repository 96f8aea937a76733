"""``ratchet import``: have a model that was trained elsewhere compete, in a run of the pipeline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ratchet.cli.retrain import EXIT_USAGE, parameters_from
from ratchet.cli.run import add_options, run
from ratchet.location import given_model


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "import",
        help="have a model that was trained elsewhere compete",
        description="Start a run that takes a given model as the candidate instead of training one: it is scored on "
        "the test split, judged, deployed and made champion like any other. So what is live today becomes the "
        "champion that the first trained candidate has to match. Exit status: as that of ratchet run.",
    )
    add_options(parser)
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=_model,
        help="a Hub id, id@revision, a directory, models:/NAME/VERSION, file:// or s3://",
    )
    parser.add_argument(
        "--label",
        action="append",
        type=_label,
        default=[],
        metavar="ITS=OURS",
        help="what the model calls a label, and what the data calls it; may be repeated",
    )
    parser.set_defaults(execute=import_model)


def import_model(options: argparse.Namespace) -> int:
    if not options.url and options.model.startswith("/") and not Path(options.model).is_dir():
        print(f"ratchet import: there is no directory {options.model}, so nothing was started.", file=sys.stderr)
        return EXIT_USAGE
    parameters = {**parameters_from(options), "model": options.model}
    if options.label:
        parameters["model_labels"] = dict(options.label)
    return run(options, parameters)


def _model(text: str) -> str:
    try:
        return given_model(text, Path.cwd())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _label(text: str) -> tuple[str, str]:
    its, separator, ours = text.partition("=")
    if not separator or not its or not ours:
        raise argparse.ArgumentTypeError(f"expected ITS=OURS, such as LABEL_0=negative, found {text!r}")
    return its, ours
