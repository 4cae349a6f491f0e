"""HTML to structured text: one walk over the tree that lexbor, a maintained HTML5 parser, builds."""

from selectolax.lexbor import LexborHTMLParser, LexborNode

from capstan.extract import dom, titles
from capstan.extract import text as normal
from capstan.extract.page import Page, PageBuilder
from capstan.extract.rules import PageRules

_NEVER_TEXT = (
    "script, style, noscript, template, nav, form, svg, button, iframe, object, head title, "
    "[role=navigation], [role=search], [role=contentinfo], [aria-hidden=true], a.headerlink, "
    "table.head, table.foot, .toctree-wrapper, nav.contents, div.contents.topic, .system-message"
)
_BLOCKS = normal.words(
    "address article aside body blockquote center details dd div dt fieldset figcaption figure footer header hgroup "
    "html li main p section summary"
)
_ADMONITIONS = normal.words("admonition note tip warning caution important danger error hint attention")
# A definition of one of these kinds (the classes Sphinx gives) is worth a heading of its own.
_DEFINITIONS = normal.words(
    "function method class exception classmethod staticmethod decorator decoratormethod struct union enum macro type "
    "module directive describe"
)
_LAYOUT = "pre, table, dl, h1, h2, h3, h4"  # a table around these arranges a page and holds no data
_BREAK = "\x0b"
_BOLD_LEVEL = 8
_DEFINITION_LEVEL = 10
_ENTRY_LEVEL = 30
_LONG_ENTRY = 800


def extract_html(html: str, rules: PageRules, fallback_title: str) -> Page:
    """The page's title and sections; `fallback_title` where the page names none.

    A single `h1` that comes first is the title and no heading. Links, scripts, navigation and forms
    leave no text behind.
    """
    tree = LexborHTMLParser(html)
    head = tree.css_first("head title")
    head_title = titles.without_site(normal.prose(head.text())) if head else ""
    parents = tree.css(rules.parent) if rules.parent else []
    parent = normal.prose(parents[-1].text()) if parents else ""
    for node in tree.css(_NEVER_TEXT + (f", {rules.drop}" if rules.drop else "")):
        node.decompose()
    content = next((found for part in rules.content.split(",") if (found := tree.css_first(part.strip()))), None)
    if content is None:
        return Page(head_title or fallback_title, [])
    title = head_title
    if rules.title != "command" and (own := titles.own_heading(content, head_title)):
        title = head_title if rules.title == "head" and head_title else normal.prose(own.text())
        own.decompose()
    walk = _Walk(PageBuilder(), rules)
    walk.block(content)
    title = titles.with_parent(title or fallback_title, parent, numbered=rules.numbered)
    return Page(title, walk.builder.sections(), walk.link_share)


class _Walk:
    def __init__(self, builder: PageBuilder, rules: PageRules) -> None:
        self.builder = builder
        self._rules = rules
        self._inline: list[str] = []
        self._prefix = ""  # what the next paragraph begins with: a list marker, a term, "Note: "
        self._is_item = False
        self._lists = 0
        self._definitions = self._entries = 0
        self._in_link = 0
        self._seen = self._linked = 0

    @property
    def link_share(self) -> float:
        return self._linked / self._seen if self._seen else 0.0

    def block(self, node: LexborNode) -> None:
        """Walk the children; text between blocks becomes paragraphs."""
        self._children(node)
        self._flush()

    def _children(self, node: LexborNode) -> None:
        for child in node.iter(include_text=True):
            tag = child.tag or ""
            if tag == "-text":
                self._text(child.text_content or "")
            elif tag == "br":
                self._inline.append(_BREAK)
            elif handler := _HANDLERS.get(tag):
                self._flush()
                handler(self, child)
            elif tag in _BLOCKS:
                self._flush()
                self._in_block(child)
            elif tag == "a":
                self._in_link += 1
                self._children(child)
                self._in_link -= 1
            elif not tag.startswith(("-", "!")):
                self._children(child)

    def _in_block(self, node: LexborNode) -> None:
        classes = dom.classes(node)
        if _ADMONITIONS & classes and (title := dom.admonition_title(node)) is not None:
            self._prefix = f"{normal.prose(title.text())}: "
            title.decompose()
        if self._rules.bold_headings and node.tag == "p" and (heading := dom.bold_only(node)):
            self.builder.heading(_BOLD_LEVEL, self._unnumbered(heading))
        else:
            self.block(node)

    def _text(self, text: str) -> None:
        self._inline.append(text)
        size = len(text.strip())
        self._seen += size
        self._linked += size if self._in_link else 0

    def _flush(self) -> None:
        text = "".join(self._inline).replace("\n", " ").replace(_BREAK, "\n")
        self._inline.clear()
        if not text.strip():
            return
        self._emit(f"{self._prefix}{text}")

    def _emit(self, text: str) -> None:
        if self._is_item:
            marker, _, rest = text.partition(" ")
            self.builder.item(rest, max(0, self._lists - 1), marker)
        else:
            self.builder.paragraph(text)
        self._prefix, self._is_item = "", False

    def _term_alone(self) -> None:
        """A term or a "Note:" whose body begins with code or a list stands on its own line."""
        if len(self._prefix.split()) > 1 or (self._prefix and not self._is_item):
            self._emit(self._prefix.rstrip())
        self._prefix, self._is_item = "", False

    def _heading(self, node: LexborNode) -> None:
        self._term_alone()
        self.builder.heading(int(str(node.tag)[1]), self._unnumbered(normal.prose(node.text())))

    def _unnumbered(self, heading: str) -> str:
        return normal.without_number(heading) if self._rules.numbered else heading

    def _pre(self, node: LexborNode) -> None:
        self._term_alone()
        text = dom.preformatted(node)
        self._seen += len(text.strip())
        self.builder.code(text, dom.language(node), join=self._rules.join_code)

    def _list(self, node: LexborNode) -> None:
        self._term_alone()
        self._lists += 1
        for number, item in enumerate(node.iter(), 1):
            self._prefix = f"{number}. " if node.tag == "ol" else "- "
            self._is_item = True
            self.block(item)
            self._prefix, self._is_item = "", False
        self._lists -= 1

    def _definition_list(self, node: LexborNode) -> None:
        self._term_alone()
        if _DEFINITIONS & dom.classes(node) and node.css_first("dt.sig-object, dt.sig") is not None:
            self._signatures(node)
            return
        self._lists += 1
        terms: list[str] = []
        for child in dom.entries(node):
            if child.tag == "dt":
                terms.append(dom.term(child))
            elif child.text(strip=True) or child.css_first("img") is not None:
                self._entry(", ".join(filter(None, terms)), child)
                terms = []
        for term in filter(None, terms):
            self.builder.item(term, self._lists - 1)
        self._lists -= 1

    def _entry(self, term: str, body: LexborNode) -> None:
        """A term and what is said about it: an item, or a section if that is long enough to be cut in pieces."""
        self._seen += len(term)
        if term and self._lists == 1 and len(body.text()) > _LONG_ENTRY:
            self._entries += 1
            level = _ENTRY_LEVEL + self._entries
            self.builder.heading(level, term)
            self._lists = 0
            self.block(body)
            self._lists = 1
            self.builder.close(level)
            self._entries -= 1
            return
        mark = " " if term.endswith(("?", "!", ".")) else ": "
        self._prefix, self._is_item = (f"- {term}{mark}" if term else "- "), True
        self.block(body)
        self._term_alone()

    def _signatures(self, node: LexborNode) -> None:
        """An API definition: its name is a heading, its signature code."""
        self._definitions += 1
        level = _DEFINITION_LEVEL + self._definitions
        lists, self._lists = self._lists, 0
        signatures = [child for child in node.iter() if child.tag == "dt"]
        self.builder.heading(level, dom.object_name(signatures[0]))
        text = "\n".join(normal.prose(child.text()) for child in signatures)
        self._seen += len(text)
        self.builder.code(text)
        for child in node.iter():
            if child.tag == "dd":
                self.block(child)
        if not self._rules.open_definitions:
            self.builder.close(level)
        self._definitions -= 1
        self._lists = lists

    def _table(self, node: LexborNode) -> None:
        self._term_alone()
        if caption := node.css_first("caption"):
            self.builder.paragraph(caption.text())
        rows = list(dom.rows(node))
        columns = max(map(len, rows), default=0)
        layout = any(cell.css_first(_LAYOUT) is not None for cells in rows for cell in cells)
        for cells in rows:
            if layout:
                for cell in cells:
                    self.block(cell)
            elif columns == 1:
                self.builder.paragraph(self._cell(cells[0]) if cells and cells[0].tag == "td" else "")
            else:
                self.builder.row([self._cell(cell) for cell in cells])

    def _cell(self, node: LexborNode) -> str:
        inner = _Walk(PageBuilder(), self._rules)
        inner.block(node)
        self._seen += inner._seen
        self._linked += inner._linked
        return "\n".join(section.text for section in inner.builder.sections())

    def _skip(self, node: LexborNode) -> None:
        pass


_HANDLERS = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), _Walk._heading),
    "pre": _Walk._pre,
    "ul": _Walk._list,
    "ol": _Walk._list,
    "dl": _Walk._definition_list,
    "table": _Walk._table,
    "hr": _Walk._skip,
}
