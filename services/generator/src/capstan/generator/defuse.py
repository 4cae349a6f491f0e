"""Makes document text harmless: in the prompt, where it could pass for a part of it, and in an answer when rendered.

What does not depend on recognizing an attack: delimiters that no document can know (`prompt`), `as_data`, which takes
fake markers, chat-template tokens and invisible characters out of passages, the verification of every sentence, and
`Sources.inert`, which leaves nothing in an answer that could act. `injection` recognizes known attacks on top of it.
"""

import re
import unicodedata
from dataclasses import dataclass

_MARKER_LIKE = re.compile(r"(?m)^([ \t>*#-]*)[\[［【〔](\d{1,3})[\]］】〕]")
CHAT_TEMPLATE = r"<[|｜][^<>|｜\n]{1,60}[|｜]>|<</?SYS>>|</?(?:start_of_turn|end_of_turn)>|\[/?INST\]"
"""What chat templates begin and end messages with; a tokenizer reads it as such inside a message, too."""
_CONTROL = re.compile(rf"{CHAT_TEMPLATE}|</?s>|<(?:bos|eos|pad|unk)>")
_DELIMITER = re.compile(r"(?m)^-{3,}[ \t]*(BEGIN|END)\b.*$")

_IMAGE_OR_LINK = re.compile(r"(!?)\[([^\]\n]*)\]\(\s*<?([^\s)>]*)>?[^)\n]*\)")
_REFERENCE = re.compile(r"(?m)^[ \t]{0,3}\[[^\]\n]+\]:[ \t]*\S+.*$")
_URL = re.compile(r"\b(?:[a-z][a-z0-9+.-]{1,15}://|www\.|javascript:|data:[a-z]+/)[^\s<>\"'`)\]]+", re.IGNORECASE)
_TAG = re.compile(r"<(?=[A-Za-z/!?])[^<>]*>?")
_REMOVED = "(link removed)"


def visible(text: str) -> str:
    """The text without characters that a reader does not see: controls, zero widths, direction marks, tags."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Co", "Cs"))


def as_data(text: str) -> str:
    """Document text as it may stand in a prompt: no invisible characters, no chat-template tokens, no fake markers."""
    text = _CONTROL.sub(lambda match: f"({match.group().strip('<>[]|｜')})", visible(text))
    text = _DELIMITER.sub(lambda match: f"({match.group(1).lower()})", text)
    return _MARKER_LIKE.sub(r"\1(\2)", text)


def one_line(text: str) -> str:
    """A title or heading as it may stand in a prompt or an answer: one line, no brackets that look like a marker."""
    return " ".join(as_data(text).replace("[", "(").replace("]", ")").split())


@dataclass(frozen=True, slots=True)
class Sources:
    """What an answer may link to (`urls`) and which addresses it may name: those, and what stands in `texts`."""

    urls: frozenset[str]
    texts: tuple[str, ...]

    def inert(self, text: str) -> str:
        """A piece of an answer that does nothing when it is rendered as Markdown or HTML.

        Images, and links to other places than the sources, leave their words; unknown addresses are removed; HTML tags
        become code. Code spans stay; a backtick that belongs to none goes, for it could open one.
        """
        parts = re.split(r"`+([^`\n]+)`+", visible(text))
        return "".join(f"`{part}`" if i % 2 else self._prose(part) for i, part in enumerate(parts))

    def _prose(self, text: str) -> str:
        text = _REFERENCE.sub("", text.replace("`", ""))
        text = _IMAGE_OR_LINK.sub(self._link, text)
        text = _URL.sub(lambda m: m.group() if self._known(m.group().rstrip(".,;:!?")) else _REMOVED, text)
        return _TAG.sub(lambda match: f"`{match.group().replace('`', '')}`", text)

    def _link(self, match: re.Match[str]) -> str:
        is_image, words, url = match.groups()
        return match.group() if url in self.urls and not is_image else str(words)

    def _known(self, url: str) -> bool:
        return url in self.urls or any(url in text for text in self.texts)
