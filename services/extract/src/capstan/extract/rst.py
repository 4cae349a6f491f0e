"""reStructuredText through docutils, with what Sphinx adds to it read as plain text."""

import copy
import re
from functools import cache
from typing import Any, ClassVar, cast

from docutils import nodes
from docutils.core import Publisher, publish_parts
from docutils.parsers.rst import Directive, Parser, directives, roles
from docutils.utils import SystemMessage
from docutils.writers.html5_polyglot import Writer

from capstan.extract import text as normal
from capstan.extract.errors import BrokenDocument

# Sphinx's own names: to docutils alone they are errors, and their text would be lost.
_ROLES = normal.words(
    "abbr any attr class command const data dfn doc download envvar exc file func guilabel kbd keyword makevar manpage "
    "menuselection meth mimetype mod numref obj option program ref regexp samp term token c:data c:func c:macro "
    "c:member c:struct c:type py:attr py:class py:const py:data py:exc py:func py:meth py:mod py:obj"
)
_NOTES = {
    "versionadded": "New in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "seealso": "See also:",
    "rubric": "",
    "centered": "",
}
_DEFINITIONS = normal.words(
    "function class method exception data attribute module staticmethod classmethod decorator option envvar "
    "py:function py:class py:method py:exception py:data py:attribute c:function c:type c:macro c:struct"
)
_SILENT = normal.words(
    "toctree index currentmodule tabularcolumns include automodule autoclass autofunction autosummary literalinclude "
    "graphviz"
)
_SETTINGS = {
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "report_level": 5,
    "halt_level": 5,
    "_disable_config": True,
    "syntax_highlight": "none",
    "embed_stylesheet": False,
    "stylesheet_path": None,
    "smart_quotes": False,
    "doctitle_xform": False,
    "initial_header_level": 1,
}
_TARGET = re.compile(r"^(.*?)\s*<[^<>]*>$", re.DOTALL)


def rst_to_html(source: str) -> str:
    """The page's body as HTML. Files and raw output that the source asks for are left out."""
    try:
        parts = publish_parts(source, writer="html5", settings=copy.copy(_settings()))
    except (SystemMessage, ValueError, RecursionError, AssertionError) as error:
        raise BrokenDocument(f"not readable as reStructuredText ({type(error).__name__})") from None
    return str(parts["html_body"])


@cache
def _settings() -> Any:
    """docutils' settings, made once: making them costs as much as parsing a page."""
    for name in _ROLES:
        roles.register_local_role(name, cast(Any, _role))
    for name in _DEFINITIONS:
        directives.register_directive(name, _Definition)
    for name in _NOTES:
        directives.register_directive(name, _Note)
    for name in _SILENT:
        directives.register_directive(name, _Silent)
    for name in ("code", "code-block", "sourcecode", "highlight", "parsed-literal"):
        directives.register_directive(name, _Code)
    publisher = Publisher(parser=Parser(), writer=Writer())
    publisher.process_programmatic_settings(None, _SETTINGS, None)
    return publisher.settings


def _role(
    name: str, rawtext: str, text: str, lineno: int, inliner: Any, options: Any = None, content: Any = None
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    shown = _TARGET.match(text)
    return [nodes.Text((shown.group(1) if shown and shown.group(1) else text).lstrip("~!"))], []


class _AnyOptions(dict[str, Any]):
    """An option table that takes every option, as Sphinx's directives have many."""

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, key: str) -> Any:
        return directives.unchanged

    def __contains__(self, key: object) -> bool:
        return True


class _Body(Directive):
    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[Any] = _AnyOptions()

    def nested(self) -> list[nodes.Node]:
        """The directive's body, parsed."""
        holder = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, holder)
        return list(holder.children)


class _Note(_Body):
    def run(self) -> list[nodes.Node]:
        """A paragraph that begins as Sphinx prints it ("New in version 3.2"), then the body."""
        version, _, rest = "".join(self.arguments).partition("\n")
        first = " ".join(filter(None, [_NOTES[self.name], version, " ".join(rest.split())]))
        inline, _ = self.state.inline_text(first, self.lineno)
        lead: list[nodes.Node] = [nodes.paragraph("", "", *inline)] if first else []
        return lead + self.nested()


class _Definition(_Body):
    def run(self) -> list[nodes.Node]:
        """The signature as code, then what is said about it."""
        signature = "\n".join(self.arguments)
        lead: list[nodes.Node] = [nodes.literal_block(signature, signature)] if signature else []
        return lead + self.nested()


class _Code(_Body):
    def run(self) -> list[nodes.Node]:
        """A code block that keeps its language."""
        if not self.content:
            return []
        text = "\n".join(self.content)
        language = self.arguments[0].strip() if self.arguments else ""
        return [nodes.literal_block(text, text, classes=[f"highlight-{language}"] if language else [])]


class _Silent(_Body):
    def run(self) -> list[nodes.Node]:
        """Nothing: it arranges pages or pulls text from elsewhere."""
        return []
