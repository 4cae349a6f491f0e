"""Every measured figure in README.md and docs/ is in a committed result file.

A *block* is a paragraph, a table, or a generated area between markers. One that links to result files (`*.json`) is
held to them: each number with a unit of performance must be a value of theirs, each other one with decimals (scores,
ratios) a value of some result that the document links to. Values are rounded as they are shown, perhaps in another
unit (a part as percent, seconds as milliseconds, bytes as MB). A figure with a unit that only measurements have may not
stand in a block without a link. Goals say that they are (`goal`, `SLO`, `brief`), settings and commands are code.
Decisions are exempt: they report probes of their time.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]

_MEASURED = r"ms|µs|tok/s|tokens/s|requests/s|chunks/s"
_UNITS = rf"{_MEASURED}|s|min|MB|%|×"
_NUMBER = r"(?<![\w.,/^-])[-+−]?(\d[\d,]*(?:\.\d+)?)"
_FIGURE = re.compile(rf"{_NUMBER}(?:\*\*)?\s?(?:{_UNITS})(?![\w/])")
_DECIMAL = re.compile(rf"(?={_NUMBER})[-+−]?\d[\d,]*\.\d+(?!\d)(?!(?:\*\*)?\s?(?:{_UNITS})(?![\w/]))")
_ALONE = re.compile(rf"{_NUMBER}(?:\*\*)?\s?(?:{_MEASURED})(?![\w/])")
_NOT_MEASURED = re.compile(r"`[^`]*`|\]\([^)]*\)|\b(?:goal|SLO|brief)s?\b[^|;,)]*")
_AREA = re.compile(r"<!-- (?:table:|figures: )\S+ -->.*?<!-- (?:/table|end of figures: \S+) -->", re.DOTALL)
_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+\.json)\)")
_SCALES = (1, 100, 1000, 1 / 1000, 1 / 60, 1e-6)


def blocks(text: str) -> Iterator[str]:
    """The document's blocks; code is left out, so is what has no text."""
    text = _CODE.sub("", text)
    yield from _AREA.findall(text)
    yield from (block for block in re.split(r"\n\s*\n", _AREA.sub("\n\n", text)) if block.strip())


def figures(block: str, pattern: re.Pattern[str]) -> list[str]:
    """The numbers of a block's figures as they are shown."""
    return [found.replace(",", "") for found in pattern.findall(_NOT_MEASURED.sub(" ", block))]


def values(found: Any) -> Iterator[float]:
    """Every number of a result file, those in its texts (commands, notes) included, and lengths of its lists."""
    if isinstance(found, bool) or found is None:
        return
    if isinstance(found, int | float):
        yield float(found)
    elif isinstance(found, str):
        yield from (float(number) for number in re.findall(r"\d+(?:\.\d+)?", found))
    else:
        yield float(len(found))
        for item in found.values() if isinstance(found, dict) else found:
            yield from values(item)


def is_in(shown: str, numbers: list[float]) -> bool:
    """Whether a figure is one of the numbers, rounded to its own decimals, in whatever unit."""
    decimals = len(shown.partition(".")[2])
    half = 0.5 * 10**-decimals * (1 + 1e-9)
    return any(
        math.isclose(abs(n) * scale, float(shown), rel_tol=1e-9, abs_tol=half) for n in numbers for scale in _SCALES
    )


def problems(document: Path) -> Iterator[str]:
    """Figures of a document that are in no result."""
    text = document.read_text()
    everywhere = [document.parent / link for link in dict.fromkeys(_LINK.findall(text))]
    if missing := [source.name for source in everywhere if not source.exists()]:
        yield f"there is no {', '.join(missing)}"
        return
    any_of_them = numbers_of(everywhere)
    for block in blocks(text):
        sources = [document.parent / link for link in _LINK.findall(block)]
        if not sources:
            yield from (f"{shown} has no link to a result: {block.strip()[:80]!r}" for shown in figures(block, _ALONE))
            continue
        own, names = numbers_of(sources), ", ".join(source.name for source in sources)
        yield from (f"{shown} is not in {names}" for shown in figures(block, _FIGURE) if not is_in(shown, own))
        decimals = figures(block, _DECIMAL)
        yield from (f"{shown} is in no result of this page" for shown in decimals if not is_in(shown, any_of_them))


def numbers_of(sources: list[Path]) -> list[float]:
    """Every number of some result files."""
    return [number for source in sources for number in values(json.loads(source.read_text()))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_figure_is_in_a_committed_result(document: Path) -> None:
    assert list(problems(document)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("It does 512 tok/s.", "no link"),
        ("| p50 | 14.2 ms |\n| p99 | 15.3 ms | [result](r.json) |", "15.3 is not in r.json"),
        ("<!-- table:x -->\n[result](r.json)\n\n| 12.51 |\n<!-- /table -->", "12.51 is in no result"),
        ("Saves 58 %, see [result](r.json).", "58 is not in r.json"),
    ],
)
def test_a_figure_without_a_source_is_found(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"p50_ms": 14.2, "reduction": 0.571}))
    (tmp_path / "page.md").write_text(text)
    assert [said in problem for problem in problems(tmp_path / "page.md")] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "Saves 57 % and takes 14.2 ms (0.0142 s), 14 ms or so: [result](r.json).",
        "Goal: the goal is 500 ms at most.",
        "`--slo-ttft-ms 500`, and\n\n```\nwait 20 ms\n```\n",
        "Between 3 and 5 workers, version 1.80.0, of 100 requests.",
    ],
)
def test_what_is_sourced_or_not_measured_passes(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"p50_ms": 14.2, "reduction": 0.571}))
    (tmp_path / "page.md").write_text(text)
    assert list(problems(tmp_path / "page.md")) == []
