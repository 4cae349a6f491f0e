"""SQL is right when it has the effect of the reference: both run on the same tables, in memory, several times.

What a query returns, or the tables and indexes after a change, are compared (execution accuracy; Yu et al. 2018,
Spider), each time on other rows (Zhong et al. 2020, test suites). The rows hold the literals of the reference, and
values around them, so that its conditions tell rows apart.
"""

import itertools
import random
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from capstan.jobs.assistant.checkers.text import lines, pieces
from capstan.jobs.assistant.checkers.verdict import ABSENT, Verdict, right, wrong
from capstan.jobs.assistant.items import Item

_FILLINGS = 4
_ROWS = 40
_WORDS = re.findall(r"\w+", "Apple Birch Cedar Delta Ember Flint Grove Harbor Ivory Juniper Kestrel Lotus")
_STATEMENT = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WITH)\b.*", re.IGNORECASE | re.DOTALL)
_LITERAL = re.compile(r"'((?:[^']|'')*)'|(?<![\w.'])(-?\d+(?:\.\d+)?)(?![\w.])")
_UNIQUE = """
SELECT listed."unique" FROM sqlite_master AS made, pragma_index_list(made.tbl_name) AS listed
WHERE made.name = ? AND listed.name = made.name
"""
_STEPS = 200_000
"""Virtual machine steps after which a statement is stopped."""
_LARGEST = 1_000_000
"""Bytes of a value."""
_ALLOWED = frozenset(
    getattr(sqlite3, f"SQLITE_{name}")
    for name in re.findall(
        r"\w+",
        """SELECT READ INSERT UPDATE DELETE FUNCTION TRANSACTION RECURSIVE CREATE_INDEX DROP_INDEX ALTER_TABLE
        CREATE_TABLE DROP_TABLE REINDEX CREATE_VIEW""",
    )
)


def check(item: Item, answer: str) -> Verdict:
    """`item.check` is `{"table": name, "columns": {name: sort}, "schema": DDL, "statement": the reference}`."""
    found = statement(answer)
    if found is None:
        return wrong(ABSENT)
    about, wanted = item.check, item.check["statement"]
    try:
        same = all(effect(about, wanted, n) == effect(about, found, n) for n in range(_FILLINGS))
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError) as error:
        return wrong(_reason(str(error)))
    return right(exact=answer.strip() == item.reference) if same else wrong("another effect")


def shows(about: Mapping[str, Any]) -> bool:
    """Whether the reference returns something or changes something, so that a statement without effect is told from it.

    Raises `sqlite3.Error`.
    """
    done = [effect(about, about["statement"], n) for n in range(_FILLINGS)]
    if any(any(row) for returned, _ in done for row in returned):
        return True
    return any(after != effect(about, "SELECT 0", n)[1] for n, (_, after) in enumerate(done))


def statement(answer: str) -> str | None:
    """The first statement of an answer without its semicolon, or None."""
    matches = (_STATEMENT.search(" ".join(lines(piece))) for piece in pieces(answer))
    match = next((match for match in matches if match), None)
    return match.group().split(";")[0].strip() if match else None


def effect(about: Mapping[str, Any], sql: str, filling: int) -> Any:
    """What the statement returns, and what the database is like after it. Raises `sqlite3.Error`.

    The order of a query's rows counts only where the reference asks for one.
    """
    connection = _database(about, filling)
    try:
        returned = connection.execute(sql).fetchall()
        ordered = re.search(r"\bORDER BY\b", about["statement"], re.IGNORECASE) is not None
        return returned if ordered else sorted(returned, key=repr), _state(connection)
    finally:
        connection.close()


def _database(about: Mapping[str, Any], filling: int) -> sqlite3.Connection:
    """A database with the item's table, filled; nothing but that can be reached from it."""
    connection = sqlite3.connect(":memory:")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST)
    connection.execute(about["schema"])
    columns: Mapping[str, str] = about["columns"]
    marks = ", ".join("?" for _ in columns)
    rows = _rows(columns, about["statement"], filling)
    connection.executemany(f"INSERT INTO {about['table']} VALUES ({marks})", rows)  # noqa: S608
    connection.commit()
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
    ticks = itertools.count()
    connection.set_progress_handler(lambda: next(ticks) >= _STEPS // 1000, 1000)
    return connection


def _rows(columns: Mapping[str, str], sql: str, filling: int) -> list[tuple[Any, ...]]:
    """The same rows each time for the same columns and reference; none for a unique index, which could not be made."""
    if re.match(r"CREATE\b", sql, re.IGNORECASE):
        return []
    texts = [text.replace("''", "'") for text, _ in _LITERAL.findall(sql) if text]
    numbers = [float(number) for _, number in _LITERAL.findall(sql) if number]
    rng = random.Random(f"{filling}{sorted(columns)}{sql}")  # noqa: S311 (rows, not a secret)
    return [tuple(_value(sort, texts, numbers, rng) for sort in columns.values()) for _ in range(_ROWS)]


def _value(sort: str, texts: Sequence[str], numbers: Sequence[float], rng: random.Random) -> Any:
    if rng.random() < 0.08:
        return None
    if sort == "date":
        near = [text for text in texts if re.fullmatch(r"\d{4}-\d\d-\d\d", text)]
        return rng.choice([*near, f"20{rng.randint(10, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"])
    if sort == "text":
        ends = [text.strip("%") for text in texts]
        word = f"{rng.choice(_WORDS)}{rng.choice(('', rng.randint(0, 99)))}"
        return rng.choice([word, *ends, *(f"{end}{word}" for end in ends), *(f"{word}{end}" for end in ends)])
    value = rng.choice([*numbers, *numbers, float(rng.randint(0, 40))]) + rng.choice((-1, 0, 0, 0, 1))
    return int(value) if sort == "integer" else value + rng.choice((0, 0, 0.25))


def _state(connection: sqlite3.Connection) -> Any:
    """Tables with columns and rows, and indexes with what they are on."""
    connection.set_authorizer(None)
    connection.set_progress_handler(None, 0)
    names = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
    state: list[Any] = []
    for sort, name in connection.execute(names).fetchall():
        quoted = '"' + name.replace('"', '""') + '"'
        if sort == "index":
            columns = connection.execute("SELECT name, desc FROM pragma_index_xinfo(?) WHERE key", (name,)).fetchall()
            state.append((name.lower(), connection.execute(_UNIQUE, (name,)).fetchall(), columns))
        else:
            columns = connection.execute("SELECT name, lower(type) FROM pragma_table_info(?)", (name,)).fetchall()
            rows = connection.execute(f"SELECT * FROM {quoted}").fetchall()  # noqa: S608
            state.append((name.lower(), columns, sorted(rows, key=repr)))
    return state


def _reason(message: str) -> str:
    """SQLite's words as a phrase to count by."""
    if "no such column" in message or "has no column" in message:
        return "a column that does not exist"
    if "no such table" in message:
        return "a table that does not exist"
    return "no valid SQL"
