"""docs/operators.md says what the operators say, and leaves none of them out."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from airflow.sdk import BaseOperator
from ratchet import operators
from ratchet.operator_reference import OPERATORS, PAGE, own_parameters, read_docstring, with_reference
from ratchet.operators.stage import StageOperator


def test_the_page_is_current():
    page = PAGE.read_text()
    assert page == with_reference(page), "run: PYTHONPATH=plugins:. .venv/bin/python -m ratchet.operator_reference"


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
