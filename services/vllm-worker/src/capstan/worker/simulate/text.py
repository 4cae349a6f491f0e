"""What the simulated model reads and writes: pure functions of the prompt, one word a token."""

import re
import zlib

_WORD = re.compile(r"\s*\S+")
_MARKER = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|[-*+][ \t]+|>[ \t]?|```.*$)|\*\*|__|`", re.MULTILINE)
_SENTENCE = re.compile(r"[^\s][^\n]*?(?:[.!?](?=\s|$)|(?=\n|$))")
_BRACKETED = re.compile(r"^\[(\d+)\][ \t]*(.*?)(?=^\[\d+\]|\Z)", re.MULTILINE | re.DOTALL)
_TAGGED = re.compile(r'<passage id="(\d+)"[^>]*>(.*?)</passage>', re.DOTALL)
_MIN_WORDS = 4


def tokenize(text: str) -> list[str]:
    """`text` in tokens: words with the white space before them."""
    return _WORD.findall(text)


def token_ids(tokens: list[str]) -> list[int]:
    """A number for each token, the same in each run."""
    return [zlib.crc32(token.encode()) % 49152 for token in tokens]


def reply(message: str) -> list[str]:
    """The tokens that answer `message`: its sentences word for word, in order, without markdown markers.

    Where the message holds numbered passages (`[1] ...` at a line's start, or `<passage id="1">`), one
    sentence of each of the first two is quoted and ends with the passage's number.
    """
    passages = _passages(message)
    if passages:
        quotes = [f"{_first_sentence(text)} [{number}]" for number, text in passages[:2]]
        return tokenize(" ".join(quotes))
    return tokenize(" ".join(_sentences(message)))


def _passages(message: str) -> list[tuple[str, str]]:
    found = _TAGGED.findall(message) or _BRACKETED.findall(message)
    return [(number, text) for number, text in found if text.strip()]


def _first_sentence(text: str) -> str:
    """The first line or sentence that ends like a sentence; a title or heading only where nothing else is."""
    sentences = _sentences(text)
    for sentence in sentences:
        if sentence[-1] in ".!?" and len(sentence.split()) >= _MIN_WORDS:
            return sentence
    return sentences[0] if sentences else text.strip()


def _sentences(text: str) -> list[str]:
    return _SENTENCE.findall(_MARKER.sub("", text))
