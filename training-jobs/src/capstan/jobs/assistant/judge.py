"""A language model's opinion on pairs of answers: each pair in both orders, and a judge that contradicts itself ties.

It is a second opinion beside the checkers, from any OpenAI-compatible server. First it has to prefer references to
other items' references; one that cannot is called too weak, and its figures say more about it than about the arms
(Zheng et al. 2023 describe the biases and the two orders; the verdict's form is theirs).
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.sampling import complete
from capstan.jobs.assistant.scores import Answers
from capstan.jobs.assistant.winrate import Outcome, win_rate
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.rows import Rows, key_of

_SYSTEM = (
    "You compare two answers to an instruction, with a correct answer to hold them against. Judge whether each does "
    "what the instruction asks, correctly and to the point; neither length nor the order of the answers counts. End "
    "with your verdict: [[A]] if answer A is better, [[B]] if B is better, [[C]] if they are equally good or bad."
)
_VERDICT = re.compile(r"\[\[([ABC])\]\]")
_VALUE = {"A": 1.0, "B": 0.0, "C": 0.5}
RIGHT_BAR, FAILED_BAR = 0.8, 0.2
"""A judge is trusted if it decides this share of the known pairs rightly, and fails on no more than this share."""
_KNOWN = 40


@dataclass(frozen=True, slots=True)
class Judge:
    """Where the judge is asked, and where its verdicts are kept."""

    url: str
    model: str
    key: str | None
    rows: Path


@dataclass(frozen=True, slots=True)
class _Question:
    """A pair in one order, as it is sent."""

    id: str
    messages: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class Opinion:
    """On one pair: who won by both orders (None: no verdict), and what each order said of the answer shown first."""

    won: float | None
    said: tuple[float | None, float | None]


def opinions(
    judge: Judge, items: Sequence[Item], first: Answers, second: Answers, plan: Evaluation
) -> dict[str, Opinion]:
    """The judge's opinion on each item's pair of answers, by the item's id. Raises `AssistantError`."""
    questions = [
        _Question(f"{item.id}\n{order}", _messages(item, *pair))
        for item in items
        for order, pair in enumerate([(first[item.id], second[item.id]), (second[item.id], first[item.id])])
    ]
    said = {name: _verdict(text) for name, text in _asked(judge, questions, plan).items()}
    return {item.id: _opinion(said[f"{item.id}\n0"], said[f"{item.id}\n1"]) for item in items}


def _asked(judge: Judge, questions: Sequence[_Question], plan: Evaluation) -> dict[str, str]:
    rows = Rows(judge.rows)
    keys = {q.id: key_of(q.messages, judge.model, plan.judge_tokens) for q in questions}
    missing = [q for q in questions if rows.get(keys[q.id]) is None]
    with Steps().step("verdicts of the judge", len(missing)) as advance:
        limits: dict[str, Any] = {"max_tokens": plan.judge_tokens, "concurrency": plan.concurrency}
        for name, (text,) in complete(judge.url, judge.model, missing, key=judge.key, **limits):
            rows.put(keys[name], {"text": text})
            advance(1)
    return {q.id: (rows.get(keys[q.id]) or {})["text"] for q in questions}


def _messages(item: Item, a: str, b: str) -> tuple[dict[str, str], ...]:
    parts = {"Instruction": item.prompt, "Correct answer": item.reference, "Answer A": a, "Answer B": b}
    text = "\n\n".join(f"## {name}\n{part.strip() or '(empty)'}" for name, part in parts.items())
    return {"role": "system", "content": _SYSTEM}, {"role": "user", "content": text}


def _verdict(text: str) -> float | None:
    found = _VERDICT.findall(text)
    return _VALUE[found[-1]] if found else None


def _opinion(as_it_is: float | None, swapped: float | None) -> Opinion:
    """Both orders agree on a winner, or it is a tie."""
    said = (as_it_is, swapped)
    if as_it_is is None or swapped is None:
        return Opinion(None, said)
    return Opinion(as_it_is if as_it_is == 1 - swapped else 0.5, said)


def sample(items: Sequence[Item], size: int, seed: int) -> list[Item]:
    """So many of the items, drawn at random."""
    return random.Random(seed).sample(list(items), min(size, len(items)))  # noqa: S311


def known_pairs(items: Sequence[Item], seed: int) -> tuple[list[Item], dict[str, str], dict[str, str]]:
    """Items whose right verdict is known: their own reference against that of another item of the kind."""
    draw = random.Random(seed)  # noqa: S311
    chosen, own, others = list[Item](), dict[str, str](), dict[str, str]()
    for item in sample(items, _KNOWN, seed):
        wrong = [other.reference for other in items if other.kind == item.kind and other.reference != item.reference]
        if wrong:
            chosen.append(item)
            own[item.id], others[item.id] = item.reference, draw.choice(wrong)
    return chosen, own, others


def sanity(judge: Judge, items: Sequence[Item], plan: Evaluation, *, seed: int) -> dict[str, Any]:
    """How the judge does on pairs whose verdict is known, and whether it can be trusted."""
    chosen, own, others = known_pairs(items, seed)
    found = list(opinions(judge, chosen, own, others, plan).values())
    right, failed = sum(o.won == 1.0 for o in found), sum(o.won is None for o in found)
    n = len(found)
    return {
        "n": n,
        "right": right,
        "failed": failed,
        "trusted": bool(n) and right >= RIGHT_BAR * n and failed <= FAILED_BAR * n,
        "bar": f"at least {RIGHT_BAR:.0%} right in both orders, at most {FAILED_BAR:.0%} without a verdict",
    }


def match(found: Mapping[str, Opinion], first: Answers, second: Answers, *, seed: int) -> dict[str, Any]:
    """Win rate of the first arm by the judge; how often it was consistent, and how often it took what stood first."""
    decided = {name: o.won for name, o in found.items() if o.won is not None}
    pairs = [Outcome(won, "judge", len(first[name]) - len(second[name])) for name, won in decided.items()]
    both = [o.said for o in found.values() if o.won is not None]
    said = [value for pair in both for value in pair if value in (0.0, 1.0)]
    return {
        "pairs": len(found),
        "failed": len(found) - len(pairs),
        "consistent": round(sum(x == 1 - y for x, y in both if y is not None) / len(both), 4) if both else None,
        "took_the_first": round(sum(said) / len(said), 4) if said else None,
        **(win_rate(pairs, seed=seed) if pairs else {}),
    }
