"""The report that comes with new data: what it says, and when there is one."""

import json
from dataclasses import replace

from tests.training.source import ROWS
from training import ingest as ingest_module
from training import intake
from training.data_page import data_page
from training.findings import Finding
from training.store import local_path
from training.text import split_of, text_hash


def report_of(result):
    return json.loads((local_path(result.report) / "report.json").read_text())


def examples_of(report, reason):
    return [one for one in report["examples"] if one["reason"] == reason]


# when there is one


def test_a_snapshot_comes_with_its_report_and_an_unchanged_run_names_it_again(source):
    first = source.ingest()
    directory = local_path(first.report)
    assert sorted(path.name for path in directory.iterdir()) == ["manifest.json", "report.html", "report.json"]
    assert json.loads((local_path(first.snapshot) / "manifest.json").read_text())["report"] == first.report
    assert source.ingest().report == first.report
    assert len(list(directory.parent.iterdir())) == 1


def test_another_pipeline_that_took_in_the_same_rows_has_a_report_of_its_own(source):
    films = source.ingest()
    source.watermark = None
    books = source.ingest(pipeline="books")
    assert (books.digest, report_of(books)["pipeline"]) == (films.digest, "books")
    assert source.ingest(pipeline="books").report == books.report != films.report
    assert source.ingest(pipeline="films").report == films.report


def test_the_page_can_be_made_anew_of_the_json(source):
    result = source.ingest()
    assert (local_path(result.report) / "report.html").read_text() == data_page(report_of(result))


def test_a_retry_finds_the_report_of_the_first_attempt(source):
    before = source.ingest().watermark
    source.put("second", [("one more", "pos")])
    first = source.ingest()
    page = local_path(first.report) / "report.html"
    page.write_text("as it was")
    source.watermark = before
    assert source.ingest().report == first.report
    assert page.read_text() == "as it was"


def test_new_objects_that_bring_no_row_have_a_report_of_their_own(source):
    first = source.ingest()
    source.put("second", ROWS[:3])
    second = source.ingest()
    assert second.snapshot == first.snapshot
    assert second.report != first.report
    assert report_of(second)["dropped"][0] | {"policy": "drop"} == {
        "reason": "duplicate",
        "check": "duplicate",
        "policy": "drop",
        "new": report_of(second)["dropped"][0]["new"],
        "all": 3,
        "last": 0,
    }


def test_the_next_run_on_refused_rows_finds_their_report(source):
    source.ingest()
    source.put("second", [(None, "pos")] * 9)
    first, second = source.ingest(), source.ingest()
    assert first.quarantined
    assert first.report == second.report


# what it says


def test_rows_and_labels_stand_beside_those_of_the_last_snapshot(source):
    before = source.ingest()
    assert report_of(before)["last"] is report_of(before)["rows"]["last"] is None
    source.put("second", [(f"one more, number {i}", "new") for i in range(40)])
    source.remove("first")
    source.put("third", ROWS[:200])
    after = source.ingest()
    report = report_of(after)
    assert report["rows"] == {"now": after.rows, "last": before.rows}
    assert report["last"]["digest"] == before.digest
    labels = {one["label"]: one for one in report["labels"]}
    assert sum(labels["new"]["now"].values()) == 40
    assert sum(labels["new"]["last"].values()) == 0
    assert sum(labels["pos"]["last"].values()) == 150
    assert report["objects"]["counts"] == {"new": 2, "changed": 0, "removed": 1, "unchanged": 0}
    assert [name.rpartition("/")[2] for name in report["objects"]["named"]["removed"]] == ["first.jsonl"]


def test_lengths_are_those_of_the_objects_in_force(source):
    source.put("second", [("x" * 70, "pos"), ("y" * 300, "pos")])
    assert report_of(source.ingest())["lengths"]["characters"] == [
        [20, 300],
        [30, 0],
        [40, 0],
        [60, 1],
        [80, 0],
        [120, 0],
        [160, 0],
        [240, 1],
    ]
    source.remove("second")
    assert report_of(source.ingest())["lengths"]["characters"] == [[20, 300]]


def test_what_is_left_out_is_shown_with_file_row_text_and_identity(source):
    long = "so long " * 100
    source.put("second", [("", "pos"), (long, None), (ROWS[3][0].upper(), ROWS[3][1]), ("\0", "neg")])
    report = report_of(source.ingest())
    assert {one["reason"]: one["all"] for one in report["dropped"]} == {
        "NUL character": 1,
        "duplicate": 1,
        "empty text": 1,
        "missing label": 1,
    }
    [missing] = examples_of(report, "missing label")
    assert (missing["file"], missing["row"], missing["new"]) == (str(source.folder / "second.jsonl"), 2, True)
    assert missing["text"] == long[:200] + "…"
    assert missing["text_sha256"] == text_hash(long)
    [duplicate] = examples_of(report, "duplicate")
    assert duplicate["text_sha256"] == text_hash(ROWS[3][0])
    assert duplicate["text"].lower() == ROWS[3][0]


def test_rows_that_were_left_out_before_are_shown_when_no_new_one_is(source):
    source.put("second", [("no label", None), *ROWS[:2]])
    source.ingest()
    source.put("third", [("one more", "pos")])
    report = report_of(source.ingest())
    assert {one["reason"]: (one["new"], one["all"]) for one in report["dropped"]} == {
        "duplicate": (0, 2),
        "missing label": (0, 1),
    }
    assert [(one["row"], one["text"], one["new"]) for one in examples_of(report, "missing label")] == [
        (1, "no label", False)
    ]
    assert {one["text"] for one in examples_of(report, "duplicate")} == {ROWS[0][0], ROWS[1][0]}


def test_a_few_of_many_are_shown(source):
    source.put("second", [("", "pos")] * 40)
    report = report_of(source.ingest(bad_rows_percent=100))
    assert [one["row"] for one in examples_of(report, "empty text")] == [1, 2, 3, 4, 5]


def test_rows_that_nobody_can_read_any_more_are_named_without_their_texts(source, caplog):
    source.put("second", [("no label", None)])
    source.ingest()
    for file in source.store.glob("batches/*/refused.parquet"):
        file.unlink()
    source.put("third", [("one more", "pos")])
    [example] = examples_of(report_of(source.ingest()), "missing label")
    assert example["row"] == 1
    assert "text" not in example
    assert "shows no texts" in caplog.text


def test_refused_rows_are_reported_with_what_is_wrong_and_the_snapshot_that_stays(source):
    good = source.ingest()
    source.put("second", [(["a list"], "pos")] * 30 + [("fine", "pos")])
    bad = source.ingest()
    report = report_of(bad)
    assert report["quarantined"] == bad.quarantined
    assert report["snapshot"]["digest"] == good.digest
    assert [(one["reason"], one["new"]) for one in report["dropped"]] == [("text is not a string", 30)]
    assert len(report["examples"]) == 5
    assert report["lengths"]["characters"] == [[20, 300]]


def test_findings_are_told_with_their_policy_and_the_identity_of_their_texts(source, monkeypatch):
    long = "word " * 400
    finding = Finding("in_test", 2, "2 rows are odd.", [{"text": "left", "near_text": long, "similarity": 0.9}])
    assembled = intake.assemble
    monkeypatch.setattr(
        intake, "assemble", lambda *args, **options: replace(assembled(*args, **options), findings=[finding])
    )
    result = source.ingest()
    assert result.warnings == ["2 rows are odd."]
    [told] = report_of(result)["findings"]
    assert (told["check"], told["policy"], told["count"], told["sentence"]) == ("in_test", "drop", 2, "2 rows are odd.")
    [example] = told["examples"]
    assert example["text_sha256"] == text_hash("left")
    assert example["near_text"] == long[:1000] + "…"
    assert example["near_text_sha256"] == text_hash(long)
    assert example["similarity"] == 0.9


def test_personal_data_where_a_near_text_is_cut_is_taken_out_of_it_first(source):
    for length in (195, 995):  # of what comes before: the address goes across 200 and 1,000 characters
        words = ("word " * 200)[:length]
        source.put(f"alike{length}", [(f"{words}jo@example.org {'more ' * 200}{i}", "pos") for i in range(20)])
    result = source.ingest(policies={"personal_data": "report"})
    told = next(one for one in report_of(result)["findings"] if one["check"] == "near_duplicate")
    assert all(len(one["text"]) == 1001 and one["text"].endswith("…") for one in told["examples"])
    assert all("word <EMA" in one["text"] for one in told["examples"])
    assert "jo@" not in local_path(result.report).joinpath("report.html").read_text()


def test_rows_left_out_beside_others_that_nobody_can_read_are_not_counted_as_new(source, monkeypatch, caplog):
    put = ingest_module.Store.put_directory

    def damaged(store, directory, *args, **options):
        for file in directory.glob("deletions.parquet"):
            file.write_bytes(b"damaged")
        put(store, directory, *args, **options)

    source.ingest()
    monkeypatch.setattr(ingest_module.Store, "put_directory", damaged)
    source.put("second", [*ROWS[:2], ("one more", "pos")])
    report = report_of(source.ingest())
    assert [(one["reason"], one["new"], one["all"]) for one in report["dropped"]] == [("duplicate", 0, 2)]
    assert "does not count the new rows" in caplog.text


def test_test_rows_that_were_deleted_or_corrected_are_listed_with_their_identity(source):
    test_rows = [(text, label) for text, label in ROWS if split_of(text, 15, 10) == "test"]
    (gone, _), (wrong, label) = test_rows[:2]
    source.ingest()
    source.put("first", [(text, "mixed" if text == wrong else its) for text, its in ROWS if text != gone])
    source.put("second", [(f"{i} is mixed", "mixed") for i in range(40)])
    version = report_of(source.ingest())["test_split"]
    assert (version["version"], version["deleted"], version["corrected"]) == (2, 1, 1)
    corrected, deleted = sorted(version["examples"], key=lambda one: one["change"])
    assert (corrected["text"], corrected["was"], corrected["label"]) == (wrong, label, "mixed")
    assert (deleted["text"], deleted["label"], deleted["text_sha256"]) == (gone, None, text_hash(gone))
    assert ROWS[deleted["row"] - 1][0] == gone
    assert deleted["file"].endswith("first.jsonl")
