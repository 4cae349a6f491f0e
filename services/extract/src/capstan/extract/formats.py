"""One file of any supported format to a `Page`."""

import codecs
import re
from functools import cache
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from mdit_py_plugins.front_matter import front_matter_plugin

from capstan.extract import text as normal
from capstan.extract import titles
from capstan.extract.errors import BrokenDocument
from capstan.extract.man import man_to_html
from capstan.extract.markup import extract_html
from capstan.extract.page import Page, PageBuilder
from capstan.extract.pdf import extract_pdf
from capstan.extract.rst import rst_to_html
from capstan.extract.rules import Format, PageRules

_INDENTED = re.compile(r"^( {4}|\t)")
_LISTED = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s")
_CHARSET = re.compile(rb"charset=[\"']?([\w-]+)", re.IGNORECASE)


def extract(path: Path, kind: Format, rules: PageRules, name: str, mandoc: Path | None = None) -> Page:
    """Read one file. `name` is its path without suffix, the title of last resort. Raises `BrokenDocument`."""
    last = name.rpartition("/")[2]
    match kind:
        case "pdf":
            page = extract_pdf(path, last)
        case "txt":
            page = _plain(read_text(path), last)
        case "man":
            page = extract_html(man_to_html(path, mandoc), rules, last)
        case "md":
            page = _marked_down(read_text(path), rules, last)
        case "rst":
            page = extract_html(rst_to_html(read_text(path)), rules, last)
        case "html":
            page = extract_html(read_text(path), rules, last)
    page.title = titles.final(page, rules, name)
    return page


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, in UTF-16 with a mark, in the encoding it declares, or in Windows-1252."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        raise BrokenDocument("binary data, not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        declared = _CHARSET.search(data[:1024])
    try:
        return data.decode(declared[1].decode() if declared else "cp1252", errors="replace")
    except LookupError:
        return data.decode("cp1252", errors="replace")


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).use(front_matter_plugin)


def _marked_down(source: str, rules: PageRules, name: str) -> Page:
    """Markdown; a title in the front matter stands in for a missing heading."""
    tokens = _markdown().parse(source)
    if tokens and tokens[0].type == "front_matter":
        try:
            matter = yaml.safe_load(tokens[0].content)
        except yaml.YAMLError:
            matter = None
        if isinstance(matter, dict) and matter.get("title"):
            name = str(matter["title"])
    return extract_html(_markdown().renderer.render(tokens, _markdown().options, {}), rules, name)


def _plain(source: str, name: str) -> Page:
    """Paragraphs at blank lines; an indented one is code. The first line is the title if it stands alone."""
    builder = PageBuilder()
    blocks = [block for block in re.split(r"\n(?:[ \t]*\n)+", normal.clean(source)) if block.strip()]
    title = name
    if len(blocks) > 1 and "\n" not in blocks[0].strip() and len(blocks[0].strip()) <= 120:
        title = normal.prose(blocks.pop(0))
    for block in blocks:
        rows = block.strip("\n").split("\n")
        if all(_INDENTED.match(row) for row in rows):
            builder.code(block)
        elif any(_LISTED.match(row) for row in rows):
            builder.paragraph(block)
        else:
            builder.paragraph(normal.prose(block))
    return Page(title, builder.sections())
