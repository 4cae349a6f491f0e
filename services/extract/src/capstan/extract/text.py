"""Text normalisation: what a reader would not see goes, what a reader would see stays."""

import re
import textwrap
import unicodedata

LONGEST_TITLE = 200

# Control characters other than tab and line feed, zero-width and direction marks, unpaired surrogates,
# private-use characters (icon fonts) and code points that are no characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
    "\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufff0-\ufffb\ufffe\uffff\U000e0000-\U0010ffff]"
)
_BREAK = re.compile(r"\r\n?|\x0b|\x0c|\x85|\u2028|\u2029")
_NUMBER = re.compile(
    r"^(?:(?:Chapter|Appendix|Part)\s+\w+\.|\d+(?:\.\d+)*\.|[A-Z](?:\.\d+)+\.|Example\s*\d+\s*[.:-])\s+(?=\S)"
)
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str) -> str:
    """`text` in NFC, with lines ended by `\\n` and without characters that nobody sees."""
    if text.isascii() and text.isprintable():
        return text
    # Dropping a character can bring a letter and a combining mark together, hence NFC at the end.
    return unicodedata.normalize("NFC", _UNSEEN.sub("", _BREAK.sub("\n", text)))


def prose(text: str) -> str:
    """Running text on one line: every run of white space is one space."""
    return " ".join(clean(text).split())


def lines(text: str) -> str:
    """Text whose line breaks mean something: each line as `prose`, empty ones gone."""
    return "\n".join(line for line in map(prose, clean(text).split("\n")) if line)


def code(text: str) -> str:
    """Code: columns kept, common indent, trailing blanks and empty first and last lines gone."""
    rows = [row.rstrip() for row in clean(text).expandtabs(8).replace("\u00a0", " ").split("\n")]
    while rows and not rows[0]:
        rows.pop(0)
    while rows and not rows[-1]:
        rows.pop()
    indent = min((len(row) - len(row.lstrip()) for row in rows if row), default=0)
    return _BLANK_LINES.sub("\n\n", "\n".join(row[indent:] for row in rows))


def fence(text: str, language: str = "") -> str:
    """`text` in a Markdown code fence that is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    ticks = "`" * (longest + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"


def without_number(heading: str) -> str:
    """A heading without its section number: "11.8. Partial Indexes" is "Partial Indexes"."""
    return _NUMBER.sub("", heading)


def shortened(line: str) -> str:
    """A title or heading of at most 200 characters, cut between words."""
    return line if len(line) <= LONGEST_TITLE else textwrap.shorten(line, LONGEST_TITLE, placeholder=" …")


def words(names: str) -> frozenset[str]:
    """Names written in one string, for tables that would fill a page as lists."""
    return frozenset(names.split())
