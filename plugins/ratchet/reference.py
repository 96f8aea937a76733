"""
``python -m ratchet.reference`` writes plugins/ratchet/spec.schema.json and docs/spec.md from the spec's fields.

Never imported while a DAG is parsed: it reads source code to find what stands beneath each field.
"""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

from ratchet.spec import Section, Sections, sections

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = Path(__file__).with_name("spec.schema.json")
PAGE = ROOT / "docs" / "spec.md"

BEGIN, END = "<!-- made by python -m ratchet.reference from here", "to here -->"


def to_schema() -> dict[str, Any]:
    """:return: the JSON schema of a spec file, for editors."""
    schema = Sections.model_json_schema()
    _describe(schema, Sections)
    for name, model in sections().items():
        _describe(schema["$defs"][model.__name__], model)
        if not Sections.model_fields[name].is_required():
            # a section with nothing but comments below it is valid and means its defaults
            text = schema["properties"][name]["description"]
            reference = {"$ref": f"#/$defs/{model.__name__}"}
            schema["properties"][name] = {"anyOf": [reference, {"type": "null"}], "description": text}
    del schema["$defs"]["Deploy"]["properties"]["endpoint"]["default"]  # the pipeline's name, which is the file's
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "A Ratchet pipeline"}


def _describe(definition: dict[str, Any], model: type[Section]) -> None:
    definition.pop("description", None)  # the class's docstring: about the code, not about the file
    for key, text in _descriptions(model).items():
        definition["properties"][key]["description"] = text


def to_tables() -> str:
    """:return: one Markdown table per section."""
    parts = []
    purposes = _descriptions(Sections)
    for name, model in sections().items():
        rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
        properties = model.model_json_schema()["properties"]
        for key, text in _descriptions(model).items():
            field = model.model_fields[key]
            default = (
                "required" if field.is_required() else f"`{json.dumps(field.default)}`" if field.default != "" else ""
            )
            rows.append(f"| `{key}` | {_type(properties[key])} | {default} | {text} |")
        parts.append(f"### `{name}`\n\n{purposes[name]}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def with_tables(page: str) -> str:
    """:return: the page with its tables made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN} -->\n\n{to_tables()}\n\n<!-- {END}{tail}"


def _descriptions(model: type[Section]) -> dict[str, str]:
    """:return: field to the text beneath it in the source."""
    [definition] = ast.parse(inspect.getsource(model)).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, beneath in zip(definition.body, definition.body[1:], strict=False):
        match field, beneath:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return texts


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if values := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{value}`" for value in values)
    bounds = [
        f"{word} {schema[bound]:g}" for bound, word in (("minimum", "from"), ("maximum", "to")) if bound in schema
    ]
    names = {"string": "text", "integer": "whole number", "object": "keys and values"}
    return " ".join([names.get(schema["type"], schema["type"]), *bounds])


def main() -> None:
    SCHEMA.write_text(json.dumps(to_schema(), indent=2) + "\n")
    PAGE.write_text(with_tables(PAGE.read_text()))


if __name__ == "__main__":
    main()
