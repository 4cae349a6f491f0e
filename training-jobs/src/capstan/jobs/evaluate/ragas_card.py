"""The RAGAS scorecard. Runs in the environment `ragas` (requirements/ragas.txt), on the samples that `score` wrote.

    python -m capstan.jobs.evaluate.ragas_card --samples F --rows F --out F
        [--embeddings URL] [--judge-url URL --judge-model NAME [--judge-key KEY] --questions 20 --workers 4]

Every metric is ragas' own code. Each prints n, n_scored, n_failed, n_abstained and n_not_applicable; nothing
is imputed: where ragas itself would put a number for "nothing to measure" (1.0 for an answer without
quotations), the row is not applicable here. The judge is named, and first has to tell faithful answers from
unfaithful ones whose verdict is known; a judge that cannot is called too weak, and its figures are kept
apart from the headline.

Rows are kept as they come, so an interrupted run goes on; `--again` forgets the failed ones.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from capstan.jobs.evaluate.ragas_rows import Row, Sample, Scores, run, summary

AUROC_BAR = 0.8
FAILED_BAR = 0.2
"""A judge is trusted if it ranks faithful above unfaithful this well and fails on no more than this share."""


def sanity_samples(samples: Sequence[Sample], size: int, *, seed: int) -> list[dict[str, Any]]:
    """`size` reference answers against their own text, and against another question's: verdicts that are known."""
    usable = [s for s in samples if s["reference"].strip()]
    chosen = random.Random(seed).sample(usable, min(size, len(usable)))  # noqa: S311
    found: list[dict[str, Any]] = []
    for one, other in zip(chosen, [*chosen[1:], *chosen[:1]], strict=True):
        for faithful, context in ((True, one["reference"]), (False, other["reference"])):
            digest = hashlib.sha256(f"{one['reference']}\0{context}".encode()).hexdigest()[:24]
            found.append(
                {
                    "key": f"sanity-{digest}",
                    "question": one["question"],
                    "response": one["reference"][:600],
                    "contexts": [context],
                    "abstained": False,
                    "faithful": faithful,
                }
            )
    return found


def verdict_on_judge(samples: Sequence[Sample], rows: Scores) -> dict[str, Any]:
    """Accuracy at one half, AUROC, failures, and whether the judge can be trusted."""
    scored = [(s["faithful"], row.value) for s in samples if (row := _of(rows, s)) and row.value is not None]
    high = [value for faithful, value in scored if faithful]
    low = [value for faithful, value in scored if not faithful]
    area = sum((h > v) + (h == v) / 2 for h in high for v in low) / (len(high) * len(low)) if high and low else None
    right = sum((value >= 0.5) == faithful for faithful, value in scored)
    failed = sum(1 for s in samples if (row := _of(rows, s)) and row.failed is not None)
    trusted = area is not None and area >= AUROC_BAR and failed <= FAILED_BAR * len(samples)
    return {
        "n": len(samples),
        "n_scored": len(scored),
        "n_failed": failed,
        "accuracy": round(right / len(scored), 4) if scored else None,
        "auroc": None if area is None else round(area, 4),
        "bar": f"AUROC of at least {AUROC_BAR} and at most {FAILED_BAR:.0%} failed",
        "trusted": trusted,
        "verdict": "can be trusted" if trusted else "too weak to be trusted: its figures are no headline",
    }


def _of(rows: Scores, sample: Sample) -> Row | None:
    return rows.get("faithfulness", sample["key"])


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True, help="where each row is kept")
    parser.add_argument("--out", type=Path, required=True, help="the scorecard, JSON")
    parser.add_argument("--embeddings", help="the retriever's URL (with CAPSTAN_IDENTITY_SECRET)")
    parser.add_argument("--judge-url", help="any OpenAI-compatible endpoint, up to /v1")
    parser.add_argument("--judge-model")
    judge_key = os.environ.get("CAPSTAN_JOBS_JUDGE_KEY", "none")
    parser.add_argument("--judge-key", default=judge_key, help="default: CAPSTAN_JOBS_JUDGE_KEY")
    parser.add_argument("--judge-tokens", type=int, default=1024, help="longest answer of the judge")
    parser.add_argument("--questions", type=int, help="judge only so many, drawn at random; default: all")
    parser.add_argument("--sanity", type=int, default=10, help="reference answers in the check of the judge")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--timeout", type=float, default=180, help="seconds that a metric of one sample may take")
    parser.add_argument("--again", action="store_true", help="try failed rows again")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if bool(arguments.judge_url) != bool(arguments.judge_model):
        parser.error("a judge needs both --judge-url and --judge-model")
    if not arguments.samples.is_file():
        parser.error(f"{arguments.samples} is not there: make it with 'answer_quality score'")
    os.environ["RAGAS_DO_NOT_TRACK"] = "true"  # it reports use to its makers otherwise
    card = asyncio.run(scorecard(arguments))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(json.dumps(card, indent=1, ensure_ascii=False) + "\n")


async def scorecard(arguments: argparse.Namespace) -> dict[str, Any]:
    """All metrics of all samples; the judged ones of a sample of them."""
    from capstan.jobs.evaluate import ragas_metrics

    samples = [json.loads(line) for line in arguments.samples.read_text().splitlines()]
    embeddings = ragas_metrics.embeddings(arguments.embeddings) if arguments.embeddings else None
    rows = Scores(arguments.rows, again=arguments.again)
    plain = ragas_metrics.without_judge(embeddings)
    await run(plain, samples, rows, workers=16, timeout_s=arguments.timeout)
    card: dict[str, Any] = {
        **ragas_metrics.versions(),
        "seed": arguments.seed,
        "without_judge": summary(plain, samples, rows, seed=arguments.seed),
        "judge": None,
    }
    if arguments.judge_url:
        card["judge"] = await _judged(arguments, samples, embeddings)
    return card


async def _judged(arguments: argparse.Namespace, samples: Sequence[Sample], embeddings: Any) -> dict[str, Any]:
    from capstan.jobs.evaluate import ragas_metrics

    metrics = ragas_metrics.with_judge(
        arguments.judge_url, arguments.judge_model, arguments.judge_key, embeddings, tokens=arguments.judge_tokens
    )
    name = arguments.judge_model.replace("/", "-")
    rows = Scores(arguments.rows.with_name(f"{arguments.rows.stem}-{name}.jsonl"), again=arguments.again)
    pace = {"workers": arguments.workers, "timeout_s": arguments.timeout}
    known = sanity_samples(samples, arguments.sanity, seed=arguments.seed)
    await run({"faithfulness": metrics["faithfulness"]}, known, rows, **pace)
    draw = random.Random(arguments.seed)  # noqa: S311
    chosen = draw.sample(list(samples), min(arguments.questions or len(samples), len(samples)))
    await run(metrics, chosen, rows, **pace)
    return {
        "model": arguments.judge_model,
        "sanity": verdict_on_judge(known, rows),
        "questions": len(chosen),
        "of": len(samples),
        "metrics": summary(metrics, chosen, rows, seed=arguments.seed),
    }


if __name__ == "__main__":
    main()
