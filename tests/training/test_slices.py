"""Which rows of a test set are in which slice."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from training import slices
from training.contract import BadInput, IngestRequest, Reading
from training.ingest import ingest
from training.slices import check_slices, cut, digest_of, slice_problems, write_membership
from training.testset import read_test_set
from training.text import text_hash

NEWEST = datetime(2026, 3, 31, tzinfo=UTC)
REGIONS = ["EU", "US", "", "APAC"]


def record(place, source):
    return {
        "text": f"{source} number {place}" + " and so on" * (place % 3),
        "label": ["pos", "neg"][place % 2],
        "region": REGIONS[place % 4],
        "amount": place,
        "at": (NEWEST - timedelta(days=place)).isoformat() if source == "mail" else None,
    }


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """A snapshot of two objects; the rows of one have times, those of the other are as old as it is, 10 days."""
    place = tmp_path_factory.mktemp("slices")
    (place / "data").mkdir()
    for source in ("chat", "mail"):
        lines = (json.dumps(record(number, source)) + "\n" for number in range(400))
        (place / "data" / f"{source}.jsonl").write_text("".join(lines))
    moment = (NEWEST - timedelta(days=10)).timestamp()
    os.utime(place / "data" / "chat.jsonl", (moment, moment))
    reading = Reading(source=str(place / "data"), text="text", label="label", time="at", keep=["region", "amount"])
    return ingest(IngestRequest(pipeline="films", store=str(place / "store"), reading=reading)).snapshot


@pytest.fixture(scope="module")
def test_set(snapshot):
    return read_test_set(snapshot, "text", "label")


def records_of(test_set):
    named = {
        record(place, source)["text"]: record(place, source) for place in range(400) for source in ("chat", "mail")
    }
    return [named[text] for text in test_set.texts]


def test_each_kind_of_slice_has_the_rows_that_it_says(test_set):
    groups = cut(
        test_set,
        {
            "EU": {"column": "region", "values": ["EU"]},
            "abroad": {"column": "region", "values": ["US", "APAC", "Mars"]},
            "short": {"text_length": [None, 20]},
            "long": {"text_length": [20, None]},
            "middle": {"text_length": [15.0, 30.0]},
            "good": {"label": ["pos"]},
            "chat": {"source": "*/chat.jsonl"},
            "recent": {"age_days": [0, 7]},
            "costly": {"where": "try_cast(amount AS INTEGER) >= 200 AND label = 'neg'"},
            "from chat": {"where": "source LIKE '%chat%' AND time < TIMESTAMP '2026-03-22'"},
        },
    )
    rows = records_of(test_set)
    chat = [row["text"].startswith("chat") for row in rows]
    expected = {
        "EU": [row["region"] == "EU" for row in rows],
        "abroad": [row["region"] in ("US", "APAC") for row in rows],
        "short": [len(row["text"]) < 20 for row in rows],
        "long": [len(row["text"]) >= 20 for row in rows],
        "middle": [15 <= len(row["text"]) < 30 for row in rows],
        "good": [row["label"] == "pos" for row in rows],
        "chat": chat,
        "recent": [row["at"] is not None and row["amount"] < 7 for row in rows],
        "costly": [row["amount"] >= 200 and row["label"] == "neg" for row in rows],
        "from chat": chat,
    }
    assert {group.name: group.rows.tolist() for group in groups} == expected
    assert all(0 < group.rows.sum() < len(rows) for group in groups)
    assert [group.to_json() for group in groups][:2] == [
        {"name": "EU", "rows": sum(expected["EU"]), "description": "region is EU"},
        {"name": "abroad", "rows": sum(expected["abroad"]), "description": "region is US or APAC or Mars"},
    ]
    assert groups[4].description == "texts of 15 to less than 30 characters"
    assert groups[7].description == "rows less than 7 days older than the newest one"


def test_a_column_alone_makes_a_slice_of_each_of_its_commonest_values(test_set, monkeypatch):
    groups = cut(test_set, {"region": {"column": "region"}})
    assert {group.name for group in groups} == {"region=EU", "region=US", "region=APAC"}  # none of no value
    counts = [int(group.rows.sum()) for group in groups]
    assert counts == sorted(counts, reverse=True)
    monkeypatch.setattr(slices, "COMMONEST", 2)
    assert [group.name for group in cut(test_set, {"region": {"column": "region"}})] == [
        group.name for group in groups[:2]
    ]


def test_a_slice_without_rows_is_there_and_said(test_set, caplog):
    [group] = cut(test_set, {"Mars": {"column": "region", "values": ["Mars"]}})
    assert not group.rows.any()
    assert "slice 'Mars' has no row: region is Mars" in caplog.text


def test_rows_that_are_left_out_of_the_test_set_are_in_no_slice(snapshot, test_set):
    gone = set(test_set.texts[::3])
    rest = read_test_set(snapshot, "text", "label", leave_out=gone.__contains__)
    wanted = {
        "EU": {"column": "region", "values": ["EU"]},
        "chat": {"source": "*chat*"},
        "old": {"age_days": [50, None]},
    }
    whole, part = cut(test_set, wanted), cut(rest, wanted)
    kept = np.array([text not in gone for text in test_set.texts])
    assert [group.rows.tolist() for group in part] == [group.rows[kept].tolist() for group in whole]


def test_the_rows_of_a_slice_do_not_depend_on_the_day(test_set, monkeypatch):
    wanted = {"recent": {"age_days": [0, 7]}}
    first = digest_of(cut(test_set, wanted))
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert digest_of(cut(test_set, wanted)) == first


def test_a_test_set_of_its_own_offers_its_columns(tmp_path):
    rows = {
        "text": ["a", "bb", "ccc"],
        "label": ["x", "y", "x"],
        "stars": [1, 5, None],
        "time": [datetime(2026, 3, day) for day in (1, 2, 3)],
    }
    parquet.write_table(pyarrow.table(rows), tmp_path / "test.parquet")
    test_set = read_test_set(str(tmp_path / "test.parquet"), "text", "label")
    wanted = {
        "best": {"column": "stars", "values": ["5"]},
        "long": {"where": "length(text) > 1"},
        "last": {"age_days": [None, 1]},
    }
    assert [group.rows.tolist() for group in cut(test_set, wanted)] == [
        [False, True, False],
        [False, True, True],
        [False, False, True],
    ]
    with pytest.raises(BadInput, match=r"gate\.slices\.s: the test set is a file of its own"):
        cut(test_set, {"s": {"source": "*"}})


def test_ages_of_rows_whose_time_nobody_knows_are_refused(tmp_path):
    parquet.write_table(pyarrow.table({"text": ["a"], "label": ["x"]}), tmp_path / "test.parquet")
    test_set = read_test_set(str(tmp_path / "test.parquet"), "text", "label")
    with pytest.raises(BadInput, match=r"gate\.slices\.new: .*no row has a time.* Give data\.time"):
        cut(test_set, {"new": {"age_days": [0, 1]}})


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"column": "regoin"},
            "no column 'regoin'; it keeps amount, region. Name it in data.keep. Did you mean 'region'",
        ),
        ({"where": "amount > 3"}, "try_cast"),
        ({"where": "nope = 1"}, "no column 'nope'"),
        ({}, "expected one of column, text_length"),
        ({"column": "region", "label": ["pos"]}, "found column, label"),
        ({"label": ["pos"], "values": ["pos"]}, "expected one of"),
        ({"text_length": [5, 5]}, "text_length is [5, 5]; expected [from, below]"),
        ({"age_days": [None, None]}, "expected [from, below]"),
        ({"lenght": [1, 2]}, "unknown keys ['lenght']"),
        ({"label": "pos"}, "label is 'pos'; expected list"),
    ],
)
def test_a_slice_that_cannot_be_cut_is_refused_by_name(test_set, wanted, message):
    with pytest.raises(BadInput) as refused:
        cut(test_set, {"fine": {"label": ["pos"]}, "odd one": wanted})
    assert str(refused.value).startswith("gate.slices.odd one: ")
    assert str(refused.value).endswith(" Nothing was judged.")
    assert message in str(refused.value)


def test_two_slices_of_one_name_are_refused(test_set):
    with pytest.raises(BadInput, match="a slice 'region=EU' already"):
        cut(test_set, {"region=EU": {"label": ["pos"]}, "region": {"column": "region"}})


def test_the_membership_has_a_column_for_each_slice_and_knows_the_texts_by_their_hashes(test_set, tmp_path):
    groups = cut(test_set, {"EU": {"column": "region", "values": ["EU"]}, "short": {"text_length": [None, 20]}})
    write_membership(tmp_path / "membership.parquet", test_set, groups)
    table = parquet.read_table(tmp_path / "membership.parquet")
    assert table.schema.field("EU").type == pyarrow.bool_()
    assert table.to_pydict() == {
        "text_sha256": [text_hash(text) for text in test_set.texts],
        **{group.name: group.rows.tolist() for group in groups},
    }
    for taken in ("text_sha256", "joined_since_the_champion"):
        with pytest.raises(BadInput, match="name is taken"):
            check_slices({taken: {"label": ["pos"]}})


def test_the_digest_tells_slices_apart(test_set):
    def digest(**wanted):
        return digest_of(cut(test_set, wanted))

    EU = {"column": "region", "values": ["EU"]}
    assert digest(a=EU) == digest(a=EU)
    assert len({digest(a=EU), digest(b=EU), digest(a={"label": ["pos"]}), digest(), digest(a=EU, b=EU)}) == 5


def test_conditions_are_checked_without_any_row():
    wanted = {"a": {"where": "region = 'EU'"}, "b": {"where": "regoin = 'EU'"}, "c": {"label": ["x"]}}
    assert list(slice_problems(wanted, ["region"])) == ["b"]
    assert slice_problems({"a": {"where": "length(source) > 3 AND Text <> ''"}}, ["Source"]) == {}


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(0, 40), st.integers(1, 20))
def test_bounds_that_follow_each_other_part_the_rows(lengths, low, width):
    numbers = np.array(lengths)
    parts = [[None, low + width], [low + width, low + 2 * width], [low + 2 * width, None]]
    assert sum(slices._within(numbers, part).astype(int) for part in parts).tolist() == [1] * len(lengths)
