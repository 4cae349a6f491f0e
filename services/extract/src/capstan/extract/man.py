"""Manual pages through mandoc, the manual formatter of OpenBSD, Alpine and macOS."""

import gzip
import subprocess
import zlib
from pathlib import Path

from capstan.extract.errors import BrokenDocument

_HEAD_BYTES = 4096
_WORST_WARNING = 4  # mandoc's exit codes up to this one are remarks on a page's style
_VERBATIM = (b".nf", b".EX", b".Vb")
_FILLED = (b".fi", b".EE", b".Ve", b".SH", b".SS", b".TP", b".IP")


def alias_of(path: Path) -> str | None:
    """The page that this one only points to (`.so man2/open.2`), if it is such a page."""
    try:
        head = read_roff(path, _HEAD_BYTES)
    except BrokenDocument:
        return None
    requests = [row for row in head.splitlines() if row.strip() and not row.startswith((b'.\\"', b"'\\\""))]
    return requests[0][4:].decode("utf-8", "replace").strip() if requests and requests[0].startswith(b".so ") else None


def read_roff(path: Path, size: int = -1) -> bytes:
    """The page's source, at most `size` bytes of it. Raises `BrokenDocument`."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error):
        raise BrokenDocument("not readable as a compressed manual page") from None


def man_to_html(path: Path, mandoc: Path | None) -> str:
    """The page as an HTML fragment, in which mandoc has resolved macros, tables and equations."""
    if mandoc is None:
        raise BrokenDocument("mandoc is not at hand")
    command = [str(mandoc), "-T", "html", "-O", "fragment"]
    done = subprocess.run(command, input=_keep_blank_lines(read_roff(path)), capture_output=True, check=False)
    html = done.stdout.decode("utf-8", errors="replace")
    if done.returncode > _WORST_WARNING or not html.strip():
        raise BrokenDocument("mandoc cannot read it")
    return html


def _keep_blank_lines(source: bytes) -> bytes:
    """Mark the blank lines inside code, which mandoc's HTML drops, with a character that `text.clean` drops."""
    rows = source.split(b"\n")
    verbatim = False
    for number, row in enumerate(rows):
        if row.startswith(_VERBATIM):
            verbatim = True
        elif row.startswith(_FILLED):
            verbatim = False
        elif verbatim and row.strip() in (b"", b"\\&", b".sp", b".PP"):
            rows[number] = b"\\[u2063]"
    return b"\n".join(rows)
