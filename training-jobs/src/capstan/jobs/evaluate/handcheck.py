"""A sample of citations for a person to judge, and what the person's verdicts say about the verifier's.

A line of the file is one (sentence, cited passage) pair. The person sets `verdict` to true if the passage
alone supports everything that the sentence says, else to false, and writes the `reason`. Lines are in
random order and the verifier's verdict comes last, so that it is read last.
"""

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from capstan.jobs.evaluate.asking import Answer
from capstan.jobs.evaluate.citations import Judged, passage_text
from capstan.jobs.evaluate.errors import EvaluateError

MAX_A_QUESTION = 2
"""Citations that one question may give to the sample."""


def pairs(judged: Iterable[tuple[Answer, list[Judged]]]) -> list[dict[str, Any]]:
    """Every citation of the answers as a line to judge."""
    found: list[dict[str, Any]] = []
    for answer, sentences in judged:
        texts = {int(source["id"]): passage_text(source) for source in answer.passages}
        for place, one in enumerate(sentences):
            for number, alone in one.alone.items():
                found.append(
                    {
                        "id": f"{answer.id}#{place}[{number}]",
                        "mode": answer.details.get("mode"),
                        "question": answer.question,
                        "sentence": one.sentence.text,
                        "passage": texts[number],
                        "verdict": None,
                        "reason": "",
                        "verifier": alone.supported,
                        "verifier_reason": alone.reason,
                    }
                )
    return found


def sample(lines: Sequence[Mapping[str, Any]], size: int, *, seed: int) -> list[dict[str, Any]]:
    """`size` lines at random, at most two of a question."""
    shuffled = random.Random(seed).sample(list(lines), len(lines))  # noqa: S311 - a sample, not a secret
    taken: dict[str, int] = {}
    chosen: list[dict[str, Any]] = []
    for line in shuffled:
        question = line["question"]
        if len(chosen) < size and taken.get(question, 0) < MAX_A_QUESTION:
            taken[question] = taken.get(question, 0) + 1
            chosen.append(dict(line))
    return chosen


def write(path: Path, lines: Sequence[Mapping[str, Any]], *, force: bool = False) -> None:
    """Write the sample. Raises `EvaluateError` where a person's verdicts would be lost."""
    if path.is_file() and not force and any(line["verdict"] is not None for line in read(path)):
        raise EvaluateError(f"{path} holds a person's verdicts; move it away, or say --force to lose them")
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a sample. Raises `EvaluateError`."""
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise EvaluateError(f"{path}: {error}; make it with the command sample") from None
    wrong = [n for n, line in enumerate(lines, 1) if line.get("verdict") not in (True, False, None)]
    if wrong:
        raise EvaluateError(f"{path}: the verdict of line {wrong[0]} is not true, false or null")
    return lines


def agreement(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Precision by hand, and how far the verifier agrees with the person.

    `kappa` is Cohen's; `accepted_wrong` are pairs that only the verifier took for supported, and so what its
    precision is too high by; `refused_right` those that only the person did.
    """
    judged = [line for line in lines if line["verdict"] is not None]
    n = len(judged)
    both = sum(line["verdict"] and line["verifier"] for line in judged)
    neither = sum(not line["verdict"] and not line["verifier"] for line in judged)
    person = sum(bool(line["verdict"]) for line in judged)
    machine = sum(bool(line["verifier"]) for line in judged)
    result: dict[str, Any] = {"sampled": len(lines), "n": n}
    if not n:
        return result
    observed = (both + neither) / n
    chance = (person * machine + (n - person) * (n - machine)) / n**2
    low, high = wilson(person, n)
    return {
        **result,
        "precision_by_hand": round(person / n, 4),
        "precision_by_hand_ci95": [round(low, 4), round(high, 4)],
        "precision_by_verifier": round(machine / n, 4),
        "agreement": round(observed, 4),
        "kappa": None if chance == 1 else round((observed - chance) / (1 - chance), 4),
        "accepted_wrong": machine - both,
        "refused_right": person - both,
    }


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share (1927): right also near 0 and 1, where a sample of 50 may well be."""
    share = hits / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))
