import json
from pathlib import Path

import pytest

from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.results import write_section, write_table


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path):
    path = tmp_path / "rag.json"
    write_section(path, "retrieval", {"arms": {"old": 1}, "questions": 1})
    write_section(path, "citations", {"citation_precision": 0.9})
    write_section(path, "retrieval", {"arms": {"new": 2}})
    report = json.loads(path.read_text())
    assert report["arms"] == {"new": 2}
    assert report["citation_precision"] == 0.9
    assert "questions" not in report
    assert {"command", "commit", "date", "machine", "keys"} <= set(report["sections"]["retrieval"])


def test_a_section_cannot_write_over_another(tmp_path: Path):
    path = tmp_path / "rag.json"
    write_section(path, "citations", {"citation_precision": 0.9})
    with pytest.raises(EvaluateError, match="belongs to the section citations"):
        write_section(path, "retrieval", {"citation_precision": 1.0})
    assert json.loads(path.read_text())["citation_precision"] == 0.9


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path):
    path = tmp_path / "rag.json"
    path.write_text("[]")
    with pytest.raises(EvaluateError, match="move it away"):
        write_section(path, "retrieval", {"arms": {}})
    assert path.read_text() == "[]"


def test_a_table_is_replaced_between_its_markers_only(tmp_path: Path):
    path = tmp_path / "rag.md"
    rest = "<!-- /table -->\nbetween\n<!-- table:b -->\nkept\n<!-- /table -->\nafter\n"
    path.write_text(f"before\n<!-- table:a -->\nold\n{rest}")
    write_table(path, "a", r"| new \1 |")
    assert path.read_text() == f"before\n<!-- table:a -->\n| new \\1 |\n{rest}"


def test_a_table_without_a_place_goes_to_the_end(tmp_path: Path):
    path = tmp_path / "rag.md"
    path.write_text("# Report\n")
    write_table(path, "a", "| new |")
    assert path.read_text() == "# Report\n\n<!-- table:a -->\n| new |\n<!-- /table -->\n"
