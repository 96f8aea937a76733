"""What becomes of rows with personal data: what log, store and result have of it, and what they never have."""

import logging
import pickle

import pytest
from pyarrow import parquet

from tests.training.source import ROWS, rows_of, texts_of, watch_reading
from training.contract import BadInput, Checks
from training.personal import scan_of

MAIL, PHONE, CARD, ACCOUNT = "jo@example.org", "+49 30 901820", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"
SECRETS = ("jo@", "30 901820", "30901820", "4111 1", "DE89 3")  # long enough not to be in a hash by chance
PERSONAL = [
    (f"write to {MAIL} please", "pos"),
    (f"call {PHONE} or {MAIL}", "neg"),
    (f"pay {CARD} from {ACCOUNT}", "pos"),
    (f"{MAIL} without a label", None),
    (f"{PHONE} with NUL\0", "neg"),
    ("half a character \ud800 and " + MAIL, "neg"),
    ("nothing to see", "neg"),
]


def ingest(source, policy, **checks):
    return source.ingest(policies={"personal_data": policy}, bad_rows_percent=100.0, **checks)


def refused(source):
    files = (source.store / "batches").rglob("refused.parquet")
    return {row["row"]: (row["reason"], row["text"]) for file in files for row in parquet.read_table(file).to_pylist()}


def everything_kept(source):
    """:return: all that is in the store, the texts of Parquet files in plain."""
    kept = [file.read_bytes().decode(errors="replace") for file in source.store.rglob("*.json")]
    return "\n".join([*kept, *(str(parquet.read_table(file).to_pylist()) for file in source.store.rglob("*.parquet"))])


def new_texts(result):
    return texts_of(result) - {text for text, _label in ROWS}


def test_personal_data_is_not_looked_for_unless_the_spec_says_so(source):
    source.put("second", PERSONAL)
    result = source.ingest(bad_rows_percent=100.0)
    assert f"call {PHONE} or {MAIL}" in texts_of(result)
    assert result.warnings == []
    assert scan_of(Checks()) is None


def test_redacted_texts_are_kept_and_nothing_of_what_was_taken_out_is(source, caplog):
    caplog.set_level(logging.INFO)
    source.put("second", PERSONAL)
    result = ingest(source, "redact")
    assert new_texts(result) == {
        "write to <EMAIL> please",
        "call <PHONE> or <EMAIL>",
        "pay <CARD> from <ACCOUNT>",
        "nothing to see",
    }
    assert refused(source) == {
        4: ("missing label", "<EMAIL> without a label"),
        5: ("NUL character", "<PHONE> with NUL\0"),
        6: ("not valid UTF-8", "half a character ? and <EMAIL>"),
    }
    everything = everything_kept(source) + caplog.text + result.to_json()
    assert [secret for secret in SECRETS if secret in everything] == []


def test_it_is_counted_by_kind_and_the_rows_are_named(source):
    source.put("second", PERSONAL)
    [warning] = ingest(source, "redact").warnings
    assert warning.startswith("6 of 307 new rows hold personal data (e-mail address 4, phone number 2, ")
    assert warning.endswith(
        f"card number 1), which was taken out of their texts; the first in {source.folder}/second.jsonl, row 3."
    )


def test_texts_that_differ_in_what_was_taken_out_alone_are_one_text_in_one_split(source):
    source.put("second", [("mail jo@example.org", "pos"), ("mail li@example.com", "pos"), ("Mail <email>", "pos")])
    result = ingest(source, "redact")
    assert len(new_texts(result)) == 1
    assert result.dropped == {"duplicate": 2}


def test_reported_rows_stay_as_they_are_and_only_their_places_are_told(source, caplog):
    caplog.set_level(logging.INFO)
    source.put("second", PERSONAL)
    result = ingest(source, "report")
    assert result.digest == source.ingest(cold=True, bad_rows_percent=100.0).digest
    assert "6 of 307 new rows hold personal data" in result.warnings[0]
    told = caplog.text + result.to_json() + "".join(file.read_text() for file in source.store.rglob("*.json"))
    assert [secret for secret in SECRETS if secret in told] == []


def test_dropped_rows_are_counted_and_kept_aside_without_what_made_them_go(source):
    source.put("second", PERSONAL)
    result = ingest(source, "drop")
    assert new_texts(result) == {"nothing to see"}
    assert result.dropped == {"personal data": 6}
    assert refused(source)[2] == ("personal data", "call <PHONE> or <EMAIL>")
    assert [secret for secret in SECRETS if secret in everything_kept(source)] == []


def test_many_rows_with_personal_data_are_no_reason_to_refuse_the_file(source):
    source.put("second", [*PERSONAL[:3], ("fine", "pos")])
    assert new_texts(source.ingest(policies={"personal_data": "drop"})) == {"fine"}


def test_one_row_is_enough_to_set_a_batch_aside_or_to_end_the_run(source):
    good = ingest(source, "quarantine")
    source.put("second", PERSONAL[-1:] + PERSONAL[:1])
    aside = ingest(source, "quarantine")
    assert aside.snapshot == good.snapshot
    assert "1 of 2 new rows: personal data, the first in" in aside.quarantined
    assert [secret for secret in SECRETS if secret in everything_kept(source)] == []
    with pytest.raises(BadInput, match=r"second\.jsonl, row 2: personal data .* checks\.personal_data is fail"):
        ingest(source, "fail")


def test_what_changes_rows_reads_everything_anew_and_a_report_reads_only_what_is_new(source, monkeypatch):
    source.put("second", PERSONAL)
    ingest(source, "ignore")
    read = watch_reading(monkeypatch)
    source.put("third", [("one more", "pos")])
    assert ingest(source, "report").warnings == []
    assert read == ["third"]
    read.clear()
    redacted = ingest(source, "redact")
    assert read == ["first", "second", "third"]
    assert "call <PHONE> or <EMAIL>" in texts_of(redacted)
    assert rows_of(redacted) == rows_of(source.ingest(cold=True, bad_rows_percent=100.0, policies=REDACT))
    read.clear()
    assert ingest(source, "redact").hit
    ingest(source, "redact", phone_region="DE")
    assert read == ["first", "second", "third"]


REDACT = {"personal_data": "redact"}


def test_rows_that_arrow_cannot_hold_are_looked_at_as_well(source):
    rows = [(f"{MAIL} number {i}", 2**70) for i in range(40)]  # a label that no column of integers takes
    source.put("second", [*rows, ([MAIL], "pos"), (None, "pos")])
    assert new_texts(ingest(source, "redact")) == {f"<EMAIL> number {i}" for i in range(40)}
    assert MAIL not in everything_kept(source)


MAILBOXES = [(f"message {i} to somebody", ["anna@example.org", "li +49 30 901820"][i % 2]) for i in range(60)]


def test_labels_that_look_like_personal_data_are_told_by_their_number_and_not_shown(source, caplog):
    source.put("second", MAILBOXES)
    checks = {"near_duplicate": "ignore", "near_test": "ignore", "new_label": "report"}
    [warning] = [one for one in source.ingest(policies=checks).warnings if "personal" in one]
    assert warning.startswith("2 of 4 labels look like personal data (e-mail address 1, phone number 1) and stay as")
    assert "anna" not in warning
    told = [one for one in caplog.messages if "personal" in one]
    assert told == [warning]


def test_labels_are_not_looked_at_when_the_spec_says_so(source):
    source.put("second", MAILBOXES)
    assert not [one for one in source.ingest(policies={"personal_label": "ignore"}).warnings if "personal" in one]


def test_numbers_of_a_country_are_found_when_the_spec_names_it(source):
    source.put("second", [("call 030 901820", "pos")])
    assert new_texts(ingest(source, "redact", phone_region="DE")) == {"call <PHONE>"}


def test_a_country_that_is_none_is_refused_by_name(source):
    with pytest.raises(BadInput, match=r"data\.phone_region is 'XX'.*Nothing was read"):
        ingest(source, "redact", phone_region="XX")


def test_a_scan_goes_to_another_process():
    scan = scan_of(Checks(policies=REDACT, phone_region="DE"))
    assert pickle.loads(pickle.dumps(scan)) == scan
