"""Which formats there are and how a page may be laid out. Imports no parser, so that asking costs nothing."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Format = Literal["html", "man", "rst", "md", "txt", "pdf"]
SUFFIXES: dict[str, Format] = {
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".md": "md",
    ".markdown": "md",
    ".rst": "rst",
    ".txt": "txt",
    ".text": "txt",
    ".pdf": "pdf",
}
"""The formats that a file's name tells; manual pages are told by where they lie."""


class PageRules(BaseModel):
    """How the pages of one source are laid out. `content`, `drop` and `parent` are CSS selectors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    content: str = Field("main, article, [role=main], body", description="Where the text is; the first that is found.")
    drop: str = Field("", description="What is removed first: navigation, contents, banners.")
    parent: str = Field("", description="Where the title of the enclosing chapter is; it follows the page's own.")
    title: Literal["heading", "head", "man", "command"] = Field(
        "heading", description="The title is the first heading, the head's <title>, a man page's NAME, or the path."
    )
    prefix: str = Field("", description="The product's name, put before titles that lack it.")
    bold_headings: bool = Field(False, description="A paragraph that is bold from end to end is a heading.")
    numbered: bool = Field(False, description="Headings begin with a number, which is dropped.")
    join_code: bool = Field(False, description="Code blocks that follow each other are one.")
    open_definitions: bool = Field(False, description="What follows an API definition belongs to it.")
