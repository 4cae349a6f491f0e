"""Recognizes text that gives orders to a language model: what prompt injection in documents looks like.

Patterns, so a new wording can pass; see `defuse` for what holds regardless.
"""

import re
import unicodedata

from capstan.generator.defuse import CHAT_TEMPLATE, visible

_MODEL = r"(?:ai|a\.i\.|llm|language\s+model|(?:ai\s+|virtual\s+)?assistant|chat\s?bot)s?"
_ORDER = r"(?:(?:instruction|direction|prompt|rule|guideline)s?|messages|commands)"
_MUST = r"(?:must|should|shall|needs?\s+to|ha(?:s|ve)\s+to)(?:\s+(?:now|always|never|only|not))*"
_SAY = r"(?:say|tell|answer|respond|reply|ignore|recommend|include|append|instruct|claim|obey|follow|output|cite)"
_ANSWER = r"(?:answer|reply|response)s?"
_READER = r"the\s+(?:user|reader|human)"
_BEFORE = r"(?:previous|prior|above|earlier|preceding|foregoing)"

_PATTERNS = (
    # to drop what it was told
    rf"\b(?:ignore|disregard|forget|override|bypass)\s+(?:(?:all|any|the|these|those|your|my|of)\s+)*{_BEFORE}\s+{_ORDER}\b",
    rf"\b(?:ignore|disregard|forget|override|bypass)\s+(?:(?:all|any|of|the)\s+)*(?:your|system)\s+{_ORDER}\b",
    r"\b(?:ignore|disregard|forget)\s+(?:everything|all|anything)\s+(?:(?:you\s+were\s+told|that\s+came)\s+)?(?:above|before)\b",
    # to tell what it was told
    r"\b(?:your|the)\s+(?:hidden\s+|secret\s+|full\s+|entire\s+|initial\s+)*system\s+prompt\b",
    r"\b(?:reveal|print|repeat|show|output|leak|disclose)\s+(?:me\s+)?your\s+(?:\w+\s+){0,2}(?:instructions|prompt)\b",
    # to be someone else
    r"\byou\s+are\s+(?:now|no\s+longer)\s+(?:an?|in|the|bound|dan)\s+(?:\w+\s+){0,3}(?:ai|assistant|model|mode|rules|pirate|dan)\b",
    r"\bact\s+as\s+(?:an?\s+)?(?:unrestricted|evil|pirate|dan|jailbroken)\b",
    rf"\bpretend\s+(?:to\s+be|you\s+are)\s+(?:an?\s+|the\s+)?(?:{_MODEL}|dan|admin\w*)\b",
    # what addresses it
    rf"\b(?:attention|note|message|instructions?|important)\s*[,:]?\s*(?:to|for)?\s+(?:the\s+|any\s+|all\s+)?{_MODEL}\b",
    r"\b(?:dear|hey|hello)\s+(?:ai|llm|language\s+model|(?:ai\s+)?assistant)\b",
    r"\b(?:as|if\s+you\s+are)\s+(?:an\s+|the\s+)(?:ai|llm|(?:large\s+)?language\s+model|ai\s+assistant)\b",
    CHAT_TEMPLATE,
    rf"\b{_MODEL}\s+(?:reading\s+this|{_MUST}\s+{_SAY})\b",
    rf"\bnew\s+(?:system\s+)?(?:instruction|prompt)s?\s*(?:for\s+(?:the\s+)?{_MODEL})?\s*:",
    r"(?m:^\W*(?:system|assistant|developer)\s*(?:message|prompt|override|note)?\s*:\s+(?:you|the\s+user|from\s+now|new|ignore))",
    # what it should do to the reader
    rf"\b(?:tell|instruct|urge)\s+{_READER}\s+(?:to|that)\b",
    rf"\b(?:do\s+not|don't|never)\s+(?:tell|inform|warn)\s+{_READER}\b",
    # what its answer should be
    rf"\b(?:your|every|each)\s+{_ANSWER}\s+{_MUST}\s+(?:be|say|contain|include|start|begin|end|cite)\b",
    rf"\b(?:begin|end|start|finish)\s+(?:your|every|each)\s+{_ANSWER}\b",
    rf"\b(?:add|append|include|insert|put)\b[^.\n]{{0,60}}\b(?:in|to|into)\s+(?:your|every|each)\s+{_ANSWER}\b",
    r"\b(?:answer|respond|reply)\s+(?:only\s+)?with\s+(?:the\s+)?(?:words?|text|following|phrase)\b",
    r"\bcite\s+(?:it|this|passage|source|document)\b[^.\n]{0,40}\b(?:instead|for\s+every|always|as\s+proof)\b",
    # tools
    r"[\"'](?:tool_calls?|function_call)[\"']\s*:",
    r"</?(?:tool_call|function_call|function_calls|invoke)\b",
    # the same in other languages
    r"\b(?:ignorier|vergiss|missacht)\w*\s+(?:\w+\s+){0,3}(?:anweisung|instruktion|regel)\w*",
    r"\bignore[rz]?\s+(?:\w+\s+){0,2}(?:instructions|consignes|règles)\s+(?:pr[ée]c[ée]dentes|ci-dessus)",
    r"\b(?:ignora|olvida|omite|dimentica)\w*\s+(?:\w+\s+){0,3}(?:instrucciones|istruzioni|reglas|regole)\b",
    r"\bignor(?:e|ar|a)\s+(?:\w+\s+){0,3}(?:instruções|regras)\b",
    r"(?:игнорируй|забудь)\w*\s+(?:\w+\s+){0,3}(?:инструкци|указани)\w*",
    r"忽略.{0,12}(?:指令|指示|说明|提示)",
    r"(?:以前|上記|これまで)の.{0,8}(?:指示|命令).{0,6}無視",
)
_ANY = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS), re.IGNORECASE)
_LEET = str.maketrans("013457@$", "oieastas")
_CONFUSABLE = str.maketrans("аеорсухіјѕԁο", "aeopcyxijsdo")
"""Cyrillic and Greek letters that look like Latin ones."""


def speaks_to_the_model(text: str) -> bool:
    """Whether the text gives orders to a language model, as far as patterns can tell."""
    seen = visible(text)
    plain = unicodedata.normalize("NFKC", seen)
    folded = re.sub(r"[\s*_~]+", " ", plain)
    spellings = (seen, plain, folded, folded.translate(_LEET), folded.translate(_CONFUSABLE))
    return any(_ANY.search(spelling) for spelling in dict.fromkeys(spellings))
