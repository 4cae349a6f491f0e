"""Finds what was asked for in what a model wrote."""

import re

_FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_PROMPT = re.compile(r"^(?:[$>#]\s+|`+)|`+$")
_CONTINUED = re.compile(r"\\[ \t]*\n\s*")


def pieces(answer: str) -> list[str]:
    """Where to look, in this order: code blocks, code spans, and the text itself; continued lines are joined."""
    joined = _CONTINUED.sub(" ", answer)
    prose = _FENCE.sub("", joined)
    return [*_FENCE.findall(joined), *_SPAN.findall(prose), prose]


def lines(piece: str) -> list[str]:
    """The lines of a piece without prompts, ticks and white space around them; none is empty."""
    plain = (_PROMPT.sub("", line.strip()).strip() for line in piece.split("\n"))
    return [line for line in plain if line]


def command(answer: str, program: str) -> str | None:
    """The first line that begins with `program`, or None."""
    found = (line for piece in pieces(answer) for line in lines(piece))
    return next((line for line in found if line == program or line.startswith(f"{program} ")), None)
