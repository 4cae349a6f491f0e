"""Questions out of POD, Perl's documentation format (perlpod): `=head2` asks, what follows answers."""

import re
from collections.abc import Iterator

from capstan.extract import text as normal
from capstan.jobs.labels.entry import Entry, Link

_WIDE = re.compile(r"([A-Z])<<+\s(.*?)\s>>+", re.DOTALL)
_NARROW = re.compile(r"([A-Z])<([^<>]*)>")
_MANUAL = re.compile(r"(?<![\w>$:])([a-z_][\w-]*\([1-8]\))")  # flock(2), in text or in C<>
_ESCAPES = {"lt": "<", "gt": ">", "verbar": "|", "sol": "/"}
_HIDDEN = str.maketrans({"<": "\x02", ">": "\x03"})  # brackets of finished text, while codes around it are open
_SHOWN = str.maketrans({"\x02": "<", "\x03": ">"})


def pod_entries(source: str) -> Iterator[Entry]:
    """The questions of a page. A heading of level 1 ends the one before; deeper ones are part of the answer."""
    heading, blocks, links = "", list[str](), list[Link]()
    for block in re.split(r"\n\s*\n", source):
        command, _, rest = block.strip("\n").partition(" ")
        if command in ("=head1", "=head2"):
            if heading:
                yield Entry(heading, "\n\n".join(blocks), tuple(links))
            heading = inline(rest, []) if command == "=head2" else ""
            blocks, links = [], []
        elif heading and (text := _block(block.strip("\n"), links)):
            _append(blocks, text)
    if heading:
        yield Entry(heading, "\n\n".join(blocks), tuple(links))


def _append(blocks: list[str], text: str) -> None:
    """Add a block; code right after code goes into the same fence."""
    if blocks and text.startswith("```") and blocks[-1].endswith("\n```"):
        text = f"{blocks.pop().removesuffix('```')}\n{text.removeprefix('```').lstrip()}"
    blocks.append(text)


def _block(block: str, links: list[Link]) -> str:
    """One paragraph, item or piece of code as text; its links are added to `links`."""
    if block.startswith((" ", "\t")):
        return normal.fence(normal.code(block))
    if not block.startswith("="):
        return inline(block, links)
    command, _, rest = block.partition(" ")
    if command == "=item":
        return f"- {inline(rest.lstrip('*').strip(), links)}"
    return inline(rest, links) if command.startswith("=head") else ""


def inline(text: str, links: list[Link]) -> str:
    """Text without its formatting codes, from the innermost outwards; links are added to `links`."""

    def plain(match: re.Match[str]) -> str:
        code, inner = match[1], match[2]
        match code:
            case "L":
                return _link(inner.translate(_SHOWN), links).translate(_HIDDEN)
            case "E":
                return _ESCAPES.get(inner, "").translate(_HIDDEN)
            case "X" | "Z":
                return ""
        return inner.translate(_HIDDEN)

    before = ""
    while before != text:
        before = text
        text = _NARROW.sub(plain, _WIDE.sub(plain, text))
    text = normal.prose(text.translate(_SHOWN))
    links.extend(Link(name) for name in _MANUAL.findall(text))
    return text


def _link(inner: str, links: list[Link]) -> str:
    """What a reader sees of `L<text|name/"section">`."""
    if re.match(r"\w+:[^:\s]\S*$", inner) or "|http" in inner:
        return inner.partition("|")[0]
    shown, bar, target = inner.partition("|")
    name, _, place = (target if bar else inner).partition("/")
    place = place.strip('"')
    if name:
        links.append(Link(name.strip(), place))
    return shown if bar else (f'"{place}" in {name}' if place and name else place or name)
