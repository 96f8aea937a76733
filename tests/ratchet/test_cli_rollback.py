from __future__ import annotations

import pytest

from ratchet.cli import main
from tests.ratchet.fake_airflow import PASSWORD

DONE = {
    "choose": {"model": "models:/intents/2"},
    "deploy": {"why": "miss: desk served 3"},
    "rollback": {"model": "intents", "version": "2", "previous": "3", "why": "miss: champion was version 3"},
}


@pytest.fixture
def access(url, fake, monkeypatch):
    monkeypatch.setenv("THE_PASSWORD", PASSWORD)
    fake.known = {"ratchet_rollback"}
    fake.schedule = None
    return ["--url", url, "--user", "operator", "--password-env", "THE_PASSWORD"]


def test_it_starts_the_dag_and_says_what_is_champion_then(fake, access, capsys):
    fake.by_hand(DONE)
    assert main(["rollback", "intents", "--version", "2", "--reason", "it answers nonsense", *access]) == 0
    asked = {"pipeline": "intents", "version": "2", "reason": "it answers nonsense"}
    assert fake.started == [("ratchet_rollback", asked)]
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == "ROLLED BACK: intents version 2 is champion again; it was 3."


def test_what_was_refused_is_told_and_nothing_was_done(fake, access, capsys):
    fake.by_hand({}, choose="failed", deploy="upstream_failed", rollback="upstream_failed")
    fake.logs["choose"] = ["AirflowFailException: Nothing was changed: version 4 was never champion."]
    assert main(["rollback", "intents", "--version", "4", "--reason", "why not", *access]) == 1
    told = capsys.readouterr().out
    assert "Not rolled back." in told
    assert "version 4 was never champion" in told


@pytest.mark.parametrize("reason", [" ", "\u200b"])
def test_without_a_reason_nothing_is_started(fake, access, reason):
    assert main(["rollback", "intents", "--reason", reason, *access]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["rollback", "intents", *access])
    assert ended.value.code == 2
    assert fake.started == []


def test_an_airflow_without_the_dag_is_told(fake, access, capsys):
    fake.known = {"sentiment"}
    assert main(["rollback", "intents", "--reason", "why not", *access]) == 1
    assert "Airflow knows no pipeline 'ratchet_rollback'" in capsys.readouterr().err
