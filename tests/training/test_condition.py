"""A condition is asked of each row by itself, and can look at nothing else."""

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training import condition
from training.condition import Conditions
from training.contract import BadInput

ROWS = pyarrow.table(
    {"text": ["short", "a much longer text", None], "amount": ["12", "many", None], "Land kind": ["DE", "FR", "DE"]}
)


def holding(expression, rows=ROWS):
    with Conditions.about(rows) as conditions:
        return conditions.holds(expression).tolist()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("length(text) > 5", [False, True, False]),
        ("TEXT LIKE 'a%'", [False, True, False]),
        ("text IS NULL", [False, False, True]),
        ("try_cast(amount AS DOUBLE) > 3", [True, False, False]),
        ("\"Land kind\" IN ('DE', 'AT') -- neighbours", [True, False, True]),
        ("regexp_matches(text, 'long.*text') OR amount = '12'", [True, True, False]),
        ("CASE WHEN amount = '12' THEN true END", [True, False, False]),
        ("nullif(amount, '12') = 'many' AND split_part(text, ' ', 2) = 'much'", [False, True, False]),
        ("true", [True, True, True]),
    ],
)
def test_a_condition_holds_where_it_is_true(expression, expected):
    assert holding(expression) == expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "expected an SQL expression"),
        ("length(text", "expected an SQL expression"),
        ("true; DROP TABLE rows", "expected an SQL expression"),
        ("true) FROM rows; COPY rows TO 'x.csv' --", "expected an SQL expression"),
        ("text, amount", "expression"),
        ("length(text)", "true or false; this is of type BIGINT"),
        ("txt = 'a'", "no column 'txt'; did you mean 'text'? There are: text, amount, Land kind"),
        ("current_date > '2026-01-01'", "no column 'current_date'"),
        ("amount > 3", "try_cast(NAME AS DOUBLE) makes numbers of it"),
        ("CAST(amount AS INTEGER) > 3", "try_cast(NAME AS DOUBLE) makes numbers of it"),
        ("exists (SELECT * FROM read_csv('/etc/passwd'))", "about one row, without a query"),
        ("text IN (SELECT text FROM rows)", "about one row, without a query"),
        ("(SELECT count(*) FROM rows) > 1", "about one row, without a query"),
        ("row_number() OVER () > 1", "about one row, without a window"),
        ("count(*) > 1", "count_star() is no function whose value follows from one row alone"),
        ("max(length(text)) > 1", "max() is no function"),
        ("unnest([true, false])", "unnest() is no function"),
        ("random() > 0.5", "random() is no function"),
        ("NOW() > TIMESTAMP '2026-01-01'", "is no function"),
        ("ago(INTERVAL 1 DAY) > TIMESTAMP '2026-01-01'", "ago() is no function"),
        ("nextval('x') = 1", "nextval() is no function"),
        ("query('SELECT 1')", "query() is no function"),
        ("COLUMNS(*) = 'a'", "without *"),
        ("text = ?", "expression about one row"),
        ("text = $1", "expression about one row"),
    ],
)
def test_what_is_no_condition_about_one_row_is_refused_with_why(expression, message):
    with pytest.raises(BadInput) as refused:
        holding(expression)
    assert message in str(refused.value)


def test_no_file_and_no_variable_of_the_process_is_within_reach(tmp_path):
    secret = pyarrow.table({"text": ["secret"]})  # noqa: F841  # where DuckDB would look for a name that it does not know
    with Conditions.about(ROWS) as conditions:
        db = conditions._db
        for statement in (
            f"COPY rows TO '{tmp_path / 'x.csv'}'",
            "SELECT * FROM read_text('/etc/passwd')",
            "SELECT * FROM secret",
            "SET enable_external_access = true",
            "INSTALL httpfs",
            f"ATTACH '{tmp_path / 'x.db'}'",
        ):
            with pytest.raises(Exception, match=r"disabled|does not exist|locked|Cannot"):
                db.execute(statement)
    assert list(tmp_path.iterdir()) == []


def test_a_condition_that_takes_for_ever_is_ended(monkeypatch):
    monkeypatch.setattr(condition, "SECONDS", 0.1)
    rows = pyarrow.table({"text": ["a" * 100] * 1_000_000})
    with pytest.raises(BadInput, match=r"took longer than 0\.1 s"):
        holding("levenshtein(text, repeat('b', 100)) > 3", rows)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.none(), min_size=1))
def test_each_row_gets_its_own_answer(texts):
    rows = pyarrow.table({"text": pyarrow.array(texts, pyarrow.large_string())})
    assert holding("length(text) % 2 = 1", rows) == [text is not None and len(text) % 2 == 1 for text in texts]
