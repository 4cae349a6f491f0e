"""A page's title: what a reader of a citation needs to know where the passage is from."""

import re

from selectolax.lexbor import LexborNode

from capstan.extract import text as normal
from capstan.extract.page import Page
from capstan.extract.rules import PageRules

_NAME_LINE = re.compile(r"^\S.*?\s+(?:-|—|–|--)\s+(?P<what>\S.*)$")


def final(page: Page, rules: PageRules, name: str) -> str:
    """The title as the recipe wants it; `name` is the file's path without suffix."""
    if rules.title == "command":
        return normal.shortened(_command(rules.prefix, name))
    title = normal.prose(page.title)
    if rules.title == "man":
        title = _manual(page, name.rpartition("/")[2], title)
    if rules.prefix and rules.prefix.split()[0].casefold() not in title.casefold():
        title = f"{rules.prefix}: {title}"
    return normal.shortened(title)


def without_site(title: str) -> str:
    """Sphinx's <title> without the name of the whole documentation behind it."""
    page, _, site = title.rpartition(" — ")
    if page and site.casefold().endswith("documentation"):
        title = page
    return "" if title == "<no title>" else title


def own_heading(content: LexborNode, head_title: str) -> LexborNode | None:
    """The heading that is the page's title: the first, if no other has its rank or if <title> begins with it."""
    headings = content.css("h1, h2, h3, h4, h5, h6")
    ranks = [str(node.tag) for node in headings]
    if not ranks:
        return None
    text = normal.without_number(normal.prose(headings[0].text()))
    said = bool(text) and normal.without_number(head_title).startswith(text)
    return headings[0] if said or (ranks[0] == min(ranks) and ranks.count(ranks[0]) == 1) else None


def with_parent(title: str, parent: str, *, numbered: bool) -> str:
    """`Partial Indexes (Indexes)`: a title that may be vague, with the chapter's after it."""
    if numbered:
        title, parent = normal.without_number(title), normal.without_number(parent)
    return f"{title} ({parent})" if parent and parent.casefold() not in title.casefold() else title


def _manual(page: Page, name: str, title: str) -> str:
    """`open(2): open and possibly create a file`, out of the NAME section of open.2."""
    stem, dot, section = name.rpartition(".")
    own = f"{stem}({section})" if dot and section[:1].isdigit() else title.removesuffix(" Manual Page")
    for part in page.sections:
        if part.heading[-1:] == ("NAME",) and (
            match := _NAME_LINE.match(part.text.split("\n\n")[0].replace("\n", " "))
        ):
            return f"{own}: {match['what']}"
    return own


def _command(program: str, name: str) -> str:
    """`aws s3 cp: examples` for s3/cp, `aws configure get: description` for configure/get/_description."""
    *groups, last = name.split("/")
    command, _, topic = last[1:].rpartition("_") if last.startswith("_") else (last, "", "examples")
    return f"{' '.join(filter(None, [program, *groups, command]))}: {topic}"
