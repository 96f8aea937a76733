"""The gate keeps its verdict, and lets nothing pass that it did not promote."""

from __future__ import annotations

import json

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, chain
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from ratchet.ledger import Ledger
from ratchet.operators.approve import ApproveOperator
from ratchet.operators.gate import GateOperator
from tests.ratchet.fakes import FakeRegistry, context
from training.contract import Unreachable
from training.forgotten import Forgotten
from training.store import Store

REPORT = "file:///store/evaluations/1/report.json"
PAGE = "<!doctype html><html><p>what the stage wrote</p></html>"
DETAILS = '{"what the page": "is made of"}'
CARD = "---\nlicense: mit\n---\n# sentiment version 4\n"
PROMOTE = {
    "decision": "promote",
    "reasons": ["f1_macro 0.910 is above the champion's 0.884 by 0.026"],
    "rules": [],
    "candidate": {"model": "models:/sentiment/4", "digest": "c" * 64},
    "champion": {"model": "models:/sentiment/3", "digest": "a" * 64},
    "best": None,
    "raises_mark": True,
    "test_set": "7" * 64,
    "notes": ["label 'pos' has 3 test rows: its scores say little"],
}
HOLD = {**PROMOTE, "decision": "hold", "reasons": ["f1_macro 0.85 is below the minimum 0.9"], "raises_mark": False}


@pytest.fixture
def registry():
    return FakeRegistry("3", "4", champion="3", challenger="4", name="sentiment")


def gate(tmp_path, registry, verdict, ctx=None, *, asks=False, key="k", lost=None, **options):
    """
    :param key: of the verdict. :param lost: file of the verdict that is gone.
    :return: what the operator returned, and the requests that its stage got.
    """
    page = tmp_path / "verdict.html"
    page.write_text(PAGE)
    (tmp_path / "verdict.json").write_text(json.dumps({**verdict, "rules": ["all of them"]}))
    (tmp_path / "details.json").write_text(DETAILS)
    (tmp_path / "README.md").write_text(CARD)
    if lost:
        (tmp_path / lost).unlink()
    card = (tmp_path / "README.md").as_uri() if verdict["candidate"] else None
    requests = []

    def run_stage(request, **_):
        requests.append(request)
        made = {"key": key, "hit": False, "why": "miss: first run"}
        return {**made, "verdict": verdict, "page": page.as_uri(), "card": card}

    with DAG("intents"):
        operator = GateOperator(task_id="gate", **{"report": REPORT, **options})
        asked = [ApproveOperator(task_id="approve", verdict=operator.output)] if asks else []
        chain(operator, *asked, EmptyOperator(task_id="deploy"), EmptyOperator(task_id="promote"))
    operator.__dict__.update(registry=registry, run_stage=run_stage)
    return operator.execute(ctx or context()), requests


def ledger(places):
    return Ledger(Store((places / "store").as_uri()), "intents")


def test_a_good_candidate_passes(tmp_path, places, registry):
    ctx = context()
    verdict, [request] = gate(tmp_path, registry, PROMOTE, ctx, minimum={"accuracy": 0.8}, better="True")
    shown = ctx["ti"].xcoms["links"]["verdict"]
    assert verdict == {**PROMOTE, "key": "k", "report_url": shown}
    assert (request.report, request.pipeline) == (REPORT, "intents")
    assert (request.rules["minimum"], request.rules["better"]) == ({"accuracy": 0.8}, True)
    assert registry.aliases["challenger"] == "4"
    kept = json.loads(registry.files["run4", "verdict.json"])
    assert (kept["decision"], kept["rules"]) == ("promote", ["all of them"]), "not what is cut for the next step"
    assert registry.files["run4", "details.json"] == DETAILS
    assert registry.files["run4", "verdict.html"] == PAGE
    assert shown.endswith("verdict.html")


def test_whoever_forgets_while_the_verdict_goes_to_mlflow_waits_and_finds_its_run(tmp_path, places, registry):
    """The files may hold a text that was forgotten since they were written to the store."""
    store, seen = ledger(places).store, []
    keep = registry.log_text

    def log_text(run_id, *rest):
        seen.append((len(store.list("writing")), dict(registry.run_tags[run_id])))
        keep(run_id, *rest)

    registry.log_text = log_text
    gate(tmp_path, registry, PROMOTE)
    assert seen == [(1, {"ratchet.verdict": "promote"})] * 3
    assert store.list("writing") == []


def test_no_verdict_goes_to_mlflow_while_texts_are_taken_out_of_the_store(tmp_path, places, registry):
    store = ledger(places).store
    Forgotten(texts=frozenset({"0" * 32}), unfinished=True).write(store)
    with pytest.raises(Unreachable, match="Retry"):
        gate(tmp_path, registry, PROMOTE)
    assert registry.files == {}
    Forgotten(texts=frozenset({"0" * 32})).write(store)
    gate(tmp_path, registry, PROMOTE)
    assert registry.files["run4", "verdict.html"] == PAGE


def test_the_report_of_the_verdict_tells_of_run_and_endpoint(tmp_path, places, registry):
    Ledger(Store((places / "store").as_uri()), "intents").append("alias-done", to="3", endpoint="intents-live")
    _verdict, [request] = gate(tmp_path, registry, PROMOTE)
    assert request.known == {
        "pipeline": "intents",
        "run in Airflow": context()["run_id"],
        "the champion's endpoint": "intents-live",
    }


@pytest.mark.parametrize("decision", ["promote", "hold"])
def test_the_card_is_kept_with_the_model_whatever_was_decided(tmp_path, places, registry, decision):
    licenses = {"base_license": "apache-2.0", "data_license": "cc-by-4.0"}
    if decision == "promote":
        _verdict, [request] = gate(tmp_path, registry, PROMOTE, **licenses)
        assert (request.base_license, request.data_license) == ("apache-2.0", "cc-by-4.0")
    else:
        with pytest.raises(DownstreamTasksSkipped):
            gate(tmp_path, registry, HOLD, **licenses)
    assert registry.files["models:/sentiment/4", "README.md"] == CARD


@pytest.mark.parametrize("lost", ["verdict.json", "verdict.html"])
def test_a_verdict_that_is_not_whole_promotes_nothing(tmp_path, places, registry, lost):
    with pytest.raises(FileNotFoundError, match=lost):
        gate(tmp_path, registry, PROMOTE, lost=lost)


def test_a_verdict_of_a_time_when_there_were_no_details_is_kept(tmp_path, places, registry):
    gate(tmp_path, registry, PROMOTE, lost="details.json")
    assert registry.files["run4", "verdict.html"] == PAGE


def test_what_scores_say_little_is_in_the_log(tmp_path, places, registry, capsys):
    gate(tmp_path, registry, PROMOTE)
    assert "Note: label 'pos' has 3 test rows: its scores say little" in capsys.readouterr().out


@pytest.mark.parametrize("decision", ["hold", "ask"])
def test_without_a_promotion_everything_after_the_gate_is_skipped(tmp_path, places, registry, notes, decision):
    ctx = context(note="nightly")
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        gate(tmp_path, registry, {**HOLD, "decision": decision}, ctx)
    assert sorted(skipped.value.tasks) == ["deploy", "promote"]
    assert ctx["ti"].xcoms["return_value"]["decision"] == decision
    assert registry.tags["4"]["ratchet.verdict"] == decision
    assert registry.files["run4", "verdict.html"] == PAGE
    assert notes == [r"held: f1\_macro 0.85 is below the minimum 0.9 (note: nightly)"]


def test_what_is_left_to_a_person_goes_on_to_the_step_that_asks_one(tmp_path, places, registry, notes):
    verdict, _ = gate(tmp_path, registry, {**HOLD, "decision": "ask"}, asks=True)
    assert (verdict["decision"], verdict["key"]) == ("ask", "k")
    assert registry.tags["4"]["ratchet.verdict"] == "ask"
    assert registry.aliases["challenger"] == "4"
    assert notes == []


def test_what_is_held_is_held_also_where_a_person_could_be_asked(tmp_path, places, registry):
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        gate(tmp_path, registry, HOLD, asks=True)
    assert sorted(skipped.value.tasks) == ["approve", "deploy", "promote"]


def test_a_held_candidate_is_no_challenger_any_more(tmp_path, places, registry):
    with pytest.raises(DownstreamTasksSkipped):
        gate(tmp_path, registry, HOLD)
    assert registry.aliases == {"champion": "3"}


def test_a_report_that_could_not_be_used_promotes_nothing(tmp_path, places, registry):
    with pytest.raises(DownstreamTasksSkipped):
        gate(tmp_path, registry, {**HOLD, "candidate": None, "champion": None, "test_set": None})
    assert registry.files == {}


def test_no_report_promotes_nothing(tmp_path, places, registry):
    with pytest.raises(AirflowFailException, match="nothing is promoted"):
        gate(tmp_path, registry, PROMOTE, report="")


@pytest.mark.parametrize("rules", [{"minimum": {"accuracy": 1.5}}, {"better": True, "no_worse_by": None}])
def test_rules_that_contradict_themselves_are_refused(tmp_path, places, registry, rules):
    with pytest.raises(AirflowFailException, match="nothing is promoted"):
        gate(tmp_path, registry, PROMOTE, **rules)


def test_a_registry_that_is_away_fails_the_task_instead_of_deciding(tmp_path, places, registry):
    registry.find_version = lambda reference: (_ for _ in ()).throw(ConnectionError("MLflow is away"))
    with pytest.raises(ConnectionError):
        gate(tmp_path, registry, PROMOTE)


def test_weights_that_a_person_barred_are_told_to_the_stage(tmp_path, places, registry):
    bar = {"model_digest": "c" * 64, "version": "4", "who": "anna", "why": "it answers in French"}
    ledger(places).append("barred", **bar)
    _verdict, [request] = gate(tmp_path, registry, PROMOTE)
    [(digest, why)] = request.barred.items()
    assert digest == "c" * 64
    assert why.startswith("these weights, version 4, were barred on ")
    assert why.endswith(" by anna: it answers in French")


def test_an_override_lets_a_held_candidate_through_and_says_so_for_ever(tmp_path, places, registry, notes):
    verdict, _ = gate(tmp_path, registry, HOLD, override=" the customer waits ")
    assert (verdict["decision"], verdict["raises_mark"]) == ("promote", True)
    assert verdict["overridden"] == {"who": "anna", "why": "the customer waits", "decision": "hold"}
    assert registry.tags["4"] == {"ratchet.verdict": "hold", "ratchet.override": "anna: the customer waits"}
    assert registry.aliases["challenger"] == "4"
    [record] = ledger(places).records("overridden")
    assert (record["version"], record["who"], record["run_id"]) == ("4", "anna", "manual__1")
    assert notes == ["overridden by anna: the customer waits; the gate said hold"]


def test_an_overridden_candidate_needs_no_approval(tmp_path, places, registry):
    ask = {**HOLD, "decision": "ask"}
    verdict, _ = gate(tmp_path, registry, ask, asks=True, override="the customer waits")
    assert (verdict["decision"], verdict["overridden"]["decision"]) == ("promote", "ask")


@pytest.mark.parametrize("override", [None, "", "  ", "\u3164", "None"])
def test_without_a_reason_nothing_is_overridden(tmp_path, places, registry, override):
    with pytest.raises(DownstreamTasksSkipped):
        gate(tmp_path, registry, HOLD, override=override)


def test_an_override_of_a_verdict_that_promotes_is_none(tmp_path, places, registry):
    verdict, _ = gate(tmp_path, registry, PROMOTE, override="the customer waits")
    assert "overridden" not in verdict
    assert "ratchet.override" not in registry.tags["4"]
    assert [record["event"] for record in ledger(places).records()] == ["judged"]


def test_an_override_cannot_promote_what_nobody_could_judge(tmp_path, places, registry):
    unusable = {**HOLD, "candidate": None, "champion": None, "reasons": ["The evaluation report cannot be used: gone."]}
    with pytest.raises(AirflowFailException, match=r"no override can do it: The evaluation report cannot be used"):
        gate(tmp_path, registry, unusable, override="the customer waits")
    assert ledger(places).records("overridden") == []


def held(tmp_path, registry, run, verdict=HOLD, **options):
    with pytest.raises(DownstreamTasksSkipped):
        gate(tmp_path, registry, verdict, context(run), **options)


def test_who_wants_to_know_is_told_of_a_held_candidate(tmp_path, places, registry, told, anna):
    held(tmp_path, registry, "run_1", notify=[anna])
    [(_, text)] = told
    subject, reason, report = text.splitlines()
    assert (subject, reason) == ("hold: intents: version 4 is held", "- f1_macro 0.85 is below the minimum 0.9")
    assert report.endswith("/verdict.html")
    gate(tmp_path, registry, PROMOTE, context("run_2"), notify=[anna])
    assert len(told) == 1


def another(number):
    return {**HOLD, "candidate": {"model": f"models:/sentiment/{number}", "digest": f"m{number}"}}


def test_a_verdict_that_is_repeated_is_told_of_once(tmp_path, places, registry, told, anna):
    for run in ("run_1", "run_1", "run_2"):
        held(tmp_path, registry, run, notify=[anna], stale_after_holds=1)
    assert [text.splitlines()[0] for _, text in told] == [
        "hold: intents: version 4 is held",
        "stale: intents: nothing new is shipped",
    ]
    held(tmp_path, registry, "run_3", notify=[anna], key="other rules")
    assert len(told) == 3


def test_who_is_told_of_nothing_leaves_nothing_in_the_ledger(tmp_path, places, registry):
    held(tmp_path, registry, "run_1")
    assert ledger(places).records("told") == []


def test_holds_in_a_row_are_told_of_from_the_first_that_is_one_too_many(tmp_path, places, registry, told, anna):
    for run in ("run_1", "run_1", "run_2", "run_3"):  # the first one is retried
        held(tmp_path, registry, run, another(run[-1]), key=run, notify=[anna], stale_after_holds=2)
    stale = [text.splitlines()[:2] for _, text in told if text.startswith("stale")]
    assert [reason for _, reason in stale] == [
        f"- {count} candidates in a row were held or rejected" for count in (2, 3)
    ]
    assert stale[0][0] == "stale: intents: nothing new is shipped"


def test_a_notifier_finds_the_verdict_where_the_next_step_reads_it(tmp_path, places, registry, told, anna):
    ctx = context()
    seen = {**anna, "arguments": {"to": "anna", "text": "{{ ti.xcoms.return_value.decision }}"}}
    with pytest.raises(DownstreamTasksSkipped):
        gate(tmp_path, registry, HOLD, ctx, notify=[seen])
    assert told == [("anna", "hold")]


def test_each_verdict_is_counted_once_and_not_that_of_a_champion_that_is_judged_again(tmp_path, places, registry):
    for _attempt in range(2):
        gate(tmp_path, registry, PROMOTE)
    gate(tmp_path, registry, {**PROMOTE, "champion": PROMOTE["candidate"]}, context("run_2"))
    held(tmp_path, registry, "run_3", {**HOLD, "candidate": None})
    told = [(record["decision"], record["version"], record["run_id"]) for record in ledger(places).records("judged")]
    assert told == [("promote", "4", "manual__1"), ("hold", None, "run_3")]
    [promoted, hold] = ledger(places).records("judged")
    assert ("why" in promoted, hold["why"]) == (False, "; ".join(HOLD["reasons"]))
