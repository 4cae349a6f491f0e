"""Figures on disk: JSON, complete or absent, and where it comes from."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capstan.common.provenance import provenance


def job_provenance() -> dict[str, Any]:
    """Where what is written comes from; absolute paths are another machine's business and cut to their names."""
    words = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    return provenance(" ".join(["python -m capstan.jobs.assistant", *words]))


def read_json(path: Path) -> Any:
    """What a file holds; None without the file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file, complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
