"""The licence of a model is what its card says, and nothing is guessed."""

from __future__ import annotations

import pytest

from training.licenses import stated_license


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        ("---\nlicense: mit\n---\n# A model\n", "mit"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\nlicense: other\nlicense_name: acme-1\n---\n", "acme-1"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlanguage: en\n---\n", None),
        ("# A model\n\nlicense: mit\n", None),
        ("---\nlicense: [\n---\n", None),
    ],
)
def test_the_metadata_of_the_card_states_it(tmp_path, card, stated):
    (tmp_path / "README.md").write_text(card)
    assert stated_license(tmp_path) == stated


def test_without_a_card_nothing_is_stated(tmp_path):
    assert stated_license(tmp_path) is None
