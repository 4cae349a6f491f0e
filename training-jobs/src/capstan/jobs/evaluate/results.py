"""Where results go: one JSON file, written section by section, and tables between markers in a report."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capstan.common.provenance import provenance
from capstan.jobs.evaluate.errors import EvaluateError


def write_section(path: Path, section: str, values: Mapping[str, Any], command: str | None = None) -> None:
    """Put `values` at the top of the file, with where they come from; what other sections wrote stays.

    Each section keeps its own provenance, as each can be run again alone. Raises `EvaluateError` if the file is not
    such a file, or if another section owns one of the keys.
    """
    report: dict[str, Any] = {"sections": {}}
    if path.is_file():
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            sections = report["sections"]
        except (ValueError, KeyError, TypeError):
            raise EvaluateError(f"{path} is not a file of results; move it away") from None
        for other, entry in sections.items():
            if other != section and (taken := set(entry["keys"]) & set(values)):
                raise EvaluateError(f"{path}: {sorted(taken)[0]} belongs to the section {other}, not to {section}")
        for key in sections.get(section, {"keys": []})["keys"]:
            report.pop(key, None)
    report["sections"][section] = {"keys": list(values), **provenance(command)}
    report.update(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_table(path: Path, name: str, markdown: str) -> None:
    """Put a table between `<!-- table:NAME -->` and `<!-- /table -->`; at the file's end if it has no such place."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    block = f"<!-- table:{name} -->\n{markdown.strip()}\n<!-- /table -->"
    place = re.compile(rf"<!-- table:{re.escape(name)} -->.*?<!-- /table -->", re.DOTALL)
    text, found = place.subn(lambda _: block, text, count=1)
    if not found:
        text = f"{text.rstrip()}\n\n{block}\n".lstrip()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
