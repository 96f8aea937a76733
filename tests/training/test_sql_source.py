"""The answer to a query as a source: a real PostgreSQL server, and SQLite for what any database does."""

import sqlite3

import pytest
import sqlalchemy

from tests.servers import free_port, postgres_server
from training.contract import BadInput, IngestRequest, Reading
from training.ingest import ingest
from training.snapshot import open_snapshot, read_table
from training.sources import ReadFailed

ROWS = [(f"ticket number {i}", ["billing", "technical"][i % 2]) for i in range(300)]
QUERY = "SELECT body, topic FROM tickets WHERE closed = 1"


@pytest.fixture
def tickets(tmp_path, monkeypatch):
    file = tmp_path / "tickets.db"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE tickets (body TEXT, topic TEXT, closed INTEGER)")
        db.executemany("INSERT INTO tickets VALUES (?, ?, 1)", ROWS)
    monkeypatch.setenv("RATCHET_SQL_URI", f"sqlite:///{file}")
    yield db
    db.close()


def request(tmp_path, query=QUERY, watermark=None):
    reading = Reading(source="sql://helpdesk", query=query, text="body", label="topic")
    return IngestRequest(pipeline="tickets", store=str(tmp_path / "store"), reading=reading, watermark=watermark)


def rows_of(result):
    table = read_table(*open_snapshot(result.snapshot), "train", "validation", "test").to_pydict()
    return set(zip(table["text"], table["label"], strict=True))


def test_the_answer_becomes_a_snapshot_and_is_read_again_only_when_it_is_another(tickets, tmp_path):
    first = ingest(request(tmp_path))
    assert rows_of(first) == set(ROWS)
    again = ingest(request(tmp_path, watermark=first.watermark))
    assert (again.hit, again.objects["unchanged"]) == (True, 1)
    with tickets:
        tickets.execute("UPDATE tickets SET topic = 'billing' WHERE body = 'ticket number 1'")
        tickets.execute("INSERT INTO tickets VALUES ('one more', 'billing', 1), ('open still', 'billing', 0)")
    changed = ingest(request(tmp_path, watermark=first.watermark))
    assert changed.objects["changed"] == 1
    assert rows_of(changed) == {*ROWS, ("ticket number 1", "billing"), ("one more", "billing")} - {ROWS[1]}


def test_another_order_of_the_rows_is_the_same_answer(tickets, tmp_path):
    first = ingest(request(tmp_path))
    with tickets:
        tickets.execute("CREATE TABLE other AS SELECT * FROM tickets ORDER BY random()")
        tickets.execute("DROP TABLE tickets")
        tickets.execute("ALTER TABLE other RENAME TO tickets")
    assert ingest(request(tmp_path, watermark=first.watermark)).objects["unchanged"] == 1


def test_what_cannot_be_asked_says_why_and_shows_no_address(tickets, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"no column 'body'.*'subject'"):
        ingest(request(tmp_path, "SELECT body AS subject, topic FROM tickets"))
    monkeypatch.delenv("RATCHET_SQL_URI")
    with pytest.raises(BadInput, match="RATCHET_SQL_URI is not set"):
        ingest(request(tmp_path))
    monkeypatch.setenv("RATCHET_SQL_URI", "oracle://ratchet:hush-hush@db/orders")
    with pytest.raises(BadInput, match="no driver") as refused:
        ingest(request(tmp_path))
    assert "hush-hush" not in str(refused.value)


@pytest.fixture(scope="module")
def postgres():
    with postgres_server() as port:
        yield f"postgresql://ratchet:hush-hush@127.0.0.1:{port}/postgres"


def test_postgres_answers_and_a_query_it_refuses_or_a_server_that_is_away_is_told_apart(
    postgres, tmp_path, monkeypatch
):
    engine = sqlalchemy.create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as db:
        db.execute(sqlalchemy.text("CREATE TABLE tickets (body TEXT, topic TEXT, closed INTEGER)"))
        values = [{"body": body, "topic": topic} for body, topic in ROWS]
        db.execute(sqlalchemy.text("INSERT INTO tickets VALUES (:body, :topic, 1)"), values)
    engine.dispose()
    monkeypatch.setenv("RATCHET_SQL_URI", postgres)
    assert rows_of(ingest(request(tmp_path))) == set(ROWS)
    with pytest.raises(BadInput, match='column "subject" does not exist'):
        ingest(request(tmp_path, "SELECT subject FROM tickets"))
    monkeypatch.setenv("RATCHET_SQL_URI", f"postgresql://ratchet:hush-hush@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(ReadFailed, match="does not answer") as failed:
        ingest(request(tmp_path))
    assert "hush-hush" not in str(failed.value)
