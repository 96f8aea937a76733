from __future__ import annotations

import json

import pytest

from ratchet import settings
from ratchet.cli import main, seen
from ratchet.hooks.stage import StageFailed
from ratchet.ledger import FORGOTTEN, INGESTED, Ledger
from tests.ratchet.test_cli_plan import spec_in
from training.store import Store
from training.text import identity_of

VERSION = {
    "version": "4",
    "aliases": ["champion"],
    "trained": "2026-11-01T08:30:00+00:00",
    "snapshot": "5" * 64,
    "objects": [],
    "rows": {"test": {"kept": 2}, "train": {"duplicate": 3, "kept": 1200}},
    "refused": {"empty text": 1},
}
NOTHING = {"versions": [], "in_force": None, "unknown": [], "forgotten": 0}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What the stage was asked; it answers with ``asked.answer``."""

    class Asked(list):
        answer = NOTHING

    asked = Asked()

    def run_stage(stage, request, log, env):
        asked.append((stage, request, env))
        return asked.answer

    monkeypatch.setattr(seen, "run_stage", run_stage)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pl4nted")
    monkeypatch.chdir(tmp_path)
    asked.spec = spec_in(tmp_path, monkeypatch)
    return asked


def test_versions_are_listed_with_their_rows(asked, capsys):
    asked.answer = {
        "versions": [VERSION],
        "in_force": {**VERSION, "refused": {}},
        "unknown": ["2", "3"],
        "forgotten": 0,
    }
    assert main(["seen", asked.spec, "data.csv"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "VERSION  ALIASES   TRAINED           SNAPSHOT      ROWS",
        "4        champion  2026-11-01 08:30  555555555555  test 2 kept; train 3 duplicate, 1,200 kept; "
        "refused 1 empty text",
        "The next training sees it, in snapshot 555555555555: test 2 kept; train 3 duplicate, 1,200 kept",
        "Nobody can tell of version 2, 3: the snapshot is gone or damaged.",
    ]


def test_the_status_says_that_nobody_saw_it(asked, capsys):
    assert main(["seen", asked.spec, "s3://films/*.csv", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {**NOTHING, "forgotten_by": []}


def test_the_status_says_that_nobody_can_tell(asked, monkeypatch, capsys):
    asked.answer = {**NOTHING, "unknown": ["2"]}
    assert main(["seen", asked.spec, "a.csv"]) == 3
    assert "Nobody can tell of version 2" in capsys.readouterr().out

    def away(*args, **options):
        raise StageFailed("MLflow does not answer.")

    monkeypatch.setattr(seen, "run_stage", away)
    assert main(["seen", asked.spec, "a.csv"]) == 3
    assert "MLflow does not answer." in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--json", "a.csv", "b.csv"], ["a.csv", "--json", "b.csv"], ["--text", "x", "a.csv", "--json", "b.csv"]],
)
def test_objects_may_come_behind_options(asked, tmp_path, arguments):
    main(["seen", asked.spec, *arguments])
    [(_stage, request, _env)] = asked
    assert request.objects == [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]


def test_an_option_that_there_is_not_is_refused(asked):
    with pytest.raises(SystemExit) as ended:
        main(["seen", asked.spec, "a.csv", "--jason"])
    assert ended.value.code == 2


def test_what_was_forgotten_is_not_what_nobody_saw(asked, capsys):
    asked.answer = {**NOTHING, "forgotten": 1}
    Ledger(Store(settings.store_uri()), "mail").append(FORGOTTEN, versions=["models:/mail/1", "models:/mail/2"])
    assert main(["seen", asked.spec, "--text", "x"]) == 3
    told = capsys.readouterr().out
    assert "Forgotten: 1 of what was looked for" in told
    assert "models:/mail/1, models:/mail/2" in told


def test_objects_go_by_the_names_that_sources_give_them(asked, tmp_path):
    main(["seen", asked.spec, "data/*.csv", "s3://films/a.csv", (tmp_path / "my data.csv").as_uri()])
    [(stage, request, env)] = asked
    assert stage == "seen"
    assert request.objects == [str(tmp_path / "data/*.csv"), "s3://films/a.csv", str(tmp_path / "my data.csv")]
    assert (request.tracking.uri, request.tracking.model_name) == ("http://mlflow.example", "mail")
    assert env == {"MLFLOW_TRACKING_PASSWORD": "pl4nted"}


def test_texts_go_no_further_than_what_identifies_them(asked, tmp_path, capsys):
    (tmp_path / "texts").write_text('one line\n\n"two\\nlines"\n')
    main(["seen", asked.spec, "--text", "My  Secret", "--texts", str(tmp_path / "texts")])
    [(_stage, request, _env)] = asked
    assert set(request.texts) == {identity_of(text) for text in ("my secret", "one line", "two\nlines")}
    shown = capsys.readouterr()
    assert not any(text in shown.out + shown.err + request.to_json() for text in ("Secret", "line\n", "two"))


def test_the_snapshot_in_force_is_asked_as_well(asked, tmp_path):
    Ledger(Store(str(tmp_path / "store")), "mail").append(INGESTED, digest="5" * 64)
    main(["seen", asked.spec, "a.csv"])
    assert asked[0][1].snapshot == "5" * 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to look for"),
        (["--texts", "no-such-file"], "no-such-file: the texts cannot be read"),
        (["--texts", "broken"], "broken, line 2: it begins as a JSON string and is none"),
    ],
)
def test_what_cannot_be_looked_for_is_refused_without_repeating_it(asked, tmp_path, capsys, arguments, message):
    (tmp_path / "broken").write_text('fine\n"my secret\n')
    assert main(["seen", asked.spec, *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "secret" not in told
    assert asked == []
