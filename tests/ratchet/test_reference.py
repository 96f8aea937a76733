from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from ratchet.document import read_document
from ratchet.reference import PAGE, SCHEMA, to_schema, to_tables, with_tables
from ratchet.spec import Sections

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted((ROOT / "dags").glob("*.yaml"))


def test_the_schema_for_editors_is_current():
    assert json.loads(SCHEMA.read_text()) == to_schema(), "run: PYTHONPATH=plugins:. python -m ratchet.reference"


def test_the_reference_page_is_current():
    page = PAGE.read_text()
    assert page == with_tables(page), "run: PYTHONPATH=plugins:. python -m ratchet.reference"


def test_every_key_is_explained_in_the_schema_and_on_the_page():
    schema, page = to_schema(), to_tables()
    for section in schema["properties"].values():
        assert section["description"].endswith(".")
    for definition in schema["$defs"].values():
        for key, about in definition["properties"].items():
            assert about["description"].endswith("."), key
            assert about["description"] in page


def test_the_schema_and_the_spec_have_the_same_keys():
    assert list(to_schema()["properties"]) == list(Sections.model_fields)


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.name)
def test_an_editor_finds_the_schema_and_no_fault_in_a_spec_of_the_repository(spec):
    first = spec.read_text().splitlines()[0]
    marker = "# yaml-language-server: $schema="
    assert first.startswith(marker)
    assert (spec.parent / first.removeprefix(marker)).resolve() == SCHEMA.resolve()
    jsonschema.validate(read_document(spec).values, to_schema())


@pytest.mark.parametrize("text", ["data: {source: a, text: b}", "data: {source: a, text: b, label: c}\ngate: {min: 1}"])
def test_an_editor_marks_what_the_spec_refuses(text):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), to_schema())


def test_the_examples_on_the_page_are_valid(tmp_path):
    block = PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "example.yaml").write_text(block)
    jsonschema.validate(read_document(tmp_path / "example.yaml").values, to_schema())
