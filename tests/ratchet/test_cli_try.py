from __future__ import annotations

import pytest

from ratchet.cli import main, try_spec
from ratchet.hooks.stage import StageFailed
from training.contract import BadInput
from training.rules import Rules

RESULT = {
    "decision": "promote",
    "reasons": ["f1_macro 0.9 is at least 0.5", "there is no champion yet"],
    "metrics": {"accuracy": 0.91, "log_loss": None},
    "predictions": [{"text": "good " * 100, "label": "pos", "score": 0.98765}],
    "seconds": {"ingest": 0.12, "train": 3.0},
    "notes": ["label 'neg' has 2 test rows: its scores say little"],
}


class FakeTry:
    def __init__(self, outcome):
        self.outcome, self.requests = outcome, []

    def __call__(self, stage, request, log, reads):
        self.requests.append((stage, request))
        log("INFO progress: 42%")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """Run ``ratchet try`` on a spec, with a stage that ends in a given way."""
    monkeypatch.setenv("AIRFLOW__RATCHET__WORK", str(tmp_path / "work"))
    spec = tmp_path / "mail.yaml"
    spec.write_text("data: {source: /a.csv, text: b, label: c}\ngate: {minimum: {f1_macro: 0.5}}\n")

    def run(outcome, *options):
        fake = FakeTry(outcome)
        monkeypatch.setattr(try_spec, "run_stage", fake)
        return main(["try", str(spec), *options]), fake

    return run


def test_logs_verdict_metrics_predictions_and_seconds_are_shown(attempt, capsys):
    status, fake = attempt(RESULT, "--rows", "20")
    assert status == 0
    shown = capsys.readouterr().out
    assert shown.startswith("INFO progress: 42%\n")
    assert "promote: f1_macro 0.9 is at least 0.5; there is no champion yet" in shown
    assert "Note: label 'neg' has 2 test rows" in shown
    assert "  accuracy  0.910\n  log_loss  -\n" in shown
    assert "  0.988  pos  good good" in shown
    assert "  ingest  0.1\n  train   3.0" in shown
    assert max(map(len, shown.splitlines())) < 120
    [(stage, request)] = fake.requests
    assert (stage, request.ingest.max_rows) == ("try", 20)
    assert Rules.from_dict(request.rules) == Rules(minimum={"f1_macro": 0.5})


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ({**RESULT, "decision": "hold"}, 3),
        (BadInput("/a.csv: row 3 has no label"), 2),
        (StageFailed("try failed (exit status 1): MemoryError"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_status_says_how_it_went(attempt, capsys, outcome, status):
    found, _ = attempt(outcome)
    assert found == status
    if status in (1, 2):
        assert str(outcome) in capsys.readouterr().err


def test_a_base_model_is_kept_where_real_runs_keep_theirs(attempt, tmp_path):
    _, fake = attempt(RESULT)
    [(_, request)] = fake.requests
    assert request.train["work"] == str(tmp_path / "work")
