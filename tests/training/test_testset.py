"""The texts of a test set are found again by their hashes."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow import parquet

from training.contract import BadInput
from training.testset import find_texts
from training.text import split_of, text_hash

TEXTS = ["a fine film", "an awful film", "a film"]


def test_texts_of_a_file_are_found_by_the_column_that_it_has_them_in(tmp_path):
    parquet.write_table(pa.table({"sentence": TEXTS}), tmp_path / "test.parquet")
    wanted = {text_hash(TEXTS[0]), text_hash(TEXTS[2]), "0" * 64}
    found = find_texts((tmp_path / "test.parquet").as_uri(), "sentence", wanted)
    assert found == {text_hash(TEXTS[0]): TEXTS[0], text_hash(TEXTS[2]): TEXTS[2]}


def test_texts_of_a_snapshot_are_those_of_its_test_split(source):
    rows = [(f"a text {number}", ["pos", "neg"][number % 2]) for number in range(200)]
    source.put("second", rows)
    snapshot = source.ingest().snapshot
    test, train = (next(text for text, _ in rows if split_of(text, 15, 10) == split) for split in ("test", "train"))
    assert find_texts(snapshot, "text", {text_hash(test), text_hash(train)}) == {text_hash(test): test}


@pytest.mark.parametrize("gone", ["test.parquet", "snapshots/" + "0" * 64])
def test_a_test_set_that_is_gone_is_said(tmp_path, gone):
    with pytest.raises(BadInput):
        find_texts((tmp_path / gone).as_uri(), "text", {"0" * 64})
