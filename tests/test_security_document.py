"""docs/security.md names a control and a test for each risk of the two lists, and the tests exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT

DOCUMENT = ROOT / "docs/security.md"
_ROW = re.compile(r"^\| (?P<id>(?:LLM|API)\d+) (?P<cells>.*) \|$", re.MULTILINE)
_TEST = re.compile(r"\[`(?P<file>test_\w+\.py)::(?P<test>\w+)`\]\((?P<link>[^)]+)\)")
ROWS = {row["id"]: row["cells"] for row in _ROW.finditer(DOCUMENT.read_text())}


def test_every_risk_of_both_lists_has_a_row() -> None:
    assert list(ROWS) == [f"LLM{n:02}" for n in range(1, 11)] + [f"API{n}" for n in range(1, 11)]


@pytest.mark.parametrize("risk", ROWS)
def test_a_risk_has_a_control_and_tests_that_exist(risk: str) -> None:
    name, what, control, shown = (cell.strip() for cell in re.split(r"(?<!\\)\|", ROWS[risk]))
    assert all((name, what, control))
    assert _TEST.search(shown)
    assert _TEST.sub("", shown).strip(", ") == "", "each test is `file.py::name`, linked"
    assert list(missing(shown, DOCUMENT.parent)) == []


def missing(text: str, folder: Path) -> Iterator[str]:
    """The tests that a text names and that are not there."""
    for found in _TEST.finditer(text):
        path = (folder / found["link"]).resolve()
        if path.name != found["file"] or not path.is_file() or found["test"] not in functions(path):
            yield f"{found['link']}::{found['test']}"


def functions(path: Path) -> set[str]:
    """The test functions of a file; not those inside others, which pytest does not run."""
    body = ast.parse(path.read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(
    ("named", "there"),
    [
        ("[`test_it.py::test_one`](test_it.py)", True),
        ("[`test_it.py::test_two`](test_it.py)", True),
        ("[`test_it.py::test_inside`](test_it.py)", False),
        ("[`test_it.py::test_none`](test_it.py)", False),
        ("[`test_none.py::test_one`](test_none.py)", False),
        ("[`test_none.py::test_one`](test_it.py)", False),
    ],
)
def test_a_test_that_is_not_there_is_found(tmp_path: Path, named: str, there: bool) -> None:
    code = "def test_one():\n    def test_inside(): ...\nasync def test_two(): ...\n"
    (tmp_path / "test_it.py").write_text(code)
    assert (list(missing(named, tmp_path)) == []) is there
