"""
The spec of one pipeline: every key, its default and its unit; docs/spec.md is made from the files here.

Imported whenever Airflow parses a DAG file, so nothing here may be slow to import. What stands beneath a field is its
description in the reference; pydantic itself does not read it, which would cost 30 ms (measured).
"""

from ratchet.spec.load import load_spec as load_spec
from ratchet.spec.pipeline import PipelineSpec as PipelineSpec
