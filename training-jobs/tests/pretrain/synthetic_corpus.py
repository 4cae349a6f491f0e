"""Pages of made-up prose, and one page for each thing that a filter is to find."""

import json
import random
from pathlib import Path
from typing import Any

NOUNS = [f"{a}{b}" for a in ("queue", "lock", "page", "index", "mount", "token") for b in ("", "table", "list", "map")]
VERBS = ["reads", "writes", "closes", "opens", "checks", "copies", "splits", "joins", "sorts", "drops"]


def prose(rng: random.Random, sentences: int = 14) -> str:
    def one() -> str:
        a, b, c = (rng.choice(NOUNS) for _ in range(3))
        return f"The {a} {rng.choice(VERBS)} the {b} and then {rng.choice(VERBS)} it with care before the {c} is {b}ed."

    return " ".join(one() for _ in range(sentences))


def document(name: str, text: str, *more: tuple[str, str]) -> dict[str, Any]:
    sections = [{"heading": [heading], "text": body} for heading, body in (("Description", text), *more)]
    return {"id": name, "title": name, "source": "test", "license": "MIT", "sections": sections}


def corpus(tmp_path: Path) -> Path:
    rng = random.Random(4)
    pages = []
    for number in range(60):
        more = [(f"Part {part} of {number}", prose(rng, 4)) for part in "ABCDE"]
        pages.append(document(f"page-{number}", prose(rng), *more))
    copied = pages[7]["sections"]
    pages += [
        document("foreign", "Это описание очереди и таблицы страниц, которое никто не перевёл. " * 8),
        document("short", "See also the queue."),
        document("table", "| 1 | 2 | 3 | 4 | 5 | 6 |\n" * 40),
        document("repeats", "The lock is taken and then that lock is given back to it.\n" * 40),
        document("mail", f"Write to jane.doe@lists.example.net at 8.8.8.8. {prose(rng)}"),
        {**document("near", ""), "sections": [*copied, {"heading": ["Notes"], "text": "One word more."}]},
    ]
    path = tmp_path / "documents.jsonl"
    path.write_text("".join(json.dumps(page) + "\n" for page in pages))
    return path
