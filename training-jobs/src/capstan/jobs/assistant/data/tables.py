"""Tables that the documentation of PostgreSQL and SQLite creates in its examples, with their plain columns."""

import logging
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from capstan.jobs.assistant.data.drafts import Document

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of each statement that is left out here
_FENCE = re.compile(r"```[^\n]*\n(.*?)\n```", re.DOTALL)
_CREATE = re.compile(
    r"CREATE (?:TEMP(?:ORARY)? )?TABLE (?:IF NOT EXISTS )?\w+\s*\(.*?\)\s*(?=;|\Z|\n\s*\n)", re.IGNORECASE | re.DOTALL
)
_NAME = re.compile(r"[a-z][a-z_]*[a-z]")
_NO_NAME = re.compile(r"^(?:test|foo|bar|baz|my|tab|tbl|tmp|temp|example|sqlite|pg|the|col|xy|abc|parent|child)", re.I)
_SORTS = {
    "text": ("text", "varchar", "char", "bpchar", "name", "nchar", "nvarchar"),
    "integer": ("int", "integer", "smallint", "bigint", "serial", "bigserial", "smallserial"),
    "real": ("real", "float", "double", "numeric", "decimal", "money"),
    "date": ("date",),
}
_SORT_OF = {name: sort for sort, names in _SORTS.items() for name in names}
_DIALECTS = {"postgresql": "postgres", "sqlite3": "sqlite"}
_MOST_COLUMNS = 7


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns in order with their sorts (text, integer, real, date), and where it is from."""

    name: str
    columns: Mapping[str, str]
    document: str

    @property
    def schema(self) -> str:
        """The table as it stands in a prompt, and as SQLite makes it."""
        return f"CREATE TABLE {self.name} ({', '.join(f'{name} {sort}' for name, sort in self.columns.items())})"


def tables(document: Document) -> Iterator[Table]:
    """Tables of a page that have a name, at least two columns of plain types, and names that are words."""
    dialect = next((d for start, d in _DIALECTS.items() if document["source"].startswith(start)), None)
    if dialect is None:
        return
    for section in document["sections"]:
        for fence in _FENCE.findall(section["text"]):
            for text in _CREATE.findall(fence):
                if table := _table(text, dialect, document["id"]):
                    yield table


def _table(text: str, dialect: str, document: str) -> Table | None:
    try:
        created = sqlglot.parse_one(text, read=dialect)
    except sqlglot.errors.SqlglotError:
        return None
    if not isinstance(created, exp.Create) or not isinstance(created.this, exp.Schema):
        return None
    name = created.this.this.name.lower()
    columns: dict[str, str] = {}
    for column in created.this.expressions:
        if isinstance(column, exp.ColumnDef) and column.kind and _NAME.fullmatch(column.name.lower()):
            sort = _SORT_OF.get(column.kind.sql(dialect).lower().partition("(")[0].split()[0])
            if sort:
                columns[column.name.lower()] = sort
    kept = dict(list(columns.items())[:_MOST_COLUMNS])
    if len(name) < 4 or not _NAME.fullmatch(name) or _NO_NAME.match(name) or not _says_something(kept):
        return None
    table = Table(name, kept, document)
    try:
        sqlite3.connect(":memory:").execute(table.schema)
    except sqlite3.Error:  # a name that is a word of the language
        return None
    return table


def _says_something(columns: Mapping[str, str]) -> bool:
    return len(columns) >= 2 and sum(map(len, columns)) >= 4 * len(columns) and not any(map(_NO_NAME.match, columns))
