"""The schema for editors and the reference pages say what the code says, and leave none of it out."""

from __future__ import annotations

import importlib
import json
import pkgutil

import jsonschema
import pytest
import yaml
from airflow.sdk import BaseOperator

from docs.generate import (
    OPERATORS,
    OPERATORS_PAGE,
    ROOT,
    SCHEMA,
    SPEC_PAGE,
    own_parameters,
    read_docstring,
    to_schema,
    to_tables,
    with_reference,
    with_tables,
)
from ratchet import operators
from ratchet.document import read_document
from ratchet.operators.stage import StageOperator
from ratchet.spec.pipeline import Sections

SPECS = sorted((ROOT / "dags").glob("*.yaml"))


def test_the_schema_for_editors_is_current():
    assert json.loads(SCHEMA.read_text()) == to_schema(), "run: make docs"


def test_the_page_of_the_spec_is_current():
    page = SPEC_PAGE.read_text()
    assert page == with_tables(page), "run: make docs"


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
    block = SPEC_PAGE.read_text().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "example.yaml").write_text(block)
    jsonschema.validate(read_document(tmp_path / "example.yaml").values, to_schema())


def test_the_page_of_the_operators_is_current():
    page = OPERATORS_PAGE.read_text()
    assert page == with_reference(page), "run: make docs"


def test_no_operator_is_left_out():
    modules = [
        importlib.import_module(f"ratchet.operators.{found.name}") for found in pkgutil.iter_modules(operators.__path__)
    ]
    there = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseOperator) and value.__module__ == module.__name__
    }
    assert there - {StageOperator} == set(OPERATORS)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_an_operator_documents_what_it_takes_and_nothing_else(operator):
    docstring = read_docstring(operator)
    assert set(docstring.parameters) == set(own_parameters(operator))
    assert all(docstring.parameters.values())
    assert docstring.returned
    assert docstring.raised
    assert docstring.retry
