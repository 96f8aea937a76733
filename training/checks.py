"""
The checks that data has to pass, and what becomes of what does not.

Standard library only: the spec names the checks, ingest carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.contract import Checks, Policy


@dataclass(frozen=True)
class Check:
    meaning: str  # what it is that the policy is about, in the words of docs/spec.md
    default: Policy = "drop"
    policies: tuple[Policy, ...] = ("drop", "quarantine", "fail")  # those that a spec may choose


# ignore: not looked for. report: counted and told. redact: taken out of the text, which stays. drop: the row is left
# out and counted. quarantine: the new rows are refused as a whole, the last good snapshot stays in force. fail: the run
# ends. Unless a spec says otherwise, one bad row among many never stops a pipeline.
EVERY_POLICY: tuple[Policy, ...] = ("ignore", "report", "drop", "quarantine", "fail")

CHECKS: dict[str, Check] = {
    "empty_text": Check("a row whose text is missing, or white space alone"),
    "missing_label": Check("a row whose label is missing"),
    "not_utf8": Check("a row whose bytes do not decode"),
    "control_character": Check("a row whose text holds NUL, or whose label holds a control character"),
    "wrong_type": Check("a row whose text is no string, or whose label is a list or a mapping"),
    "broken_row": Check("a row that its object's format cannot parse"),
    "unknown_label": Check("a row whose label is not one of `labels`"),
    "personal_data": Check(
        "a row whose text holds an e-mail address, or the number of a phone, a payment card or a bank account (IBAN); "
        "`redact` puts `<EMAIL>`, `<PHONE>`, `<CARD>` or `<ACCOUNT>` in its place before the text is stored",
        default="ignore",
        policies=("ignore", "report", "redact", "drop", "quarantine", "fail"),
    ),
    "personal_label": Check(
        "a label that looks like an e-mail address or holds a number as `personal_data` finds them; it stays as it is",
        "report",
        ("ignore", "report"),
    ),
    "forgotten": Check("a row whose text `ratchet forget` took out", policies=("drop",)),
    "long_text": Check(
        "texts with more tokens than `train.max_length`, or else the base model, takes, in a sample of the new ones; "
        "`quarantine` and `fail` act when their share is above `bad_rows_percent`",
        "report",
        ("ignore", "report", "quarantine", "fail"),
    ),
    "duplicate": Check("a row whose text and label were there before, after normalisation"),
    "conflicting_label": Check(
        "a row whose text is there with another label, after normalisation, which as many rows have or more"
    ),
    "in_test": Check(
        "a row whose text is in a version of the test split, after normalisation: Ratchet never trains on its exam"
    ),
    "new_label": Check(
        "a label that the last snapshot had not and `labels` does not list; `drop` leaves it out until it is listed or "
        "the policy is another",
        "report",
        ("report", "drop", "quarantine", "fail"),
    ),
    "vanished_label": Check(
        "a label that the last snapshot had training rows of and the new one has not",
        "report",
        ("report", "quarantine", "fail"),
    ),
    "rare_label": Check(
        "a label with fewer training rows than `min_rows_per_label`", "report", ("report", "drop", "quarantine", "fail")
    ),
    "moved_share": Check(
        "a label whose share among the new rows differs from that in the last snapshot by more than "
        "`moved_share_percent`, and by more than chance",
        "report",
        ("report", "quarantine", "fail"),
    ),
    "near_test": Check(
        "a training or validation text that is nearly one of any version of the test split: 70 per cent of the runs of "
        "three characters that one of them has are in both, as when one word of a long sentence differs "
        "([data.md](data.md#texts-that-are-nearly-the-same)). With more than 1,000,000 rows it is looked for only when "
        "the spec names it",
        "report",
        EVERY_POLICY,
    ),
    "near_duplicate": Check(
        "a training or validation text that is nearly another one of the same label and split. With more than "
        "1,000,000 rows it is looked for only when the spec names it",
        "report",
        EVERY_POLICY,
    ),
}


def policy_of(checks: Checks, check: str) -> Policy:
    """:return: what the spec wants; otherwise the check's default. :param check: a key of ``CHECKS``."""
    return checks.policies.get(check, CHECKS[check].default)
