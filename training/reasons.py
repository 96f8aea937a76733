"""Name why a row is not in a snapshot, and which check it does not pass. Standard library only."""

from __future__ import annotations

EXAMPLES_PER_REASON = 20

# What can be wrong with a row by itself. The first two are ordinary in real data; the others say that the file is not
# what the spec says it is, once they are many.
EMPTY_TEXT = "empty text"
MISSING_LABEL = "missing label"
NOT_UTF8 = "not valid UTF-8"
NUL = "NUL character"
TEXT_TYPE = "text is not a string"
LABEL_TYPE = "label is not a string, number or boolean"
LABEL_CONTROL = "control character in the label"
UNKNOWN_LABEL = "unknown label"
PERSONAL_DATA = "personal data"
FORGOTTEN = "forgotten"
ORDINARY = {EMPTY_TEXT, MISSING_LABEL, UNKNOWN_LABEL, PERSONAL_DATA, FORGOTTEN, "empty file"}

# what can be wrong with a row beside others
DUPLICATE = "duplicate"
CONFLICT = "same text with another label"
IN_TEST = "text is in the test split"
IN_VALIDATION = "text is in the validation split"
UNTRAINED_LABEL = "label without a training row"
NEW_LABEL = "new label"
RARE_LABEL = "label with too few training rows"
NEARLY_IN_TEST = "text is nearly one in the test split"
NEARLY_DUPLICATE = "text is nearly another one"

CHECK_OF = {  # what the spec calls them; any other reason is a row that its format cannot parse
    EMPTY_TEXT: "empty_text",
    MISSING_LABEL: "missing_label",
    NOT_UTF8: "not_utf8",
    NUL: "control_character",
    LABEL_CONTROL: "control_character",
    TEXT_TYPE: "wrong_type",
    LABEL_TYPE: "wrong_type",
    UNKNOWN_LABEL: "unknown_label",
    PERSONAL_DATA: "personal_data",
    FORGOTTEN: "forgotten",
    DUPLICATE: "duplicate",
    CONFLICT: "conflicting_label",
    IN_TEST: "in_test",
    IN_VALIDATION: "duplicate",
    NEW_LABEL: "new_label",
    RARE_LABEL: "rare_label",
    NEARLY_IN_TEST: "near_test",
    NEARLY_DUPLICATE: "near_duplicate",
}


def check_of(reason: str) -> str:
    """:return: the check, a key of ``training.checks.CHECKS``, that a row with this reason does not pass."""
    return CHECK_OF.get(reason, "broken_row")
