"""What the page about approval, override and notifications shows is what Ratchet takes."""

from __future__ import annotations

import argparse
import re
import shlex
from copy import deepcopy
from datetime import timedelta

import pytest

from ratchet.cli.retrain import parameters_from
from ratchet.cli.run import add_parser
from ratchet.factory import PARAMS, build
from ratchet.spec import load_spec
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "approval.md").read_text()
SPECS = dict(re.findall(r"^```yaml\n# dags/([\w-]+)\.yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def pipeline(tmp_path):
    """:return: what reads a spec of the page."""

    def read(name):
        (tmp_path / f"{name}.yaml").write_text(SPECS[name])
        return load_spec(tmp_path / f"{name}.yaml")

    return read


def test_the_approvers_of_the_page_are_asked_within_its_hours(pipeline):
    approve = build(pipeline("tickets-approved")).get_task("approve")
    assert approve.assigned_users == [{"id": "anna", "name": "anna"}, {"id": "ben", "name": "ben"}]
    assert approve.response_timeout == timedelta(hours=48)


def test_the_override_of_the_page_reaches_the_run_with_its_reason():
    [line] = re.findall(r"^\.venv/bin/ratchet (run .*--override .*)$", PAGE, re.MULTILINE)
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parameters = parameters_from(parser.parse_args(shlex.split(line)))
    assert (
        deepcopy(PARAMS["override"]).resolve(parameters["override"])
        == "the customer waits, the labels are being mended"
    )
