"""Cuts a model's stream into sentences and takes its citation markers out of the text.

What is a sentence depends on the whole text only, never on where the stream was cut: a sentence is handed out when
nothing that may still come can change it. A code block is one sentence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from capstan.generator.defuse import visible
from capstan.generator.text import end_of_sentence

MARKER = re.compile(r"[ \t]*(?<!\w)\[ ?(\d{1,3}(?: ?[,;] ?\d{1,3}){0,7}) ?\](?:\([^()\s]*\))?")
"""`[1]`, `[1, 2]`, `[1](url)`; not the index in `argv[1]`."""
_ATTACHED = re.compile(r"(?<=[A-Za-z])\[(\d{1,3})\]")
_BEHIND = re.compile(rf"(?:{MARKER.pattern})+")
_UNDECIDED = re.compile(r"(?:[ \t]*(?:\[[ \d,;]*)?|\([^()\s]*)\Z")
_OPEN_MARKER = re.compile(r"(?:^|(?<=\W))[ \t]*\[[ \d,;]*\Z")
_FENCE = "```"
_FENCE_START = re.compile(r"```[^`\n]*(?:\n|\Z)")
_FENCE_END = re.compile(r"\n[ \t]*```[^\n]*(?:\n|$)")
_CODE_SPAN = re.compile(r"(`[^`\n]+`)")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence or a code block of the model's, without markers. `gap` is the white space before it.

    `named` are the passages that its markers name, whether they exist or not.
    """

    text: str
    gap: str
    named: tuple[int, ...]
    is_code: bool = False


class Splitter:
    """Text in pieces in, sentences out."""

    def __init__(self, passages: int) -> None:
        self._passages = passages
        self._buffer = ""
        self._done = False

    def feed(self, piece: str) -> Iterator[Sentence]:
        """The sentences that are complete with this piece."""
        self._buffer += visible(piece)
        return self._complete()

    def finish(self) -> Iterator[Sentence]:
        """The stream has ended: what is left."""
        self._done = True
        return self._complete()

    def _complete(self) -> Iterator[Sentence]:
        while (end := self._end()) is not None:
            raw, self._buffer = self._buffer[:end], self._buffer[end:]
            body = raw.lstrip()
            gap = raw[: len(raw) - len(body)]
            if not body:
                return
            if _FENCE_START.match(body):
                yield self._block(body, gap)
            else:
                line = body.rstrip()
                self._buffer = body[len(line) :] + self._buffer
                text, named = take_markers(line, self._passages)
                if self._done and not self._buffer.strip():
                    text = _OPEN_MARKER.sub("", text)
                yield Sentence(text, gap, named)

    def _end(self) -> int | None:
        """Where the first sentence of the buffer ends, or None while that is open."""
        body = self._buffer.lstrip()
        start = len(self._buffer) - len(body)
        if not body:
            return None
        end = self._end_of_block(body) if _FENCE_START.match(body) else end_of_sentence(body)
        if end is None:
            return len(self._buffer) if self._done else None
        end += start
        behind = _BEHIND.match(self._buffer, end)
        after = behind.end() if behind else end
        if not self._done and _UNDECIDED.match(self._buffer, after):
            return None
        return after

    def _end_of_block(self, body: str) -> int | None:
        """The end of the closing fence's line; open until that line's end has been seen."""
        match = _FENCE_END.search(body)
        return match.end() if match and (match.group().endswith("\n") or self._done) else None

    def _block(self, body: str, gap: str) -> Sentence:
        closing = _FENCE_END.search(body)
        code = body[: closing.start()] if closing else body
        first, *lines = code.split("\n")
        language = re.match(r"[\w+-]*", first.strip("` ")).group()  # type: ignore[union-attr]
        rest = body[closing.end() :] if closing else ""
        _, named = take_markers(rest, self._passages)
        kept = [line.rstrip() for line in lines if _FENCE not in line]
        text = "\n".join([_FENCE + language, *kept, _FENCE]) if any(kept) else ""
        return Sentence(text, gap, named, is_code=True)


def take_markers(text: str, passages: int) -> tuple[str, tuple[int, ...]]:
    """The text without markers, and the numbers that they name. Code spans stay as they are."""
    named: list[int] = []

    def take(match: re.Match[str]) -> str:
        named.extend(int(number) for number in re.findall(r"\d+", match.group(1)))
        return ""

    def take_attached(match: re.Match[str]) -> str:
        return take(match) if 1 <= int(match.group(1)) <= passages else match.group()

    parts = _CODE_SPAN.split(text)
    for i in range(0, len(parts), 2):
        before = None
        while parts[i] != before:  # taking one may make another: [[1]2]
            before = parts[i]
            parts[i] = MARKER.sub(take, _ATTACHED.sub(take_attached, parts[i]))
    return "".join(parts).strip(), tuple(dict.fromkeys(named))
