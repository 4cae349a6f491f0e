"""Preference pairs: which of a model's own answers to prefer to which, and how their lengths are balanced."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from capstan.jobs.assistant.checkers import check
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.recipe import Preferences
from capstan.jobs.assistant.similarity import similarity

Origin = Literal["sampled", "reference"]
Length = Callable[[str], int]
"""Tokens of an answer."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a training prompt. `origin` is of the chosen one; `reason` is why the other one failed."""

    id: str
    kind: str
    messages: tuple[dict[str, str], ...]
    chosen: str
    rejected: str
    origin: Origin
    reason: str

    def line(self) -> str:
        """The pair as a line of JSON."""
        return json.dumps({**asdict(self), "messages": list(self.messages)}, ensure_ascii=False) + "\n"


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a file. Raises `AssistantError`."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return [Pair(**{**row, "messages": tuple(row["messages"])}) for row in rows]
    except OSError as error:
        raise AssistantError(f"{path} cannot be read ({error.strerror}); run the preferences command first") from None
    except (ValueError, TypeError, KeyError) as error:
        raise AssistantError(f"{path} holds no pairs ({error}); remove it and run preferences again") from None


def pairs_of(item: Item, answers: Sequence[str], plan: Preferences, length: Length, longest: int) -> list[Pair]:
    """Pairs of one prompt: an answer that passes its checker is preferred to one that fails.

    Where none passes, the reference is preferred. Of several that pass, the one most like the reference is chosen; of
    those that fail, the ones that the model says most often are rejected, if their length is near the chosen one's.
    An answer that fails and is yet more like the reference than the chosen one is no clear case and left out, and so
    is one of `longest` tokens, which was cut off.
    """
    said = Counter(text.strip() for text in answers if text.strip() and length(text) < longest)
    verdicts = {text: check(item, text) for text in said}
    likeness = {text: similarity(text, item.reference) for text in said}
    passed = [text for text in said if verdicts[text].passed]
    origin: Origin = "sampled" if passed else "reference"
    chosen = max(passed, key=lambda text: (likeness[text], said[text], text)) if passed else item.reference
    close = likeness.get(chosen, 1.0)
    failed = [
        text
        for text in said
        if not verdicts[text].passed
        and likeness[text] < close
        and abs(length(text) - length(chosen)) <= plan.max_difference
    ]
    failed.sort(key=lambda text: (-said[text], -likeness[text], text))
    return [
        Pair(f"{item.id}#{number}", item.kind, item.messages, chosen, text, origin, verdicts[text].reason)
        for number, text in enumerate(failed[: plan.of_a_prompt])
    ]


def choose(pairs: Sequence[Pair], plan: Preferences, length: Length, seed: int) -> list[Pair]:
    """Those that are trained on: references capped, lengths balanced, at most as many as wanted, shuffled.

    Raises `AssistantError` if too few are left.
    """
    draw = random.Random(seed)  # noqa: S311
    shuffled = list(pairs)
    draw.shuffle(shuffled)
    own = [pair for pair in shuffled if pair.origin == "sampled"]
    written = [pair for pair in shuffled if pair.origin == "reference"]
    own = _balanced(own, plan.balance, length)[: plan.most]
    cap = int(len(own) * plan.references / (1 - plan.references))
    written = _balanced(written, plan.balance, length)[: min(cap, plan.most - len(own))]
    kept = [*own, *written]
    if len(kept) < plan.least:
        raise AssistantError(
            f"{len(kept)} pairs are too few (preferences.least is {plan.least}): raise sampling.prompts or sampling.n"
        )
    draw.shuffle(kept)
    return kept


def _balanced(pairs: list[Pair], balance: float, length: Length) -> list[Pair]:
    """Leave out the pairs whose chosen answer is longest (or shortest) against the other, until the mean is near 0."""
    differences = {pair.id: length(pair.chosen) - length(pair.rejected) for pair in pairs}
    by_difference = sorted(pairs, key=lambda pair: differences[pair.id])
    total = sum(differences.values())
    low, high = 0, len(by_difference)
    while high > low and abs(total) > balance * (high - low):
        if total > 0:
            high -= 1
            total -= differences[by_difference[high].id]
        else:
            total -= differences[by_difference[low].id]
            low += 1
    kept = {pair.id for pair in by_difference[low:high]}
    return [pair for pair in pairs if pair.id in kept]


def about(pairs: Sequence[Pair], length: Length) -> dict[str, Any]:
    """Numbers of pairs by kind, origin and reason, and the answers' mean lengths in tokens."""
    chosen = [length(pair.chosen) for pair in pairs]
    rejected = [length(pair.rejected) for pair in pairs]

    def mean(values: Sequence[float]) -> float | None:
        return round(sum(values) / len(values), 2) if values else None

    return {
        "pairs": len(pairs),
        "prompts": len({pair.id.rpartition("#")[0] for pair in pairs}),
        "by_kind": _counts(pair.kind for pair in pairs),
        "by_origin": _counts(pair.origin for pair in pairs),
        "by_reason": _counts(pair.reason for pair in pairs),
        "chosen_tokens": mean(chosen),
        "rejected_tokens": mean(rejected),
        "difference_tokens": mean([a - b for a, b in zip(chosen, rejected, strict=True)]),
    }


def _counts(values: Iterable[str]) -> Mapping[str, int]:
    return dict(Counter(values).most_common())
