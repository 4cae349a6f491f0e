"""Rows on disk, by key: what was asked once is not asked again, and an interrupted run goes on where it stopped."""

import hashlib
import json
from pathlib import Path
from typing import Any


class Rows:
    """A file of JSON lines, each with a `key`. A torn last line, which a killed process leaves, is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self._read()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> dict[str, Any] | None:
        """The row of a key, the last one written."""
        return self._rows.get(key)

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Keep a row, in memory and on disk."""
        self._rows[key] = row
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, **row}, ensure_ascii=False, separators=(",", ":")) + "\n")

    def _read(self) -> None:
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            with self._path.open("r+b") as file:
                file.truncate(whole)
        for line in data[:whole].splitlines():
            row = json.loads(line)
            self._rows[row.pop("key")] = row


def key_of(*parts: Any) -> str:
    """A short, stable name for what the parts say together."""
    canonical = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]
