"""How good whole answers are: `python -m capstan.jobs.evaluate.answer_quality COMMAND`.

ask        ask an arm the questions of a split, as they are and with their gold documents withheld
score      citations, abstention and evidence of those answers; writes figures, and samples for ragas
calibrate  on dev: what each min_relevance would do, and which to take
sample     50 citations for a person to judge
agreement  what the person's verdicts say about precision and about the verifier
card       all of it as Markdown tables, and as keys of docs/results/rag.json
writers    two arms with different language models, as each wrote and as the user gets it
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt

from capstan.common.provenance import provenance
from capstan.jobs.evaluate import abstention, citations, context, handcheck, writers
from capstan.jobs.evaluate.answer_card import keys, markdown, ragas_keys
from capstan.jobs.evaluate.asking import Answer, ask_all, headers_for, meaning_of, paired, plan
from capstan.jobs.evaluate.client import Service
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.questions import LABELS, QUESTIONS, Question, load_questions
from capstan.jobs.evaluate.results import write_section, write_table
from capstan.jobs.evaluate.verifier import CachedEmbedder, Verifier

HAND_CHECK = LABELS / "citations-hand-check.jsonl"
RESULTS = LABELS.parents[1] / "docs/results"
_SEED = 20261124


def main() -> None:
    """Command line entry point."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except EvaluateError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\nstopped; what was asked is kept")


def answers_of(arguments: argparse.Namespace, options: Mapping[str, Any]) -> tuple[list[Question], list[Answer]]:
    """The questions of the split and an answer to each, asked now where it is not kept. Raises `EvaluateError`."""
    questions = load_questions(arguments.labels, None if arguments.split == "all" else arguments.split)
    return questions, asyncio.run(_answers(arguments, questions[: arguments.questions], options))


async def _answers(
    arguments: argparse.Namespace, questions: Sequence[Question], options: Mapping[str, Any]
) -> list[Answer]:
    headers = headers_for(arguments.key, os.environ.get("CAPSTAN_IDENTITY_SECRET"))
    timeout = httpx2.Timeout(300, connect=5)
    async with httpx2.AsyncClient(base_url=arguments.url, timeout=timeout, trust_env=False) as client:
        meaning = await meaning_of(client, arguments.model, headers)
        asks = plan(questions, arguments.model, options, meaning)
        path = arguments.answers / f"{arguments.model.replace(':', '-').replace('/', '-')}.jsonl"
        return await ask_all(asks, client, headers, path, concurrency=arguments.concurrency, say=_say)


def ask(arguments: argparse.Namespace) -> None:
    """Ask, and say what came."""
    _, found = answers_of(arguments, json.loads(arguments.options))
    failed = [answer for answer in found if answer.error]
    modes: dict[str, int] = {}
    for answer in found:
        if not answer.error:
            modes[str(answer.details.get("mode"))] = modes.get(str(answer.details.get("mode")), 0) + 1
    _print(json.dumps({"answers": len(found), "failed": len(failed), "modes": modes}))
    for answer in failed[:3]:
        _say(f"{answer.id}: {answer.error}")


def score(arguments: argparse.Namespace) -> None:
    """Measure the answers; write the figures and the samples."""
    questions, found = answers_of(arguments, json.loads(arguments.options))
    given = [answer for answer in found if answer.condition == "given"]
    judged = _judged(given, arguments.retriever)
    usable = [answer for answer in given if answer.error is None]
    sections = context.gold_sections(arguments.labels / QUESTIONS, arguments.documents)
    samples = [context.sample(question, a, sections.get(a.id, [])) for question, a in paired(usable, questions)]
    figures = {
        **provenance(),
        "model": arguments.model,
        "split": arguments.split,
        "questions": len(given),
        "withheld": len(found) - len(given),
        "citations": citations.score(judged, seed=_SEED),
        "abstention": abstention.score(found, {q.id: q.documents for q in questions}, seed=_SEED),
        "context": context.score(samples, failed=len(given) - len(usable), seed=_SEED),
    }
    _write_lines(arguments.answers / "samples.jsonl", samples)
    _write_lines(arguments.answers / "citations.jsonl", handcheck.pairs(judged))
    _write_json(arguments.out, figures)
    _print(json.dumps(figures, indent=1))


def calibrate(arguments: argparse.Namespace) -> None:
    """The trade-off of min_relevance on dev, from the evidence alone: no language model is asked."""
    arguments.split = "dev"
    questions, found = answers_of(arguments, {"extractive": True, "min_relevance": 0.0})
    both = abstention.asked_both_ways(found)
    by_evidence = abstention.without_evidence({q.id: q.documents for q in questions})
    views = {
        "all": abstention.scores(found),
        "pairs": abstention.scores([answer for answer in found if answer.id in both]),
        "by evidence": abstention.scores(found, by_evidence),
    }
    results = {name: abstention.calibrate(rows, arguments.precision) for name, rows in views.items()}
    for name, result in results.items():
        best = result["recommended"]
        _print(f"{name}: {result['answerable']} answerable, {result['unanswerable']} not; AUROC {result['auroc']}")
        _print(f"{'min_relevance':>14}{'abstained':>11}{'precision':>11}{'recall':>9}{'wrongly':>9}")
        for point in result["curve"]:
            _print(
                f"{point['min_relevance']:>14.4f}{point['abstained']:>11.0f}{point['precision']:>11.3f}"
                f"{point['recall']:>9.3f}{point['false_abstention']:>9.3f}"
            )
        wanted = f"precision of {arguments.precision} or more"
        _print(f"take min_relevance {best['min_relevance']}: {best}\n" if best else f"no threshold has {wanted}\n")
    if arguments.out:
        _write_json(arguments.out, {**provenance(), **results})


def sample(arguments: argparse.Namespace) -> None:
    """Write the sample that a person judges."""
    path = arguments.answers / "citations.jsonl"
    if not path.is_file():
        raise EvaluateError(f"{path} is not there; run 'score' first")
    lines = handcheck.sample(handcheck.read(path), arguments.size, seed=_SEED)
    handcheck.write(arguments.hand_check, lines, force=arguments.force)
    _print(f"{len(lines)} citations to judge are in {arguments.hand_check}: set verdict and reason in each line")


def agreement(arguments: argparse.Namespace) -> None:
    """Print what the filled sample says."""
    _print(json.dumps(handcheck.agreement(handcheck.read(arguments.hand_check)), indent=1))


def card(arguments: argparse.Namespace) -> None:
    """Put tables and keys into the report and its JSON."""
    figures, ragas = _read_json(arguments.out), _read_json(arguments.ragas)
    by_hand = handcheck.agreement(handcheck.read(arguments.hand_check)) if arguments.hand_check.is_file() else {}
    if not figures:
        raise EvaluateError(f"{arguments.out} is not there; run 'score' first")
    for name, table in markdown(figures, ragas, by_hand).items():
        write_table(arguments.report, name, table)
        _print(f"{name}\n\n{table}\n")
    write_section(arguments.results, "answers", keys(figures, by_hand), figures["command"])
    if ragas:
        write_section(arguments.results, "ragas", {"ragas": ragas_keys(ragas)}, ragas["command"])


def contest(arguments: argparse.Namespace) -> None:
    """Ask both arms, judge what each wrote and what the user gets; write the figures."""
    options = {**json.loads(arguments.options), "trace": True}
    answers: dict[str, list[Answer]] = {}
    for arm in (arguments.a, arguments.b):
        arguments.model = arm
        questions, answers[arm] = answers_of(arguments, options)
    gold = {q.id: q.documents for q in questions}
    a, b = answers[arguments.a], answers[arguments.b]
    result = writers.contest(a, b, gold, Verifier(embedder(arguments.retriever)), seed=_SEED)
    head = {**provenance(), "a": arguments.a, "b": arguments.b, "split": arguments.split, "answers": len(a)}
    _write_json(arguments.out, {**head, **result})
    _print(writers.tables(result, (arguments.a, arguments.b)))


def embedder(retriever: str | None) -> CachedEmbedder | None:
    """Embeddings of the retriever at a URL, signed with CAPSTAN_IDENTITY_SECRET. Raises `EvaluateError`."""
    if not retriever:
        return None
    secret = os.environ.get("CAPSTAN_IDENTITY_SECRET")
    if not secret:
        raise EvaluateError("--retriever needs CAPSTAN_IDENTITY_SECRET, to say who asks")
    service = Service(retriever, secret)

    def fetch(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = service.call("POST", "/v1/embeddings", json={"input": list(texts)})["data"]
        return np.asarray([row["embedding"] for row in rows], dtype=np.float32)

    return CachedEmbedder(fetch)


def _judged(given: Sequence[Answer], retriever: str | None) -> list[tuple[Answer, list[citations.Judged]]]:
    verifier = Verifier(embedder(retriever))
    usable = [a for a in given if a.error is None and not a.abstained]
    verdicts = {a.key: citations.judge(a, verifier) for a in usable}
    return [(a, verdicts.get(a.key, [])) for a in given]


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _write_json(path: Path, figures: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    asking, files = _asking(), _files()
    commands.add_parser("ask", parents=[asking, files]).set_defaults(run=ask)
    scoring = commands.add_parser("score", parents=[asking, files])
    scoring.add_argument("--retriever", help="its URL, for the verifier's embeddings")
    scoring.add_argument("--documents", type=Path, required=True, help="documents.jsonl of the corpus")
    scoring.set_defaults(run=score)
    calibrating = commands.add_parser("calibrate", parents=[asking])
    calibrating.add_argument("--precision", type=float, default=abstention.PRECISION_WANTED)
    calibrating.add_argument("--out", type=Path)
    calibrating.set_defaults(run=calibrate)
    sampling = commands.add_parser("sample", parents=[files])
    sampling.add_argument("--size", type=int, default=50)
    sampling.add_argument("--force", action="store_true", help="overwrite verdicts")
    sampling.add_argument("--answers", type=Path, default=Path(".capstan/answers"))
    sampling.set_defaults(run=sample)
    commands.add_parser("agreement", parents=[files]).set_defaults(run=agreement)
    two = commands.add_parser("writers", parents=[asking])
    two.add_argument("--a", required=True, help="a model: docs:assistant")
    two.add_argument("--b", required=True, help="the one to hold it against: docs:base")
    two.add_argument("--retriever", help="its URL, for the verifier's embeddings")
    two.add_argument("--out", type=Path, default=RESULTS / "assistant-rag.json", help="the figures")
    two.set_defaults(run=contest)
    writing = commands.add_parser("card", parents=[files])
    writing.add_argument("--results", type=Path, default=RESULTS / "rag.json")
    writing.add_argument("--report", type=Path, default=RESULTS.parent / "rag.md")
    writing.set_defaults(run=card)
    return parser


def _asking() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="a gateway, or the generator itself")
    parser.add_argument(
        "--key", default=os.environ.get("CAPSTAN_JOBS_API_KEY"), help="the gateway's; default: CAPSTAN_JOBS_API_KEY"
    )
    parser.add_argument("--model", default="docs", help="docs, or docs:<arm>")
    parser.add_argument("--options", default="{}", help="options of each request, as JSON")
    parser.add_argument("--labels", type=Path, default=LABELS)
    parser.add_argument("--split", choices=("dev", "test", "all"), default="test")
    parser.add_argument("--questions", type=int, help="only the first so many")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--answers", type=Path, default=Path(".capstan/answers"), help="where answers are kept")
    return parser


def _files() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--out", type=Path, default=RESULTS / "answers.json", help="the figures")
    parser.add_argument("--ragas", type=Path, default=RESULTS / "ragas.json", help="what ragas_card wrote")
    parser.add_argument("--hand-check", type=Path, default=HAND_CHECK)
    return parser


if __name__ == "__main__":
    main()
