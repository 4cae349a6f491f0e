"""Arms over questions: per-question rows, means with intervals, paired comparisons."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.metrics import BUCKETS, bucket, documents_of, retrieval_metrics
from capstan.jobs.evaluate.questions import Question
from capstan.jobs.evaluate.rankings import Rankings
from capstan.jobs.evaluate.recipe import Arm, NamedArm, Recipe
from capstan.jobs.evaluate.stats import bootstrap_ci, difference_ci, holm, randomization_test
from capstan.jobs.evaluate.words import word_recall

METRICS = ("ndcg10", "recall5", "recall10", "mrr", "success1", "context_precision", "evidence_words")
HEADLINE = "ndcg10"
_TOP = 10


@dataclass(frozen=True, slots=True)
class Result:
    """An arm's rows, one a question, in the questions' order."""

    name: str
    rows: list[dict[str, Any]]

    def scores(self, metric: str) -> list[float]:
        """The metric of each question."""
        return [float(row[metric]) for row in self.rows]

    def mean(self, metric: str) -> float:
        """The metric's mean over the questions."""
        return sum(self.scores(metric)) / len(self.rows)


def evaluate(
    arms: Mapping[str, Arm], questions: Sequence[Question], recipe: Recipe, rankings: Rankings, steps: Steps
) -> dict[str, Result]:
    """Every arm on every question."""
    results = {}
    for name, arm in arms.items():
        with steps.step(f"arm {name}", len(questions), "questions") as advance:
            results[name] = Result(name, list(_rows(name, arm, questions, recipe, rankings, advance)))
    return results


def _rows(
    name: str,
    arm: Arm,
    questions: Sequence[Question],
    recipe: Recipe,
    rankings: Rankings,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    rows = []
    for question in questions:
        hits = rankings.ranking(arm, question)
        chunk_documents = [hit.document for hit in hits]
        documents = documents_of(chunk_documents)
        rows.append(
            {
                "arm": name,
                "question": question.id,
                "split": question.split,
                "source": question.source,
                "bucket": bucket(documents, question.documents),
                **retrieval_metrics(chunk_documents, question.documents, recipe.passages),
                "evidence_words": word_recall(question.answer, rankings.evidence(arm, hits)),
                "top": documents[:_TOP],
            }
        )
        advance(1)
    return rows


def summary(result: Result, seed: int) -> dict[str, Any]:
    """Means of all metrics, the interval of nDCG@10, and how many questions ended in which bucket."""
    low, high = bootstrap_ci(result.scores(HEADLINE), seed=seed)
    buckets = Counter(row["bucket"] for row in result.rows)
    return {
        "n": len(result.rows),
        **{metric: round(result.mean(metric), 4) for metric in METRICS},
        "ci95": [round(low, 4), round(high, 4)],
        "buckets": {name: buckets[name] for name in BUCKETS},
    }


def comparison(a: Result, b: Result, seed: int, metric: str = HEADLINE) -> dict[str, Any]:
    """a minus b on the same questions: difference, interval, p, and how often a is better, equal, worse."""
    one, other = a.scores(metric), b.scores(metric)
    if [row["question"] for row in a.rows] != [row["question"] for row in b.rows]:
        raise ValueError(f"{a.name} and {b.name} were not asked the same questions")
    low, high = difference_ci(one, other, seed=seed)
    return {
        "metric": metric,
        "difference": round(a.mean(metric) - b.mean(metric), 4),
        "ci95": [round(low, 4), round(high, 4)],
        "p": round(randomization_test(one, other, seed=seed), 5),
        "better": sum(x > y for x, y in zip(one, other, strict=True)),
        "equal": sum(x == y for x, y in zip(one, other, strict=True)),
        "worse": sum(x < y for x, y in zip(one, other, strict=True)),
        "n": len(one),
    }


def table(results: Mapping[str, Result], named: Mapping[str, NamedArm], recipe: Recipe) -> dict[str, dict[str, Any]]:
    """For each arm: its summary, `p_vs_best_single`, and its comparison with its base, `p_holm` over all of these."""
    best = best_single(results, recipe)
    entries: dict[str, dict[str, Any]] = {}
    for name, result in results.items():
        arm = named[name]
        entry = {"change": arm.change, "base": arm.base, **summary(result, recipe.seed)}
        entry["p_vs_best_single"] = (
            None if best is None or name == best else comparison(result, results[best], recipe.seed)["p"]
        )
        if arm.base is not None and arm.base in results and arm.compare:
            compared = comparison(result, results[arm.base], recipe.seed)
            entry["vs_base"] = {**compared, "evidence_words": _words_vs(result, results[arm.base], recipe.seed)}
        entries[name] = entry
    adjusted = holm({name: entry["vs_base"]["p"] for name, entry in entries.items() if "vs_base" in entry})
    for name, p in adjusted.items():
        entries[name]["p_holm"] = round(p, 5)
    return entries


def best_single(results: Mapping[str, Result], recipe: Recipe) -> str | None:
    """The best of the single retrievers that were run; None if none was."""
    single = [name for name in recipe.single if name in results]
    return max(single, key=lambda name: results[name].mean(HEADLINE), default=None)


def _words_vs(a: Result, b: Result, seed: int) -> dict[str, Any]:
    compared = comparison(a, b, seed, "evidence_words")
    return {key: compared[key] for key in ("difference", "ci95", "p")}
