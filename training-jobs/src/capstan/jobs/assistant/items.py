"""Items: an instruction, the answer to learn, and what a checker needs to judge another answer. One a line."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from capstan.jobs.assistant.errors import AssistantError

Kind = Literal["aws", "option", "git", "sql", "grounded"]
KINDS: tuple[Kind, ...] = ("aws", "option", "git", "sql", "grounded")
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Item:
    """One instruction. `source` is the command or page that it was made of: no source is in two splits.

    `messages` end with the user's; `check` is JSON, and its keys are the kind's own (see `checkers`).
    """

    id: str
    kind: Kind
    source: str
    messages: tuple[dict[str, str], ...]
    reference: str
    check: dict[str, Any]

    @property
    def prompt(self) -> str:
        """What the user says."""
        return self.messages[-1]["content"]

    def line(self) -> str:
        """The item as a line of JSON."""
        return json.dumps({**asdict(self), "messages": list(self.messages)}, ensure_ascii=False) + "\n"


def read_items(path: Path) -> list[Item]:
    """The items of a file. Raises `AssistantError` that names what is wrong."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return [Item(**{**row, "messages": tuple(row["messages"])}) for row in rows]
    except OSError as error:
        raise AssistantError(f"{path} cannot be read ({error.strerror}); run the data command first") from None
    except (ValueError, TypeError, KeyError) as error:
        raise AssistantError(f"{path} holds no items ({error}); remove it and run the data command again") from None


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write the items to a file."""
    with path.open("w", encoding="utf-8") as lines:
        lines.writelines(item.line() for item in items)
