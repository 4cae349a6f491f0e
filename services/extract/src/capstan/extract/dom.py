"""Questions that the HTML walk asks about a node."""

from collections.abc import Iterator

from selectolax.lexbor import LexborNode

from capstan.extract import text as normal

_NO_LANGUAGE = frozenset(["", "default", "none", "text", "notranslate", "literal", "plaintext"])
_LANGUAGES = {"python3": "python", "pycon3": "pycon", "shell": "sh", "bash": "sh", "shell-session": "console"}
_BULLETS = frozenset("•·‣◦–—")
_LONGEST_BOLD_HEADING = 160


def classes(node: LexborNode) -> set[str]:
    """The node's class names."""
    return set((node.attributes.get("class") or "").split())


def admonition_title(node: LexborNode) -> LexborNode | None:
    """The "Note" or "Warning" line of an admonition, as docutils, DocBook and AsciiDoc write it."""
    for child in node.css(".admonition-title, .title"):
        return child
    return None


def bold_only(node: LexborNode) -> str:
    """The text of a paragraph that is bold from end to end, such as "**To create a bucket**"; else ""."""
    children = [c for c in node.iter(include_text=True) if c.tag != "-text" or (c.text_content or "").strip()]
    if len(children) != 1 or children[0].tag not in ("strong", "b"):
        return ""
    text = normal.prose(children[0].text())
    return text if len(text) <= _LONGEST_BOLD_HEADING and not text.endswith(":") else ""


def term(node: LexborNode) -> str:
    """What a `dt` says, its lines with commas between; "" for a mere bullet, which is how roff writes lists."""
    breaks = node.css("br")
    for line_break in breaks:
        line_break.insert_before(", ")
    text = normal.prose(node.text()).rstrip(":").strip(", ") if breaks else normal.prose(node.text()).rstrip(":")
    return "" if text in _BULLETS else text


def entries(node: LexborNode) -> Iterator[LexborNode]:
    """The `dt` and `dd` of a definition list, also those grouped in `div`s."""
    for child in node.iter():
        if child.tag in ("dt", "dd"):
            yield child
        elif child.tag == "div":
            yield from entries(child)


def rows(node: LexborNode) -> Iterator[list[LexborNode]]:
    """The cells of a table's own rows, not those of tables inside it."""
    for child in node.iter():
        if child.tag == "tr":
            yield [cell for cell in child.iter() if cell.tag in ("td", "th")]
        elif child.tag in ("thead", "tbody", "tfoot"):
            yield from rows(child)


def object_name(signature: LexborNode) -> str:
    """What an API signature defines, such as "bisect.insort()" or "struct page"."""
    parts = [part.text() for part in signature.css(".descclassname, .descname")]
    name = normal.prose("".join(parts)) or normal.prose(signature.text())
    return f"{name}()" if signature.css_first(".sig-paren") is not None and not name.endswith(")") else name


def preformatted(node: LexborNode) -> str:
    """The text of a `pre`; a `br` that only repeats a line break counts as none."""
    parts: list[str] = []
    for child in node.traverse(include_text=True):
        if child.tag == "-text":
            text = child.text_content or ""
            if parts and parts[-1] == "" and text.startswith("\n"):
                text = text[1:]
            parts.append(text)
        elif child.tag == "br":
            parts.append("" if not parts or parts[-1].endswith("\n") else "\n")
    return "".join(parts)


def language(node: LexborNode) -> str:
    """The language that a code block's classes name (`language-c`, `highlight-python3`); "" if none does."""
    near: list[LexborNode | None] = [node.css_first("code"), node, node.parent]
    near.append(node.parent.parent if node.parent else None)
    for place in near:
        for name in sorted(classes(place)) if place is not None else ():
            kind, _, value = name.partition("-")
            if kind in ("language", "highlight") and value:
                value = _LANGUAGES.get(value, value)
                return "" if value in _NO_LANGUAGE else value
    return ""
