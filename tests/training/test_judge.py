"""A verdict is made of the report and of the answers it counts, once for the same evidence and rules."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.reports import CANDIDATE, binary, report, two
from tests.training.evaluations import Evaluation
from training.contract import BadInput, Unreachable
from training.forgotten import Forgotten
from training.store import Store, local_path
from training.text import text_hash
from training.verdict_page import verdict_page

FAILED = {
    "passed": False,
    "tests": [
        {
            "name": "a typo",
            "kind": "invariance",
            "description": "",
            "cases": 10,
            "failures": 4,
            "rate": 0.6,
            "pass": 0.95,
            "passed": False,
            "examples": [],
        }
    ],
}


@pytest.fixture
def evidence(tmp_path):
    return Evaluation(tmp_path, binary(910, 884))


def test_the_verdict_is_written_with_its_page(evidence):
    result = evidence.judge(metric="accuracy", group_no_worse_by=None)
    assert result.verdict["decision"] == "promote"
    assert not result.hit
    page = local_path(result.page)
    verdict, details = (json.loads((page.parent / name).read_text()) for name in ("verdict.json", "details.json"))
    assert verdict == result.verdict
    assert page.read_text() == verdict_page(verdict, details)
    assert "above the champion" in page.read_text()
    assert Store((evidence.place / "store").as_uri()).is_complete(f"verdicts/{result.key}")


def test_the_page_shows_texts_of_the_test_set_and_what_the_caller_knows(evidence):
    texts = [f"text number {row}" for row in range(1000)]
    parquet.write_table(pa.table({"sentence": texts}), evidence.place / "test.parquet")
    evidence.report["test_set"] |= {"uri": (evidence.place / "test.parquet").as_uri(), "text_column": "sentence"}
    for role, predicted in evidence.kept.predicted.items():
        evidence.keep(role, predicted, hashes=[text_hash(text) for text in texts])
    evidence.tell()
    details = evidence.details(evidence.judge(metric="accuracy", known={"run in Airflow": "nightly"}))
    first = details["examples"]["better"]["shown"][0]
    assert first["text"] in texts
    assert first["text_sha256"] == text_hash(first["text"])
    assert details["lineage"] == {"known": {"run in Airflow": "nightly"}}


def test_a_test_set_that_is_gone_leaves_the_verdict_without_texts(evidence, caplog):
    result = evidence.judge(metric="accuracy")
    assert result.verdict["decision"] == "promote"
    assert all("text" not in one for one in evidence.details(result)["examples"]["better"]["shown"])
    assert "shows no texts" in caplog.text


def test_what_is_handed_on_is_short_and_what_is_kept_is_whole(tmp_path):
    size = 30
    even = [[50 if i == j else 0 for j in range(size)] for i in range(size)]
    worse = [[20 if i == j else 30 if j == (i + 1) % size else 0 for j in range(size)] for i in range(size)]
    result = Evaluation(tmp_path, report(worse, even)).judge()
    kept = json.loads((local_path(result.page).parent / "verdict.json").read_text())

    def groups(verdict):
        return [one for one in verdict["rules"] if one["name"].startswith("group.")]

    assert (len(groups(result.verdict)), len(groups(kept))) == (20, size)
    assert result.verdict["reasons"][-1] == (
        "10 more slices and labels are shown to be worse; the report has all of them"
    )
    assert len(kept["reasons"]) == len(result.verdict["reasons"]) + 9


def test_what_a_killed_judge_leaves_is_where_forgetting_removes_it(evidence, monkeypatch):
    made = []
    whole = Store.put_directory
    monkeypatch.setattr(
        Store, "put_directory", lambda self, local, *rest, **how: made.append(local) or whole(self, local, *rest, **how)
    )
    evidence.judge(metric="accuracy")
    assert [path.parent for path in made] == [evidence.place / "store" / "scratch"]


def test_nothing_is_written_while_texts_are_taken_out_of_the_store(evidence):
    store = Store((evidence.place / "store").as_uri())
    Forgotten(texts=frozenset({"0" * 32}), unfinished=True).write(store)
    with pytest.raises(Unreachable, match="Nothing was done"):
        evidence.judge(metric="accuracy")
    assert store.list("verdicts") == []


def test_the_same_evidence_and_rules_have_the_same_verdict_again(evidence):
    first = evidence.judge(metric="accuracy")
    evidence.report["predictions"] = {"candidate": "gone", "champion": "gone", "best": None}  # nothing is scored again
    evidence.tell()
    again = evidence.judge(metric="accuracy")
    assert again.hit
    assert (again.verdict, again.key) == (first.verdict, first.key)
    assert not evidence.judge(metric="accuracy", confidence=0.9).hit
    assert not evidence.judge(metric="accuracy", force=True).hit


def test_a_verdict_that_was_given_before_names_the_versions_that_are_asked_about(evidence):
    """A model that is imported twice is two versions with the same weights."""
    evidence.judge(metric="accuracy")
    evidence.report["candidate"]["model"] = "models:/sentiment/9"
    evidence.tell()
    again = evidence.judge(metric="accuracy")
    assert again.hit
    assert again.verdict["candidate"] == {"model": "models:/sentiment/9", "digest": CANDIDATE}
    assert again.verdict["champion"]["model"] == "models:/sentiment/3"


def test_the_card_of_the_candidate_is_written_beside_the_verdict_each_time(evidence):
    first = evidence.judge(metric="accuracy")
    assert "# sentiment version 4" in (card := local_path(first.card)).read_text()
    assert card.parent == local_path(first.page).parent
    again = evidence.judge(metric="accuracy", data_license="cc-by-4.0")
    assert (again.hit, again.card) == (True, first.card)
    assert "| data | cc\\-by\\-4.0 |" in card.read_text()


def test_of_a_candidate_that_nobody_could_read_there_is_no_card(evidence):
    evidence.report["candidate"] = None
    evidence.tell()
    assert evidence.judge().card is None


def test_a_candidate_that_is_barred_meanwhile_is_judged_again(evidence):
    assert evidence.judge(metric="accuracy").verdict["decision"] == "promote"
    again = evidence.judge(metric="accuracy", barred={CANDIDATE: "barred by anna"})
    assert not again.hit
    assert (again.verdict["decision"], again.verdict["reasons"]) == ("hold", ["barred by anna"])


@pytest.mark.parametrize(
    ("decided", "change"),
    [
        ("hold", lambda report: report["candidate"]["serving"]["latency_ms"].update(p95=900.0)),
        ("hold", lambda report: report["candidate"]["metrics"].update(accuracy=float("nan"))),
        (
            "hold",
            lambda report: report["candidate"]["serving"]["agreement"].update(
                rows_beyond_tolerance=300, largest_difference=0.4
            ),
        ),
        ("promote", lambda report: report.update(slices_sha256="5" * 64)),
        ("hold", lambda report: report.update(behaviour=FAILED)),
    ],
)
def test_what_was_found_meanwhile_is_judged_though_the_models_are_the_same(evidence, decided, change):
    rules = {"metric": "accuracy", "maximum": {"latency_p95_ms": 100}}
    assert evidence.judge(**rules).verdict["decision"] == "promote"
    change(evidence.report)
    evidence.tell()
    again = evidence.judge(**rules)
    assert (again.hit, again.verdict["decision"]) == (False, decided)


@pytest.mark.parametrize(
    ("values", "contradiction"),
    [
        ({"failures": 10, "rate": 0.0}, "do not say whether it passed"),
        ({"failures": 10}, "rate is 1.0, but what was counted gives 0.0"),
        ({"failures": 11}, "more failures than cases"),
        ({"passed": False}, "do not say whether it passed"),
    ],
)
def test_a_behaviour_test_that_contradicts_itself_is_held(evidence, values, contradiction):
    passed = {"name": "case", "kind": "invariance", "description": "", "cases": 10, "failures": 0, "rate": 1.0}
    test = {**passed, "pass": 0.9, "passed": True, "examples": [], **values}
    evidence.report["behaviour"] = {"passed": True, "tests": [test]}
    evidence.tell()
    verdict = evidence.judge(metric="accuracy").verdict
    assert verdict["decision"] == "hold"
    assert contradiction in verdict["reasons"][0]


def test_an_agreement_that_contradicts_itself_is_held(evidence):
    evidence.report["candidate"]["serving"]["agreement"]["largest_difference"] = 0.9
    evidence.tell()
    verdict = evidence.judge(metric="accuracy").verdict
    assert verdict["decision"] == "hold"
    assert "agreement contradicts itself" in verdict["reasons"][0]


def test_a_slice_is_read_and_may_veto(tmp_path):
    made = Evaluation(tmp_path, report([[400, 100], [10, 490]], [[480, 20], [90, 410]], ["neg", "pos"]))
    hashes = [f"{row:064x}" for row in range(1000)]
    parquet.write_table(pa.table({"text_sha256": hashes, "neg": made.kept.truth == 0}), tmp_path / "membership.parquet")
    made.report["slices"] = [{"name": "neg", "rows": 500, "description": "rows of the label neg"}]
    made.report["membership"] = (tmp_path / "membership.parquet").as_uri()
    made.tell()
    verdict = made.judge(metric="accuracy", no_worse_by=0.1).verdict
    assert [rule["name"] for rule in verdict["rules"] if rule["outcome"] == "fail"] == ["group.slice 'neg'"]


def test_the_best_version_is_compared_on_the_same_rows(tmp_path):
    made = Evaluation(tmp_path, report(two(860), two(860), best=two(900)))
    verdict = made.judge(metric="accuracy").verdict
    assert verdict["decision"] == "hold"
    assert verdict["best"]["model"] == "models:/sentiment/2"


@pytest.mark.parametrize("role", ["candidate", "champion"])
@pytest.mark.parametrize(
    "damage",
    ["gone", "cut off", "flipped", "other rows", "other answers", "unknown label", "no scores", "a NaN"],
)
def test_answers_that_are_not_those_of_the_report_are_held_and_nothing_is_remembered(evidence, role, damage):
    file = evidence.file(role)
    match damage:
        case "gone":
            file.unlink()
        case "cut off":
            file.write_bytes(file.read_bytes()[:200])
        case "flipped":
            content = bytearray(file.read_bytes())
            middle = len(content) // 3
            content[middle : middle + 64] = bytes(64)
            file.write_bytes(content)
        case "no scores":
            parquet.write_table(parquet.read_table(file).drop_columns("scores"), file)
        case "a NaN":
            table = parquet.read_table(file)
            place = table.column_names.index("scores")
            scores = [[float("nan")] * 2, *table.column("scores").to_pylist()[1:]]
            parquet.write_table(table.set_column(place, "scores", pa.array(scores)), file)
        case "other rows":
            evidence.keep(role, evidence.kept.predicted[role], shift=1)
        case "other answers":
            evidence.keep(role, evidence.kept.predicted[role][::-1].copy())
        case "unknown label":
            table = parquet.read_table(file)
            renamed = pa.array(["nobody knows it", *table.column("prediction").to_pylist()[1:]])
            parquet.write_table(table.set_column(2, "prediction", renamed), file)
    result = evidence.judge(metric="accuracy")
    assert result.verdict["decision"] == "hold"
    assert result.verdict["reasons"][0].startswith("The evaluation report cannot be used: ")
    assert result.verdict["rules"] == []
    evidence.keep("candidate", evidence.kept.predicted["candidate"])
    evidence.keep("champion", evidence.kept.predicted["champion"])
    assert evidence.judge(metric="accuracy").verdict["rules"]


def test_no_report_and_rules_that_make_no_sense_are_refused(evidence):
    with pytest.raises(BadInput, match="no_worse_by"):
        evidence.judge(no_worse_by=-1)
    (evidence.place / "report.json").write_text('{"half": ')
    with pytest.raises(BadInput, match=r"report.json cannot be read .* nothing is promoted"):
        evidence.judge()
    (evidence.place / "report.json").unlink()
    with pytest.raises(BadInput, match="Run the evaluation again"):
        evidence.judge()


def test_a_report_of_nothing_is_held(evidence):
    evidence.report = [1]
    evidence.tell()
    assert evidence.judge().verdict["decision"] == "hold"
