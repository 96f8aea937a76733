"""``ratchet import``: a run that takes a given model as its candidate."""

from __future__ import annotations

import pytest

from ratchet.cli import main
from tests.ratchet.fake_airflow import PASSWORD


@pytest.fixture
def command(url, airflow, monkeypatch):
    """Run ``ratchet import`` against the fake."""
    monkeypatch.setenv("THE_PASSWORD", PASSWORD)

    def call(*arguments):
        return main(
            ["import", "sentiment", *arguments, "--url", url, "--user", "operator", "--password-env", "THE_PASSWORD"]
        )

    return call


def test_the_run_gets_the_model_and_its_labels_and_is_followed_to_its_verdict(fake, command, capsys):
    assert command("acme/films@v1", "--label", "LABEL_0=neg", "--label", "LABEL_1=pos", "--note", "live today") == 0
    assert fake.started == [
        (
            "sentiment",
            {"note": "live today", "model": "acme/films@v1", "model_labels": {"LABEL_0": "neg", "LABEL_1": "pos"}},
        )
    ]
    assert "PROMOTED: sentiment version 1 is champion, the first one." in capsys.readouterr().out


def test_a_directory_is_meant_as_it_is_here(fake, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "live").mkdir()
    for given in ("live", "./live", str(tmp_path / "live")):
        command(given)
    assert [parameters for _name, parameters in fake.started] == [{"model": str(tmp_path / "live")}] * 3


def test_a_directory_that_is_not_there_starts_nothing(capsys):
    assert main(["import", "sentiment", "/not/there"]) == 2
    assert "there is no directory /not/there, so nothing was started" in capsys.readouterr().err


@pytest.mark.parametrize(
    "model", ["models:/films/3", "models:/films@champion", "s3://b/models/1", "file:///m", "a/b@c"]
)
def test_what_names_a_model_is_passed_on(fake, command, model):
    command(model)
    assert fake.started == [("sentiment", {"model": model})]


@pytest.mark.parametrize(
    "arguments",
    [["s3://key:planted@bucket/model"], ["ftp://host/model"], ["a b"], ["acme/films", "--label", "LABEL_0"], []],
)
def test_wrong_usage_starts_nothing(fake, command, arguments):
    with pytest.raises(SystemExit) as ended:
        command(*arguments)
    assert ended.value.code == 2
    assert fake.started == []


def test_a_held_model_exits_3(fake, command):
    fake.hold("accuracy 0.5 is below the minimum 0.7")
    assert command("acme/films") == 3
