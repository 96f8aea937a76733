"""``ratchet validate``: check specs as far as that goes without data or model, and write missing stubs."""

from __future__ import annotations

import argparse
import contextlib
import sys
from datetime import timedelta
from pathlib import Path

from ratchet.cli.specs import all_specs, behaviour_without_spec, spec_path, specs_directory, use_stack_settings
from ratchet.cli.stage import run_stage
from ratchet.document import Problem, SpecError, dotted, read_document
from ratchet.hooks.stage import StageFailed
from ratchet.location import spec_of
from ratchet.spec import PipelineSpec, load_spec
from ratchet.stub import write_stub
from training.contract import EXIT_BAD_INPUT, BadInput, CheckRequest

CHECK_TIMEOUT = timedelta(minutes=2)  # assumed: ten times what importing transformers takes on a busy machine


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "validate",
        help="check specs and write missing stubs",
        description="Check specs, train.arguments and train.trainer included, and write the stubs that are missing.",
    )
    parser.add_argument("specs", nargs="*", metavar="SPEC", help="path or pipeline name; default: all in dags/")
    parser.set_defaults(execute=validate)


def validate(options: argparse.Namespace) -> int:
    """Write missing stubs of valid specs. :return: 0, or 2 when a spec is not valid or there is none."""
    use_stack_settings()
    paths = [spec_path(name) for name in options.specs] or all_specs()
    if not paths:
        raise BadInput(f"{specs_directory()}: no spec NAME.yaml.")
    status = 0
    for tests in [] if options.specs else behaviour_without_spec():
        print(f"{tests}:1: there is no spec {spec_of(tests).name}, so nobody runs these tests; rename one of them.")
        status = EXIT_BAD_INPUT
    owners = _endpoint_owners()
    for path in paths:
        try:
            spec = load_spec(path)
            _require_own_endpoint(spec, path, owners)
            check_training(spec, path)
            check_notifiers(spec, path)
            stub = write_stub(path)
        except (SpecError, BadInput, StageFailed, FileExistsError) as error:
            print(error)
            status = EXIT_BAD_INPUT
        else:
            print(f"{path}: valid" + (f"; wrote {stub}" if stub else ""))
    return status


def _endpoint_owners() -> dict[str, list[str]]:
    """:return: endpoint to the specs of the folder that deploy to it; specs that are not valid are left out."""
    owners: dict[str, list[str]] = {}
    for path in all_specs() if specs_directory().is_dir() else []:
        with contextlib.suppress(SpecError):
            owners.setdefault(load_spec(path).deploy.endpoint, []).append(path.name)
    return owners


def _require_own_endpoint(spec: PipelineSpec, path: Path, owners: dict[str, list[str]]) -> None:
    """:raises SpecError: another pipeline deploys to the same endpoint: each would replace the other's champion."""
    others = [name for name in owners.get(spec.deploy.endpoint, []) if name != path.name]
    if others:
        message = f"{others[0]} deploys to {spec.deploy.endpoint!r} as well; give each pipeline an endpoint of its own."
        line = read_document(path).line(("deploy", "endpoint"))
        raise SpecError(path, [Problem(line, "deploy.endpoint", message)])


def check_training(spec: PipelineSpec, path: Path) -> None:
    """
    Ask the training environment about what only it can know.

    :param path: of the spec, as the user wrote it.
    :raises SpecError: an argument, the trainer or the condition of a slice would be refused there.
    """
    conditions = {name: one for name, one in spec.gate.wanted_slices().items() if "where" in one}
    if not (spec.train.arguments or spec.train.trainer or conditions):
        return  # the defaults need no environment that takes seconds to start
    lines: list[str] = []
    try:
        request = CheckRequest(
            arguments=spec.train.arguments, trainer=spec.train.trainer, slices=conditions, keep=spec.data.keep
        )
        result = run_stage("check", request, lines.append, CHECK_TIMEOUT)
    except StageFailed as error:
        what = "train" if spec.train.arguments or spec.train.trainer else "gate.slices"
        raise StageFailed("\n".join([f"{path}: {what} could not be checked. {error}", *lines[-10:]])) from error
    document = read_document(path)
    problems = [
        Problem(document.line(("train", *field.split(".", 1))), f"train.{field}", message)
        for field, message in result["problems"].items()
    ]
    for name, message in result["slices"].items():
        at = ("gate", "slices", name, "where")
        problems.append(Problem(document.line(at), dotted(at), message))
    if problems:
        raise SpecError(path, problems)


def check_notifiers(spec: PipelineSpec, path: Path) -> None:
    """
    Import what ``notify`` names, as a task does when there is something to tell.

    :raises SpecError: a class cannot be imported, is no notifier, or does not take its arguments.
    """
    notifications = spec.notifications()
    if not notifications:
        return  # Airflow takes a second to import
    from ratchet.notify import check

    problems = []
    beside = str(path.absolute().parent)  # on Airflow's import path
    sys.path.append(beside)
    try:
        for place, one in enumerate(notifications):
            try:
                check(one)
            except ValueError as error:
                at = ("notify", place, "notifier")
                problems.append(Problem(read_document(path).line(at), dotted(at), f"{one['notifier']} {error}."))
    finally:
        sys.path.remove(beside)
    if problems:
        raise SpecError(path, problems)
