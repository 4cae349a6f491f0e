"""Questions out of HTML pages: as sections (Sphinx), as definition lists (AsciiDoc) or numbered (SQLite)."""

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from capstan.extract import dom
from capstan.extract import text as normal
from capstan.extract.markup import extract_html
from capstan.extract.rules import PageRules
from capstan.jobs.labels.entry import Entry, Link
from capstan.jobs.labels.recipe import Layout

_HEADINGS = "h1, h2, h3, h4, h5, h6"
_NUMBERED = re.compile(r"^\(\d+\)\s*")


def html_entries(source: str, layout: Layout, content: str) -> Iterator[Entry]:
    """The questions of a page, in its order."""
    tree = LexborHTMLParser(source)
    for node in tree.css("a.headerlink, nav, script, style"):
        node.decompose()
    main = next((found for part in content.split(",") if (found := tree.css_first(part.strip()))), None)
    if main is None:
        return
    find = {"sections": _sections, "definitions": _definitions, "numbered": _numbered}[layout]
    for heading, answer in find(main):
        links = tuple(_link(a.attributes.get("href") or "") for a in answer.css("a[href]"))
        sections = extract_html(f"<body><p></p>{answer.html}</body>", PageRules(content="body"), "").sections
        yield Entry(heading, "\n\n".join(part.text for part in sections), links)


def place_heading(source: str, place: str) -> str:
    """The heading of the section that an anchor stands for, or the name of the thing it defines; "" if neither."""
    tree = LexborHTMLParser(source)
    for mark in tree.css("a.headerlink"):
        mark.decompose()
    node = next(
        (n for n in tree.css("[id], a[name]") if place in (n.attributes.get("id"), n.attributes.get("name"))), None
    )
    if node is None:
        return ""
    if node.tag == "dt":
        return dom.object_name(node)
    found = node if node.tag in _HEADINGS.split(", ") else node.css_first(_HEADINGS) or _following(node)
    return normal.without_number(normal.prose(found.text())) if found is not None else ""


def _following(node: LexborNode) -> LexborNode | None:
    """The heading right after an empty anchor."""
    after: LexborNode | None = node.next
    while after is not None and (after.tag == "-text" or not after.text(strip=True)):
        after = after.next
    return after if after is not None and after.tag in _HEADINGS.split(", ") else None


def _link(href: str) -> Link:
    target, _, place = href.partition("#")
    return Link(target, place)


def _sections(main: LexborNode) -> Iterator[tuple[str, LexborNode]]:
    for section in main.css("section"):
        heading = section.css_first(_HEADINGS)
        if heading is None or heading.tag == "h1" or len(section.css("section")) > 1:
            continue
        question = normal.without_number(normal.prose(heading.text()))
        heading.decompose()
        yield question, section


def _definitions(main: LexborNode) -> Iterator[tuple[str, LexborNode]]:
    for term in main.css(".dlist > dl > dt"):
        answer: LexborNode | None = term.next
        while answer is not None and answer.tag != "dd":
            answer = answer.next
        if answer is not None:
            yield normal.prose(term.text()), answer


def _numbered(main: LexborNode) -> Iterator[tuple[str, LexborNode]]:
    for bold in main.css("p > b"):
        question = normal.prose(bold.text())
        answer: LexborNode | None = bold.parent.next if bold.parent is not None else None
        while answer is not None and answer.tag != "blockquote":
            answer = answer.next
        if _NUMBERED.match(question) and answer is not None:
            yield _NUMBERED.sub("", question), answer
