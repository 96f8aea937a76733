"""What the README says is there."""

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from ratchet.spec import load_spec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def blocks(language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_shortest_spec_is_valid_and_under_ten_lines(tmp_path):
    [text] = blocks("yaml")
    assert len(text.splitlines()) < 10
    (tmp_path / "tickets.yaml").write_text(text)
    spec = load_spec(tmp_path / "tickets.yaml")
    assert spec.data.text == "message"
    assert spec.gate.minimum  # or whoever copies it promotes any first model


def test_without_the_hub_the_samples_model_is_where_the_readme_says():
    [name] = re.findall(r"`base_model: (\$\{RATCHET_HOME\}[^`]+)`", README)
    assert f"base_model: {name}\n" in (ROOT / "dags" / "sentiment.yaml").read_text()


def test_the_help_says_that_a_dollar_sign_is_doubled():
    shown = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "a note on the run ($$ for $)" in shown


def test_every_fragment_of_a_spec_is_valid(tmp_path):
    fragments = re.findall(r"`(train: \{[^`]*\})`", README)
    assert fragments
    for fragment in fragments:
        value = fragment.replace("{...}", "{num_train_epochs: 2}")
        (tmp_path / "tickets.yaml").write_text(f"data: {{source: /a.csv, text: b, label: c}}\n{value}\n")
        load_spec(tmp_path / "tickets.yaml")


def test_every_source_in_the_table_is_accepted(tmp_path):
    sources = re.findall(r"`source: ([^`]+)`", README)
    assert len(sources) == 3
    for source in sources:
        (tmp_path / "tickets.yaml").write_text(f"data: {{source: '{source}', text: b, label: c}}\n")
        load_spec(tmp_path / "tickets.yaml")


def test_every_make_target_exists():
    targets = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(blocks())))
    assert {"run", "test", "down"} <= targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_every_operator_in_the_table_can_be_imported():
    rows = re.findall(r"^\| (\w+) \| `(\w+Operator)`", README, re.MULTILINE)
    assert [step for step, _ in rows] == ["ingest", "train", "evaluate", "gate", "deploy", "promote"]
    for step, name in rows:
        module = "deploy_local" if step == "deploy" else step
        assert hasattr(import_module(f"ratchet.operators.{module}"), name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
