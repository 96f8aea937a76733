"""Which model versions saw an object or a text, asked of a real MLflow."""

from collections import Counter
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from tests.training.source import ROWS
from tests.training.tracked import target
from training.contract import BadInput, ForgetRequest, SeenRequest
from training.forget import forget
from training.seen import seen
from training.text import identity_of

pytestmark = pytest.mark.filterwarnings("default")  # of torch, transformers and mlflow: theirs to mend


@pytest.fixture
def client(tracking_server, quick_tracking):
    return MlflowClient(tracking_server, tracking_server)


def register(client, name, result, *aliases):
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    made = client.create_model_version(name, "s3://nowhere/model", tags={"ratchet.snapshot": result.digest})
    for alias in aliases:
        client.set_registered_model_alias(name, alias, made.version)


def ask(source, server, name, *texts, objects=(), **changes):
    request = SeenRequest(
        store=str(source.store),
        tracking=target(server, name),
        objects=[str(source.folder / one) for one in objects],
        texts=[identity_of(text) for text in texts],
    )
    return seen(replace(request, **changes))


def test_versions_that_saw_an_object_or_a_text_are_named_with_their_rows(source, client, tracking_server):
    register(client, "seen", source.ingest())
    source.put("second", [("one more", "pos"), ROWS[0], ("", "pos")])
    second = source.ingest(bad_rows_percent=50.0)
    register(client, "seen", second, "challenger", "champion")
    source.remove("second")
    third = source.ingest()
    register(client, "seen", third)

    found = ask(source, tracking_server, "seen", objects=["seco*.jsonl"], snapshot=third.digest)
    [version] = found.versions
    assert (version["version"], version["aliases"]) == ("2", ["challenger", "champion"])
    assert version["snapshot"] == second.digest
    assert version["objects"] == [str(source.folder / "second.jsonl")]
    counts = sum(map(Counter, version["rows"].values()), Counter())
    assert counts in (Counter(kept=2), Counter(kept=1, duplicate=1))  # of equal rows either may stay
    assert version["refused"] == {"empty text": 1}
    assert (found.in_force, found.unknown, found.forgotten) == (None, [], 0)

    assert [one["version"] for one in ask(source, tracking_server, "seen", ROWS[0][0].upper()).versions] == [
        "1",
        "2",
        "3",
    ]
    assert ask(source, tracking_server, "seen", "never read").versions == []


def test_the_snapshot_that_the_next_training_takes_is_asked_as_well(source, tracking_server, quick_tracking):
    result = source.ingest()
    found = ask(source, tracking_server, "seen-by-nobody", objects=["first.jsonl"], snapshot=result.digest)
    assert found.versions == []
    assert {split: counts["kept"] for split, counts in found.in_force["rows"].items()} == result.rows


def test_a_version_whose_snapshot_is_gone_is_no_version_that_saw_nothing(source, client, tracking_server):
    result = source.ingest()
    register(client, "seen-gone", result)
    (source.store / "snapshots" / result.digest / "manifest.json").unlink()
    found = ask(source, tracking_server, "seen-gone", ROWS[0][0])
    assert (found.versions, found.unknown) == ([], ["1"])


@pytest.mark.parametrize("pattern", ["watermarks/*/deletions.parquet", "batches/*/rows-*.parquet"])
def test_nobody_can_tell_of_a_version_whose_rows_are_damaged(source, client, tracking_server, pattern):
    source.put("second", [(ROWS[0][0].upper(), ROWS[0][1])])
    name = f"seen-damaged-{pattern[0]}"
    register(client, name, source.ingest())
    [file] = source.store.glob(pattern)
    file.write_bytes(file.read_bytes()[:-20])
    found = ask(source, tracking_server, name, ROWS[0][0])
    assert (found.versions, found.unknown) == ([], ["1"])


def test_what_was_forgotten_is_told_as_such(source, client, tracking_server, tmp_path):
    register(client, "seen-forgotten", source.ingest())
    identity = identity_of(ROWS[0][0])
    forget(ForgetRequest(store=str(source.store), work=str(tmp_path / "work"), texts=[identity]))
    found = ask(source, tracking_server, "seen-forgotten", ROWS[0][0], "never read")
    assert (found.versions, found.forgotten) == ([], 1)


def test_a_slip_in_a_name_is_not_an_object_that_nobody_saw(source, client, tracking_server):
    register(client, "seen-slip", source.ingest())
    with pytest.raises(BadInput, match=r"frist\.jsonl was ever read.* Did you mean .*/first\.jsonl\?"):
        ask(source, tracking_server, "seen-slip", objects=["frist.jsonl"])


def test_rows_outside_of_a_cap_were_not_kept(source, client, tracking_server):
    register(client, "seen-cap", source.ingest(max_rows_per_label=50))
    [version] = ask(source, tracking_server, "seen-cap", objects=["first.jsonl"]).versions
    assert version["rows"]["train"]["kept"] == 100
    assert version["rows"]["train"]["outside of window, cap or labels"] > 0
