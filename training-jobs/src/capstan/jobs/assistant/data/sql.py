"""Questions about the tables of the documentation, each with the statement that answers it."""

# ruff: noqa: S608 (statements are what this writes)

import random
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from capstan.jobs.assistant.checkers.sql import shows
from capstan.jobs.assistant.data.drafts import Draft, Refused, dice, say
from capstan.jobs.assistant.data.tables import Table

T = TypeVar("T")

SYSTEM = "Answer with one SQL statement for SQLite alone, on one line."
_PER_TABLE = 28
_WORDS = re.findall(
    r"\w+",
    "Amsterdam Berlin Cairo Delhi Lima Oslo Quito red green blue small large open closed draft final Ada Grace",
)
_STARTS = ("A", "B", "Ca", "De", "Mar", "S", "Th")
_COMPARED = (
    ("=", ("{c} is {v}", "{c} equals {v}", "the {c} is {v}")),
    ("<>", ("{c} is not {v}", "{c} differs from {v}")),
    (">", ("{c} is greater than {v}", "{c} is more than {v}", "{c} is above {v}")),
    ("<", ("{c} is less than {v}", "{c} is below {v}")),
    (">=", ("{c} is at least {v}", "{c} is {v} or more")),
    ("<=", ("{c} is at most {v}", "{c} is {v} or less")),
)
_COMPARED_DATES = (
    ("=", ("{c} is {v}",)),
    (">", ("{c} is after {v}",)),
    ("<", ("{c} is before {v}",)),
    (">=", ("{c} is {v} or later", "{c} is on or after {v}")),
)

Pair = tuple[str, str]
"""Words, and the SQL for them."""


class Writer:
    """Writes questions about one table; each method gives an instruction and its statement."""

    def __init__(self, table: Table, rng: random.Random) -> None:
        self._table, self._rng = table, rng
        self._columns = list(table.columns)

    def one(self) -> Pair:
        """Any of them."""
        writers: tuple[Callable[[], Pair], ...] = (
            self.select,
            self.select,
            self.count,
            self.aggregate,
            self.group,
            self.distinct,
            self.insert,
            self.update,
            self.delete,
            self.index,
            self.alter,
        )
        return self._rng.choice(writers)()

    def select(self) -> Pair:
        """Columns of the rows that a condition holds for, sorted or not, all or the first."""
        chosen = self._some(1, 3)
        condition, where = self._where()
        words = self._pick(
            "Show {cols} of {t} where {w}", "List {cols} from {t} where {w}", "Get {cols} of the rows in {t} where {w}"
        )
        text = words.format(cols=_and([self._said(c) for c in chosen]), t=self._table.name, w=condition)
        sql = f"SELECT {', '.join(chosen)} FROM {self._table.name} WHERE {where}"
        if self._rng.random() < 0.5:
            by, down = self._column(), self._rng.random() < 0.4
            text += f", sorted by {self._said(by)}" + (" in descending order" if down else "")
            sql += f" ORDER BY {by}" + (" DESC" if down else "")
            if self._rng.random() < 0.4:
                count = self._rng.choice((1, 3, 5, 10))
                text += f", only the first {count}" if count > 1 else ", only the first row"
                sql += f" LIMIT {count}"
        return text, sql

    def count(self) -> Pair:
        """How many rows."""
        condition, where = self._where()
        words = self._pick(
            "How many rows of {t} have this: {w}", "Count the rows of {t} where {w}", "In {t}, count the rows where {w}"
        )
        return words.format(t=self._table.name, w=condition), f"SELECT count(*) FROM {self._table.name} WHERE {where}"

    def aggregate(self) -> Pair:
        """One number of a column, of all rows or of some."""
        column = self._of("integer", "real") or self._column()
        said, function = self._pick(("highest", "max"), ("lowest", "min"))
        if self._table.columns[column] in ("integer", "real"):
            said, function = self._pick((said, function), ("average", "avg"), ("sum of all", "sum"))
        text = self._pick("What is the {f} {c} in {t}", "Give the {f} {c} of {t}", "Find the {f} {c} in {t}")
        text = text.format(f=said, c=self._said(column), t=self._table.name)
        sql = f"SELECT {function}({column}) FROM {self._table.name}"
        if self._rng.random() < 0.4:
            condition, where = self._where()
            return f"{text}, counting only rows where {condition}", f"{sql} WHERE {where}"
        return text, sql

    def group(self) -> Pair:
        """A number for each value of a column."""
        by = self._of("text", "date") or self._column()
        number = self._of("integer", "real")
        if number is None or number == by or self._rng.random() < 0.5:
            text = self._pick("For each {c} of {t}, count the rows", "How many rows of {t} are there for each {c}")
            return text.format(c=self._said(by), t=self._table.name), self._grouped(by, "count(*)")
        said, function = self._pick(("average", "avg"), ("highest", "max"), ("lowest", "min"), ("total", "sum"))
        text = f"For each {self._said(by)} of {self._table.name}, give the {said} {self._said(number)}"
        return text, self._grouped(by, f"{function}({number})")

    def distinct(self) -> Pair:
        """The different values of a column."""
        column = self._column()
        words = self._pick(
            "List the different values of {c} in {t}",
            "Which different {c} values are in {t}",
            "Show each {c} of {t} once",
        )
        return words.format(
            c=self._said(column), t=self._table.name
        ), f"SELECT DISTINCT {column} FROM {self._table.name}"

    def insert(self) -> Pair:
        """A new row."""
        chosen = self._some(2, 4)
        values = [self._literal(column) for column in chosen]
        said = _and([f"{self._said(c)} {v}" for c, v in zip(chosen, values, strict=True)])
        words = self._pick("Add a row to {t} with {v}", "Insert a row into {t} with {v}", "Put a new row into {t}: {v}")
        sql = f"INSERT INTO {self._table.name} ({', '.join(chosen)}) VALUES ({', '.join(values)})"
        return words.format(t=self._table.name, v=said), sql

    def update(self) -> Pair:
        """A change of a column in some rows."""
        column = self._column()
        value = self._literal(column)
        condition, where = self._where()
        words = self._pick(
            "Set {c} to {v} in {t} where {w}",
            "Change {c} to {v} for the rows of {t} where {w}",
            "In {t}, set {c} to {v} where {w}",
        )
        text = words.format(c=self._said(column), v=value, t=self._table.name, w=condition)
        return text, f"UPDATE {self._table.name} SET {column} = {value} WHERE {where}"

    def delete(self) -> Pair:
        """Rows to remove."""
        condition, where = self._where()
        words = self._pick(
            "Delete the rows of {t} where {w}", "Remove from {t} all rows where {w}", "Delete from {t} where {w}"
        )
        return words.format(t=self._table.name, w=condition), f"DELETE FROM {self._table.name} WHERE {where}"

    def index(self) -> Pair:
        """An index on one or two columns."""
        chosen = self._some(1, 2)
        name = f"{self._table.name}_{chosen[0]}_idx"
        unique = self._rng.random() < 0.3
        words = self._pick("Create {a} {n} on {c} of {t}", "Make {a} {n} for {c} of {t}")
        a = "a unique index" if unique else "an index"
        text = words.format(a=a, n=name, c=_and([self._said(c) for c in chosen]), t=self._table.name)
        return text, f"CREATE {'UNIQUE ' if unique else ''}INDEX {name} ON {self._table.name} ({', '.join(chosen)})"

    def alter(self) -> Pair:
        """Another column, another name, or no table any more."""
        table, column = self._table.name, self._column()
        added = self._pick("note", "rating", "created_on", "status", "quantity")
        sort = {"rating": "real", "created_on": "date", "quantity": "integer"}.get(added, "text")
        renamed = f"{self._pick('old', 'main', 'first')}_{column}"
        return self._pick(
            (f"Add a column {added} of type {sort} to {table}", f"ALTER TABLE {table} ADD COLUMN {added} {sort}"),
            (
                f"Rename the column {column} of {table} to {renamed}",
                f"ALTER TABLE {table} RENAME COLUMN {column} TO {renamed}",
            ),
            (f"Rename the table {table} to old_{table}", f"ALTER TABLE {table} RENAME TO old_{table}"),
            (f"Remove the column {column} from {table}", f"ALTER TABLE {table} DROP COLUMN {column}"),
        )

    def _grouped(self, by: str, what: str) -> str:
        return f"SELECT {by}, {what} FROM {self._table.name} GROUP BY {by}"

    def _where(self) -> Pair:
        """One condition, or two."""
        one, other = self._rng.sample(self._columns, 2)
        first = self._condition(one)
        if self._rng.random() < 0.7:
            return first
        second = self._condition(other)
        word = self._pick("and", "and", "or")
        return f"{first[0]} {word} {second[0]}", f"{first[1]} {word.upper()} {second[1]}"

    def _condition(self, column: str) -> Pair:
        said, sort, chance = self._said(column), self._table.columns[column], self._rng.random()
        if chance < 0.1:
            return self._pick(
                (f"{said} is missing", f"{column} IS NULL"), (f"{said} is given", f"{column} IS NOT NULL")
            )
        if sort == "text" and chance < 0.3:
            start = self._pick(*_STARTS)
            return f"{said} starts with '{start}'", f"{column} LIKE '{start}%'"
        if chance < 0.25:
            low, high = sorted(
                (self._literal(column), self._literal(column)), key=lambda v: (float(v) if v[0].isdigit() else 0, v)
            )
            return f"{said} is between {low} and {high}", f"{column} BETWEEN {low} AND {high}"
        compared = _COMPARED_DATES if sort == "date" else _COMPARED[:2] if sort == "text" else _COMPARED
        sign, words = self._pick(*compared)
        value = self._literal(column)
        return self._pick(*words).format(c=said, v=value), f"{column} {sign} {value}"

    def _literal(self, column: str) -> str:
        """A value of the column's sort, as SQL writes it."""
        sort = self._table.columns[column]
        if sort == "text":
            return f"'{self._pick(*_WORDS)}'"
        if sort == "date":
            return f"'20{self._rng.randint(10, 24)}-{self._rng.randint(1, 12):02}-{self._rng.randint(1, 28):02}'"
        whole = self._rng.choice((1, 2, 3, 5, 7, 10, 12, 20, 25, 40, 50, 75, 100, 150, 200, 500, 1000))
        return f"{whole}.5" if sort == "real" and self._rng.random() < 0.3 else str(whole)

    def _said(self, column: str) -> str:
        """A column as it is written, or in words."""
        return column.replace("_", " ") if self._rng.random() < 0.4 else column

    def _column(self) -> str:
        return self._rng.choice(self._columns)

    def _of(self, *sorts: str) -> str | None:
        found = [column for column in self._columns if self._table.columns[column] in sorts]
        return self._rng.choice(found) if found else None

    def _some(self, least: int, most: int) -> list[str]:
        """Some columns, in the table's order."""
        count = self._rng.randint(min(least, len(self._columns)), min(most, len(self._columns)))
        return sorted(self._rng.sample(self._columns, count), key=self._columns.index)

    def _pick(self, *of: T) -> T:
        return self._rng.choice(of)


def drafts(table: Table, seed: int, refused: Refused) -> Iterator[Draft]:
    """Drafts about a table. Tables of one name are one family."""
    seen: set[str] = set()
    for number in range(_PER_TABLE):
        instruction, sql = Writer(table, dice(seed, table.schema, number)).one()
        check = {"table": table.name, "columns": dict(table.columns), "schema": table.schema, "statement": f"{sql};"}
        if sql in seen:
            continue
        seen.add(sql)
        if reason := _unfit(check):
            refused.add("sql", reason)
            continue
        end = "?" if instruction.startswith(("How", "What", "Which")) else "."
        messages = say(SYSTEM, f"{table.schema};\n{instruction}{end}")
        yield Draft("sql", f"sql:{table.document}:{table.name}", f"table {table.name}", messages, f"{sql};", check)


def _unfit(check: Mapping[str, Any]) -> str | None:
    try:
        return None if shows(check) else "the statement shows nothing on the rows"
    except sqlite3.Error:
        return "SQLite refuses the statement"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
