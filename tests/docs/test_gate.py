"""What the page about the gate shows is what Ratchet takes."""

from __future__ import annotations

import re

from ratchet.spec import load_spec
from tests.servers import ROOT
from training.rules import Rules

PAGE = (ROOT / "docs" / "gate.md").read_text()


def test_the_spec_of_the_page_is_judged_as_the_page_says(tmp_path):
    [(name, spec)] = re.findall(r"^```yaml\n# dags/([\w-]+)\.yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / f"{name}.yaml").write_text(spec)
    gate = load_spec(tmp_path / f"{name}.yaml").gate
    assert (gate.minimum, gate.maximum) == ({"f1_macro": 0.8}, {"latency_p95_ms": 30})
    assert list(gate.slices) == ["short", "device", "invoices from a phone"]


def test_the_margin_of_the_page_is_the_default():
    assert f"The default, {Rules.no_worse_by:g}," in PAGE
