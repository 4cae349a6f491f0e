"""SQL passes when it has the effect of the reference, and cannot do anything else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.jobs.assistant.checkers import check
from capstan.jobs.assistant.checkers.sql import shows
from capstan.jobs.assistant.items import Item

COLUMNS = {"title": "text", "made": "date", "length": "integer", "price": "real"}
SCHEMA = "CREATE TABLE films (title text, made date, length integer, price real)"


def item(statement: str) -> Item:
    about = {"table": "films", "columns": COLUMNS, "schema": SCHEMA, "statement": statement}
    return Item("1", "sql", "page", ({"role": "user", "content": "…"},), statement, about)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("SELECT title FROM films WHERE length > 90;", "select title from films where 90 < length"),
        (
            "SELECT title FROM films WHERE length > 90;",
            "```sql\nSELECT films.title\nFROM films\nWHERE length >= 91;\n```",
        ),
        (
            "SELECT title FROM films WHERE length > 90;",
            "SELECT title FROM films WHERE length > 90; It lists the titles.",
        ),
        (
            "SELECT title FROM films WHERE length > 90;",
            "Use `SELECT title FROM films WHERE length > 90` to select them.",
        ),
        ("SELECT max(price) FROM films;", "SELECT price FROM films ORDER BY price DESC LIMIT 1;"),
        ("DELETE FROM films WHERE title = 'Oslo';", "DELETE FROM films WHERE \"title\" = 'Oslo'"),
        ("UPDATE films SET length = 5 WHERE price < 10;", "UPDATE films SET length = 5 WHERE NOT price >= 10;"),
        ("INSERT INTO films (title, length) VALUES ('a', 1);", "INSERT INTO films (length, title) VALUES (1, 'a');"),
        ("CREATE INDEX films_title_idx ON films (title);", "create index films_title_idx on films(title)"),
        ("ALTER TABLE films RENAME TO old_films;", "ALTER TABLE films RENAME TO old_films"),
    ],
)
def test_the_same_effect_passes(reference: str, answer: str) -> None:
    assert check(item(reference), reference).exact
    verdict = check(item(reference), answer)
    assert (verdict.passed, verdict.exact, verdict.reason) == (True, False, "right")


@pytest.mark.parametrize(
    ("reference", "answer", "reason"),
    [
        ("SELECT title FROM films WHERE length > 90;", "No.", "no answer of the kind that was asked for"),
        ("SELECT title FROM films WHERE length > 90;", "SELECT title FROM films WHERE length >= 90;", "another effect"),
        (
            "SELECT title FROM films WHERE length > 90;",
            "SELECT title, price FROM films WHERE length > 90;",
            "another effect",
        ),
        (
            "SELECT title FROM films WHERE title = 'a' AND length = 1;",
            "SELECT title FROM films WHERE title = 'a';",
            "another effect",
        ),
        ("SELECT title FROM films ORDER BY title;", "SELECT title FROM films ORDER BY title DESC;", "another effect"),
        ("SELECT name FROM films;", "SELECT names FROM films;", "a column that does not exist"),
        ("SELECT title FROM films;", "SELECT title FROM movies;", "a table that does not exist"),
        ("SELECT title FROM films;", "SELECT FROM WHERE;", "no valid SQL"),
        (
            "CREATE INDEX films_title_idx ON films (title);",
            "CREATE UNIQUE INDEX films_title_idx ON films (length);",
            "another effect",
        ),
        ("ALTER TABLE films ADD COLUMN note text;", "ALTER TABLE films ADD COLUMN note integer;", "another effect"),
        ("DELETE FROM films WHERE length > 3;", "DELETE FROM films;", "another effect"),
    ],
)
def test_another_effect_fails_with_its_reason(reference: str, answer: str, reason: str) -> None:
    reference = reference.replace("name FROM", "title FROM")
    verdict = check(item(reference), answer)
    assert (verdict.passed, verdict.exact, verdict.reason) == (False, False, reason)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT title FROM films WHERE length > 90;", True),
        ("SELECT count(*) FROM films WHERE title = 'Oslo';", True),
        ("DELETE FROM films WHERE title = 'Oslo';", True),
        ("CREATE INDEX films_title_idx ON films (title);", True),
        ("SELECT title FROM films WHERE length < 90 AND length > 90;", False),
        ("SELECT count(*) FROM films WHERE length < 90 AND length > 90;", False),
        ("SELECT max(price) FROM films WHERE length < 90 AND length > 90;", False),
        ("UPDATE films SET length = 5 WHERE length < 90 AND length > 90;", False),
    ],
)
def test_a_reference_without_effect_is_known(statement: str, told: bool) -> None:
    assert shows(item(statement).check) is told


def test_a_reference_that_cannot_run_does_not_pass() -> None:
    broken = "SELECT name FROM films;"
    assert check(item(broken), broken).reason == "a column that does not exist"


@pytest.mark.parametrize(
    "answer",
    [
        "SELECT 1 FROM films; ATTACH '/tmp/x.db' AS x",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;",
        "SELECT hex(zeroblob(900000000)) FROM films;",
        "SELECT load_extension('x') FROM films;",
        "CREATE TABLE x AS SELECT * FROM pragma_database_list;",
    ],
)
def test_a_statement_cannot_reach_out_or_run_on(answer: str) -> None:
    assert not check(item("SELECT title FROM films;"), answer).passed


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_no_answer_breaks_the_checker(text: str) -> None:
    for answer in (text, f"SELECT {text}", f"SELECT title FROM films WHERE {text}", f"INSERT INTO films {text}"):
        check(item("SELECT title FROM films;"), answer)
