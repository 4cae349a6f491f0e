"""What the command line does. Every command returns what is printed."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.answer_arms import ask_arms, compare_answers
from capstan.jobs.evaluate.arms import Result, best_single, comparison, evaluate, table
from capstan.jobs.evaluate.asking import headers_for
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.feedback import feedback_table, read_feedback
from capstan.jobs.evaluate.questions import KNOWN_ITEMS, QUESTIONS, Question, load_known_items, load_questions
from capstan.jobs.evaluate.rankings import Rankings
from capstan.jobs.evaluate.recipe import NamedArm, Recipe, arm_named
from capstan.jobs.evaluate.results import write_section, write_table
from capstan.jobs.evaluate.services import Services
from capstan.jobs.evaluate.tables import ablation_table, scores_table

_COMPARED = ("ndcg10", "recall5", "mrr", "context_precision", "evidence_words")


@dataclass(frozen=True, slots=True)
class Context:
    """What every command works with. `urls` maps `retriever/NAME` and `reranker/NAME` to running services."""

    recipe: Recipe
    labels: Path
    corpus: Path
    cache: Path
    secret: str
    api_key: str | None
    urls: Mapping[str, str]
    steps: Steps

    def results(self, arms: Mapping[str, NamedArm], questions: list[Question]) -> dict[str, Result]:
        """All arms on all questions, the rows of each written to the cache."""
        with Services(self.recipe, self.corpus, self.cache, self.secret, self.urls, self.steps) as services:
            rankings = Rankings(self.recipe, services, self.cache)
            results = evaluate({n: a.arm for n, a in arms.items()}, questions, self.recipe, rankings, self.steps)
        for result in results.values():
            _write_rows(self.cache / "arms" / questions[0].split / f"{_file(result.name)}.jsonl", result.rows)
        return results


def tune(context: Context, arguments: argparse.Namespace) -> str:
    """The tables of the dev split."""
    arms = chosen(context.recipe, arguments.arms)
    results = context.results(arms, load_questions(context.labels, "dev"))
    return _tables(table(results, arms, context.recipe))


def run(context: Context, arguments: argparse.Namespace) -> str:
    """The section `retrieval` of the results, and its tables in the report."""
    arms = chosen(context.recipe, arguments.arms)
    questions = load_questions(context.labels, arguments.split)
    results = context.results(arms, questions)
    entries = table(results, arms, context.recipe)
    values = {
        "questions": len(questions),
        "split": arguments.split,
        "labels_sha256": sha256_of(context.labels / QUESTIONS),
        "best_single": best_single(results, context.recipe),
        "arms": entries,
    }
    write_section(arguments.results, "retrieval", values)
    write_table(arguments.report, "retrieval", scores_table(entries))
    write_table(arguments.report, "ablations", ablation_table(entries))
    return _tables(entries)


def ab(context: Context, arguments: argparse.Namespace) -> str:
    """The paired comparison of two arms; the rows of both are written."""
    if arguments.a == arguments.b:
        raise EvaluateError("A and B are the same arm")
    questions = load_questions(context.labels, arguments.split)[: arguments.limit]
    directory = context.cache / "ab"
    path = arguments.rows or directory / f"{_file(arguments.a)}--{_file(arguments.b)}.jsonl"
    names = (arguments.a, arguments.b)
    if arguments.answers:
        headers = headers_for(context.api_key, context.secret)
        asked = ask_arms(arguments.answers, names, questions, headers, directory)
        _write_rows(path, [row for name in names for row in asked[name]])
        compared = compare_answers(asked[arguments.a], asked[arguments.b], context.recipe.seed)
    else:
        results = context.results({name: arm_named(name, context.recipe) for name in names}, questions)
        a, b = results[arguments.a], results[arguments.b]
        _write_rows(path, [*a.rows, *b.rows])
        lines = (_line(a, b, comparison(a, b, context.recipe.seed, metric)) for metric in _COMPARED)
        compared = "\n".join(lines)
    return f"{compared}\nrows: {path}"


def known_items(context: Context, arguments: argparse.Namespace) -> str:
    """How well titles and headings find their own documents; these are no questions."""
    arms = chosen(context.recipe, arguments.arms)
    parts = []
    for kind, items in load_known_items(context.labels / KNOWN_ITEMS).items():
        results = context.results(arms, items)
        entries = table(results, arms, context.recipe)
        parts.append(f"{kind}: {len(items)} queries, each with one document\n\n{scores_table(entries)}")
    return "\n\n".join(parts)


def feedback(context: Context, arguments: argparse.Namespace) -> str:
    """The feedback report."""
    return feedback_table(read_feedback(arguments.url, headers_for(context.api_key, context.secret)))


def chosen(recipe: Recipe, names: str | None) -> dict[str, NamedArm]:
    """The arms of a comma-separated list, or all."""
    if names is None:
        return dict(recipe.arms)
    return {name: arm_named(name, recipe) for name in filter(None, map(str.strip, names.split(",")))}


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _tables(entries: dict[str, dict[str, Any]]) -> str:
    return f"{scores_table(entries)}\n\n{ablation_table(entries)}"


def _line(a: Result, b: Result, compared: Mapping[str, Any]) -> str:
    metric = compared["metric"]
    low, high = compared["ci95"]
    return (
        f"{metric:18} {a.name} {a.mean(metric):.3f}, {b.name} {b.mean(metric):.3f}: {compared['difference']:+.3f} "
        f"(95% CI {low:+.3f} to {high:+.3f}, p {compared['p']:.4f}; better {compared['better']}, equal "
        f"{compared['equal']}, worse {compared['worse']} of {compared['n']})"
    )


def _file(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
