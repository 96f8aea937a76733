"""What "Versions" says to write is understood, and its spec is valid."""

from __future__ import annotations

import re
import shlex

import pytest

from ratchet import cli
from ratchet.spec import load_spec
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "registry.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines() if line.startswith("ratchet ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "_execute", lambda options: asked.append(options) or 0)
    assert cli.main(shlex.split(command, comments=True)[1:]) == 0
    assert vars(asked[0]).get("pipeline", vars(asked[0]).get("spec")) == "tickets"


def test_every_command_for_versions_is_on_the_page():
    assert {command.split()[1] for command in COMMANDS} == {"import", "history", "replay", "rollback"}


def test_the_spec_is_valid_and_states_the_licences(tmp_path):
    [text] = [text for kind, text in BLOCKS if kind == "yaml"]
    (tmp_path / "tickets.yaml").write_text(text)
    spec = load_spec(tmp_path / "tickets.yaml")
    assert (spec.data.license, spec.train.license) == ("cc-by-4.0", "apache-2.0")


def test_a_table_of_replay_is_explained_by_its_columns():
    from ratchet.cli.replay import _told

    version = {
        **dict.fromkeys(("made", "snapshot", "value", "against", "difference", "low", "high", "rows", "test_rows")),
        **{"version": "1", "verdict": "hold", "promoted": False, "decision": "hold", "reason": "it was bad"},
    }
    head = _told([version], "f1_macro").splitlines()[0]
    explained = re.findall(r"`([A-Z ]+)`", "\n".join(re.findall(r"^\| (`[A-Z].*?) \|", PAGE, re.MULTILINE)))
    assert explained == [name for name in re.split("  +", head) if name in explained]
    assert {"HAPPENED", "THIS GATE", "AGAINST", "DIFFERENCE", "ROWS", "WHY"} == set(explained)
