"""A gate is tried on versions that were judged before, and follows the history that it would have made."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.reports import report, two
from tests.training.evaluations import Evaluation
from training.contract import BadInput, ReplayRequest
from training.replay import replay
from training.store import local_path

ACCURACY = {"metric": "accuracy", "group_no_worse_by": None}
LABELS = ["neg", "pos"]


class World:
    """Versions of one pipeline, oldest first, each with the evaluation that it had."""

    def __init__(self, place):
        self.place, self.versions, self.evaluations = place, [], []

    def version(self, right, champion=None, *, promoted=False, first=0, rows=1000, seed=None, labels=LABELS):
        """
        :param right: how many rows it has right, or its confusion matrix.
        :param champion: its number and how many rows it had right: what this one was evaluated beside.
        """
        number = len(self.versions) + 1
        made = Evaluation(
            self.place / str(number),
            report(
                right if isinstance(right, list) else two(right, rows),
                champion and two(champion[1], rows),
                labels,
                candidate_digest=digest(number),
                champion_digest=digest(champion[0]) if champion else None,
            ),
            seed,
            first,
        )
        self.evaluations.append(made)
        self.versions.append(
            {"version": str(number), "digest": digest(number), "report": made.uri, "promoted": promoted}
        )
        return made

    def replay(self, last=None, champion=None, best=None, **rules):
        """:return: what the gate says of each version, oldest first."""
        versions = self.versions[-last:] if last else self.versions
        return replay(ReplayRequest(versions=versions, rules=rules, champion=champion, best=best)).versions


def digest(number):
    return f"{number:064x}"


def decisions(told):
    return [one["decision"] for one in told]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_by_the_rules_of_its_time_a_version_gets_the_verdict_that_it_had(world):
    world.version(884)
    judged = world.version(880, (1, 884), seed=0)
    verdict = judged.judge(**ACCURACY).verdict
    [rule] = [rule for rule in verdict["rules"] if rule["name"] == "no_worse_by.accuracy"]
    first, second = world.replay(**ACCURACY)
    assert first["reason"].startswith("there is no champion yet")
    assert (second["decision"], second["against"]) == (verdict["decision"], "1")
    assert (second["difference"], second["low"], second["high"]) == (rule["value"], rule["low"], rule["high"])
    assert (second["rows"], second["test_rows"], second["value"]) == (1000, 1000, 0.88)


def test_of_thirty_slightly_worse_candidates_in_a_row_none_gets_far_below_the_best(world):
    for step in range(30):
        world.version(900 - 3 * step)
    told = world.replay(no_worse_by=0.02, **ACCURACY)
    promoted = [one["value"] for one in told if one["decision"] == "promote"]
    assert len(promoted) > 1
    assert min(promoted) > 0.9 - 0.02
    assert decisions(told)[-20:] == ["hold"] * 20
    assert any("the best ever promoted" in one["reason"] for one in told)


def test_what_this_gate_holds_is_no_champion_for_the_next_one(world):
    world.version(900, promoted=True)
    world.version(890, (1, 900), promoted=True)
    world.version(899, (2, 890), promoted=True)
    easy, strict = world.replay(**ACCURACY), world.replay(minimum={"accuracy": 0.895}, **ACCURACY)
    assert [(one["decision"], one["against"]) for one in easy] == [
        ("promote", None),
        ("promote", "1"),
        ("promote", "2"),
    ]
    assert [(one["decision"], one["against"]) for one in strict] == [("promote", None), ("hold", "1"), ("promote", "1")]
    assert strict[1]["reason"] == "accuracy 0.890 is below the minimum 0.895"
    assert strict[2]["difference"] == pytest.approx(-0.001)


def test_models_that_were_asked_different_test_sets_are_compared_on_the_rows_of_both(world):
    world.version(900)
    world.version(900, first=200)
    second = world.replay(**ACCURACY)[1]
    # of 800 texts that are in both, 200 have another label now, which makes them other rows
    assert (second["rows"], second["test_rows"], second["against"]) == (600, 1000, "1")


def test_where_no_row_is_the_same_nobody_can_tell(world):
    world.version(900)
    world.version(900, first=1000)
    world.version(900)
    told = world.replay(**ACCURACY)
    assert decisions(told) == ["promote", "unknown", "promote"]
    assert told[1]["reason"] == "the answers of version 1 to these rows are gone, or never were"
    assert told[2]["against"] == "1"


@pytest.mark.parametrize("what", ["report", "answers"])
def test_a_version_whose_evidence_is_gone_is_unknown_and_the_history_goes_on(world, what):
    world.version(900)
    middle = world.version(910)
    world.version(899)
    path = local_path(middle.uri) if what == "report" else middle.file("candidate")
    path.unlink()
    told = world.replay(**ACCURACY)
    assert decisions(told) == ["promote", "unknown", "promote"]
    assert told[2]["against"] == "1"
    assert str(path) in told[1]["reason"]


def test_a_report_that_is_damaged_is_unknown(world):
    world.version(900).place.joinpath("report.json").write_text('{"half": ')
    damaged = world.version(900)
    damaged.report["candidate"]["metrics"]["accuracy"] = 0.99
    damaged.tell()
    assert decisions(world.replay(**ACCURACY)) == ["unknown", "unknown"]


def relabelled(table):
    """The same rows, a tenth of them answered right that were not."""
    truth, said = table["label"].to_pylist(), table["prediction"].to_pylist()
    wrong = [row for row in range(len(truth)) if truth[row] != said[row]][:100]
    said = [truth[row] if row in wrong else one for row, one in enumerate(said)]
    return table.set_column(table.column_names.index("prediction"), "prediction", pa.array(said))


@pytest.mark.parametrize(
    "damage", [relabelled, lambda table: table.drop_columns(["scores"]), lambda t: t.replace_schema_metadata()]
)
def test_answers_that_their_report_does_not_count_are_unknown_and_the_history_goes_on(world, damage):
    world.version(900)
    damaged = world.version(890).file("candidate")
    world.version(899)
    parquet.write_table(damage(parquet.read_table(damaged)), damaged)
    told = world.replay(**ACCURACY)
    assert decisions(told) == ["promote", "unknown", "promote"]
    assert told[2]["against"] == "1"
    assert str(damaged) in told[1]["reason"]


def test_slices_that_are_damaged_are_unknown(world):
    world.version(900)
    second = world.version(900)
    second.report["membership"] = second.file("candidate").as_uri().replace("candidate", "slices")
    second.tell()
    parquet.write_table(pa.table({"no": ["hash"]}), local_path(second.report["membership"]))
    told = world.replay(**ACCURACY)
    assert decisions(told) == ["promote", "unknown"]
    assert "slices are not those of the test rows" in told[1]["reason"]


def test_a_version_that_was_never_evaluated_is_unknown(world):
    world.version(900)
    world.versions[0]["report"] = None
    [told] = world.replay(**ACCURACY)
    assert (told["decision"], told["reason"], told["value"]) == ("unknown", "it was never evaluated", None)


def test_one_rule_that_fails_holds_a_version_whatever_the_answers_would_say(world):
    world.version(900)
    world.version(800).file("candidate").unlink()
    told = world.replay(minimum={"accuracy": 0.85}, **ACCURACY)
    assert (told[1]["decision"], told[1]["reason"]) == ("hold", "accuracy 0.800 is below the minimum 0.850")


def test_answers_that_another_evaluation_kept_do_as_well(world):
    gone = world.version(900)
    world.version(850, (1, 900))
    world.version(899)
    gone.file("candidate").unlink()
    told = world.replay(**ACCURACY)
    assert decisions(told) == ["promote", "hold", "promote"]
    assert told[2]["rows"] == 1000


def test_rows_that_were_forgotten_do_not_count(world):
    world.version(900)
    second = world.version(900).file("candidate")
    parquet.write_table(parquet.read_table(second).slice(20), second)
    assert (told := world.replay(**ACCURACY)[1])["decision"] == "promote"
    assert (told["rows"], told["test_rows"]) == (980, 1000)


def test_where_a_person_would_be_asked_the_answer_is_what_became_of_the_version(world):
    world.version(900, promoted=True)
    world.version(901)
    world.version(902)
    told = world.replay(approval="always", **ACCURACY)
    assert decisions(told) == ["ask", "ask", "ask"]
    assert [one["against"] for one in told] == [None, "1", "1"]


def test_the_last_ones_begin_with_what_was_champion_and_best_before_them(world):
    world.version(900)
    world.version(885)
    world.version(855)
    first, second, _third = world.versions
    [alone] = world.replay(last=1, **ACCURACY)
    [told] = world.replay(last=1, champion=second, best=first, **ACCURACY)
    assert (alone["decision"], alone["against"]) == ("promote", None)
    assert (told["decision"], told["against"]) == ("hold", "2")
    assert "the best ever promoted" in told["reason"]


def test_a_champion_that_mlflow_has_lost_is_known_where_a_report_has_its_answers(world):
    world.version(900)
    world.version(850, (1, 900))
    lost = {"version": "1", "digest": digest(1)}
    [told] = world.replay(last=1, champion=lost, **ACCURACY)
    assert (told["decision"], told["against"]) == ("hold", "1")


def test_the_champion_itself_is_no_worse_than_itself(world):
    world.version(900)
    [told] = world.replay(champion=world.versions[0], best=world.versions[0], **ACCURACY)
    assert told["decision"] == "promote"
    assert "is the champion already" in told["reason"]
    [told] = world.replay(champion=world.versions[0], approval="always", **ACCURACY)
    assert told["decision"] == "promote", "nobody is asked about what serves already"


def test_a_champion_may_know_other_labels(world):
    world.version(900, labels=["neg", "other"])
    world.version(900)
    told = world.replay(**ACCURACY)[1]
    assert (told["decision"], told["rows"]) == ("promote", 500)  # the rows of the label that both test sets have


def test_a_slice_vetoes_by_the_rows_of_both(world):
    world.version([[500, 0], [100, 400]])
    worse = world.version([[400, 100], [0, 500]])  # as good on the whole, and bad in one half
    hashes = [f"{row:064x}" for row in range(1000)]
    slices = pa.table({"text_sha256": hashes, "first half": [row < 500 for row in range(1000)]})
    parquet.write_table(slices, worse.place / "membership.parquet")
    worse.report["slices"] = [{"name": "first half", "rows": 500, "description": "the first 500 rows"}]
    worse.report["membership"] = (worse.place / "membership.parquet").as_uri()
    worse.tell()
    told = world.replay(metric="accuracy")[1]
    assert told["decision"] == "hold"
    assert told["reason"].startswith("slice 'first half': accuracy is 0.200 below the champion's")


def test_rules_that_contradict_themselves_are_refused(world):
    with pytest.raises(BadInput, match="asks for a comparison"):
        world.replay(better=True, no_worse_by=None)


def test_nothing_is_written(world, tmp_path):
    world.version(900)
    world.version(880)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert json.dumps(world.replay(**ACCURACY))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
