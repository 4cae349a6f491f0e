"""Two language models as writers of cited answers: what each wrote itself, and what the user got of it.

The service checks every sentence, binds citations by itself, and fills in with extracts; so what the user gets says
little of the model. Each answer is therefore judged twice: as it was shown, and as it was written, with the model's own
markers as its only citations. Asked with the option `trace`, without which the service does not tell what was written.

A strict service stops reading after three unsupported sentences in a row: what the model would have gone on to write
is not judged.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from capstan.jobs.evaluate import abstention, citations
from capstan.jobs.evaluate.abstention import Gold
from capstan.jobs.evaluate.asking import Answer
from capstan.jobs.evaluate.citations import Judged
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.results import markdown_table
from capstan.jobs.evaluate.stats import difference_ci, randomization_test
from capstan.jobs.evaluate.verifier import Verifier

ABSTENTION = "I could not find an answer"
"""How an abstention begins: the service's own, and the one that the assistant is trained to write."""
_MARKER = re.compile(r"(?<!\w)\[ ?(\d{1,3}(?: ?[,;] ?\d{1,3}){0,7}) ?\]")
"""`[1]` and `[1, 2]`; not the index in `argv[1]`."""
Scored = list[tuple[Answer, list[Judged]]]
Metric = Callable[[Sequence[Judged]], float | None]


def as_written(answer: Answer) -> Answer:
    """The answer as if the service had shown what the model wrote. An answer without a model's text has an error.

    Raises `EvaluateError` if the service did not tell.
    """
    if answer.error is not None:
        return answer
    if "written" not in answer.details:
        raise EvaluateError("the answers do not say what the model wrote: ask with --options '{\"trace\": true}'")
    text = str(answer.details["written"])
    if not text and not answer.abstained:
        return replace(answer, error=f"the language model was not heard: {answer.details.get('note')}")
    mode = "abstained" if answer.abstained or text.strip().startswith(ABSTENTION) else "generated"
    found = [
        {"type": "url_citation", "url_citation": {"id": int(number), "start_index": m.start(), "end_index": m.end()}}
        for m in _MARKER.finditer(text)
        for number in re.findall(r"\d+", m.group(1))
    ]
    return replace(answer, text=text, annotations=found, details={**answer.details, "mode": mode})


def scorecard(answers: Sequence[Answer], gold: Gold, verifier: Verifier, *, seed: int) -> tuple[dict[str, Any], Scored]:
    """Citations of the answerable questions, abstention over all, and how the answers came about."""
    judged = [
        (a, [] if a.error is not None or a.abstained else citations.judge(a, verifier))
        for a in answers
        if a.condition == "given"
    ]
    modes = Counter(str(a.details.get("mode")) for a, _ in judged if a.error is None)
    scores = {
        "modes": dict(modes),
        "citations": citations.score(judged, seed=seed),
        "abstention": abstention.score(answers, gold, seed=seed),
    }
    return scores, judged


def _recall(judged: Sequence[Judged]) -> float | None:
    return sum(j.together.supported for j in judged) / len(judged) if judged else None


def _recall_own(judged: Sequence[Judged]) -> float | None:
    own = [j.together.supported and not j.sentence.borrowed for j in judged]
    return sum(own) / len(own) if own else None


def _precision(judged: Sequence[Judged]) -> float | None:
    found = [counts for j in judged for counts in j.precise.values()]
    return sum(found) / len(found) if found else None


METRICS: dict[str, Metric] = {"recall": _recall, "recall_own_marker": _recall_own, "precision": _precision}


def compared(a: Scored, b: Scored, *, seed: int) -> dict[str, dict[str, Any]]:
    """Each metric's mean over the questions for which both arms have one, and the difference with interval and p."""
    pairs = list(zip(a, b, strict=True))
    found: dict[str, dict[str, Any]] = {}
    for name, metric in METRICS.items():
        both = [(metric(x), metric(y)) for (_, x), (_, y) in pairs]
        scored = [(x, y) for x, y in both if x is not None and y is not None]
        found[name] = {"n": len(scored), **(_difference(scored, seed) if scored else {})}
    return found


def _difference(scored: Sequence[tuple[float, float]], seed: int) -> dict[str, Any]:
    one, other = [x for x, _ in scored], [y for _, y in scored]
    low, high = difference_ci(one, other, seed=seed)
    return {
        "a": round(sum(one) / len(one), 4),
        "b": round(sum(other) / len(other), 4),
        "difference": round((sum(one) - sum(other)) / len(one), 4),
        "ci95": [round(low, 4), round(high, 4)],
        "p": randomization_test(one, other, seed=seed),
    }


def contest(a: Sequence[Answer], b: Sequence[Answer], gold: Gold, verifier: Verifier, *, seed: int) -> dict[str, Any]:
    """Both arms as written and as shown, and their differences question by question. `a` and `b` are in one order."""
    found: dict[str, Any] = {}
    for name, view in (("as_written", as_written), ("as_shown", lambda answer: answer)):
        (of_a, judged_a), (of_b, judged_b) = (
            scorecard([view(answer) for answer in answers], gold, verifier, seed=seed) for answers in (a, b)
        )
        found[name] = {"a": of_a, "b": of_b, "comparison": compared(judged_a, judged_b, seed=seed)}
    return found


def tables(found: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Both views as Markdown."""
    rows, tested = [], []
    for view, title in (("as_written", "as the model wrote it"), ("as_shown", "as the user gets it")):
        for arm, name in zip("ab", names, strict=True):
            card = found[view][arm]
            shares = [card["citations"][k]["value"] for k in ("precision", "recall", "recall_own_marker")]
            shares += [card["abstention"][k]["value"] for k in ("precision", "recall", "false_abstention")]
            modes = ", ".join(f"{mode} {count}" for mode, count in sorted(card["modes"].items()))
            rows.append([f"{name}, {title}", *map(_number, shares), modes])
        for metric, entry in found[view]["comparison"].items():
            if entry["n"]:
                low, high = entry["ci95"]
                numbers = [f"{entry['difference']:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{entry['p']:.4f}"]
                tested.append([f"{metric.replace('_', ' ')}, {title}", str(entry["n"]), *numbers])
    head = ["answers", "citation precision", "citation recall", "with its own marker", "abstention precision"]
    head += ["abstention recall", "answerable, yet abstained", "answers by mode"]
    difference = f"{names[0]} - {names[1]}"
    return f"{markdown_table(head, rows)}\n\n{markdown_table(['metric', 'n', difference, '95% CI', 'p'], tested)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
