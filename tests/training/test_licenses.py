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
        ("---\na: &a [mit, mit]\nb: &b [*a, *a]\nlicense: [*b, *b]\n---\n", None),
        ("---\nlicense: {mit: apache-2.0}\n---\n", None),
        (f"---\nlicense: {'mit ' * 100}\n---\n", None),
        ("---\nlicense: |\n  mit\n  or so\n---\n", "mit or so"),
    ],
)
def test_the_metadata_of_the_card_states_it(tmp_path, card, stated):
    (tmp_path / "README.md").write_text(card)
    assert stated_license(tmp_path) == stated


def test_without_a_card_nothing_is_stated(tmp_path):
    assert stated_license(tmp_path) is None
