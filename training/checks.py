"""
The checks that a row has to pass, and what becomes of one that does not.

Standard library only: the spec names the checks, the columnar part of ingest carries them out.
"""

from __future__ import annotations

from training.contract import Policy

# drop: the row is left out and counted. quarantine: the new rows are refused as a whole, the last good snapshot stays
# in force. fail: the run ends. Unless a spec says otherwise, one bad row among many never stops a pipeline.
POLICIES: dict[str, Policy] = {
    "empty_text": "drop",  # no text, or nothing but white space
    "missing_label": "drop",
    "not_utf8": "drop",  # bytes that do not decode
    "control_character": "drop",  # NUL in the text, any in the label
    "wrong_type": "drop",  # a text that is no string, a label that is a list or a mapping
    "broken_row": "drop",  # a row that its format cannot parse
    "unknown_label": "drop",  # not one of ``data.labels``
    "duplicate": "drop",  # the same text and label once more, after normalisation
    "conflicting_label": "drop",  # the same text with another label than most say; without a majority all of them
    "in_test": "drop",  # equals a row of any version of the test split: Ratchet never trains on its exam
}
