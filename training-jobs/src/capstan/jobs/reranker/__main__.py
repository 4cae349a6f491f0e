"""The reranker job: `mine` pairs, `train`, `export` the artifact, `evaluate` an artifact on the dev questions."""

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from capstan.common.encoder_graph import UnsupportedModel
from capstan.common.models import ModelRef
from capstan.common.provenance import provenance
from capstan.common.settings import load
from capstan.jobs.command import run_job
from capstan.jobs.corpus.manifest import DOCUMENTS, read_manifest
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.metrics import TrainingSettings
from capstan.jobs.reranker.candidates import collect, read_candidates
from capstan.jobs.reranker.card import model_card
from capstan.jobs.reranker.errors import RerankerError
from capstan.jobs.reranker.evaluate import report
from capstan.jobs.reranker.export import export, logits
from capstan.jobs.reranker.labels import Labels
from capstan.jobs.reranker.mine import PAIRS, make_examples, mine_all
from capstan.jobs.reranker.pairs import read_pairs, tokenize
from capstan.jobs.reranker.recipe import Recipe, load_recipe
from capstan.jobs.reranker.search import Retriever

MINED = "mined.json"


class MineSettings(TrainingSettings):
    """Environment of `mine`, which asks the retriever as a tenant."""

    identity_secret: SecretStr = Field(
        validation_alias="CAPSTAN_IDENTITY_SECRET",
        min_length=32,
        description="Key that signs the tenant identity; the retriever's own.",
    )


def main() -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args()

    def work() -> int:
        recipe = load_recipe(arguments.recipe)
        arguments.out.mkdir(parents=True, exist_ok=True)
        return int(arguments.run(arguments, recipe))

    return run_job(work, stopped="stopped; the same command goes on from there", mistakes=(UnsupportedModel,))


def _provenance() -> dict[str, Any]:
    """Where what is written comes from; absolute paths are another machine's business and cut to their names."""
    words = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    return provenance(" ".join(["python -m capstan.jobs.reranker", *words]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m capstan.jobs.reranker", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, text in (
        ("mine", _mine, "make queries from the corpus and find hard negatives with the retriever"),
        ("train", _train, "train on the pairs; goes on from its checkpoint"),
        ("export", _export, "write the int8 artifact with its card and manifest"),
        ("evaluate", _evaluate, "measure an artifact on the dev questions"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--recipe", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True, help="directory of the run")
        command.set_defaults(run=run)
        if name == "mine":
            command.add_argument("--corpus", type=Path, required=True, help="directory that the corpus job made")
            command.add_argument("--labels", type=Path, required=True, help="directory with questions.jsonl")
            command.add_argument("--retriever", required=True, help="base URL of a retriever that holds the corpus")
            command.add_argument("--tenant", default="shared")
        if name in ("export", "evaluate"):
            command.add_argument("--artifact", type=Path, required=True, help="directory of the artifact")
    return parser


def _mine(arguments: argparse.Namespace, recipe: Recipe) -> int:
    settings, steps = load(MineSettings), Steps()
    manifest = read_manifest(arguments.corpus)
    if manifest is None:
        raise RerankerError(f"{arguments.corpus} holds no corpus; run the corpus job first")
    lines = (arguments.corpus / DOCUMENTS).read_text(encoding="utf-8").splitlines()
    labels = Labels(arguments.labels)
    examples = make_examples(recipe, [json.loads(line) for line in lines], labels)
    with Retriever(arguments.retriever, arguments.tenant, settings.identity_secret.get_secret_value()) as search:
        dev = labels.questions("dev")
        with steps.step("dev questions", len(dev)) as advance:
            collect(dev, search, recipe.evaluation.candidates, arguments.out, advance)
        with steps.step("mine", len(examples), "queries") as advance:
            kept = mine_all(examples, search, recipe, arguments.out, advance)
    kinds = Counter(pair["kind"] for pair in read_pairs(arguments.out / PAIRS))
    mined = {
        **_provenance(),
        "recipe_sha256": recipe.hash,
        "corpus_documents_sha256": manifest["documents_sha256"],
        "labels_questions_sha256": labels.sha256,
        "queries": len(examples),
        "pairs": kept,
        "kinds": dict(kinds),
    }
    (arguments.out / MINED).write_text(json.dumps(mined, indent=1) + "\n")
    steps.say(f"mine: {kept:,} of {len(examples):,} queries have their document among what is found, and negatives")
    return 0


def _train(arguments: argparse.Namespace, recipe: Recipe) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to others
    import torch
    from tokenizers import Tokenizer

    from capstan.jobs.reranker.train import Run, train

    torch.set_num_threads(os.cpu_count() or 1)
    settings = load(TrainingSettings)
    base = ModelRef.parse(recipe.base).resolve(settings.cache_dir)
    tokenizer: Any = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    plan = recipe.training
    pairs = [pair for pair in read_pairs(arguments.out / PAIRS) if pair["kind"] in plan.kinds][: plan.queries]
    groups = tokenize(pairs, tokenizer, negatives=plan.negatives, longest=max(plan.max_tokens))
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))
    special = (tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]"))
    started = time.monotonic()
    run = Run(arguments.out, say=Steps().say, stop=lambda: bool(stopped), metrics_port=settings.metrics_port)
    if not train(base, groups, recipe, special, run):
        return 130
    print(f"trained in {(time.monotonic() - started) / 60:.1f} min; next: export")
    return 0


def _export(arguments: argparse.Namespace, recipe: Recipe) -> int:
    from capstan.jobs.reranker.train import CHECKPOINT, MODEL, START, losses_of

    model = arguments.out / MODEL
    if not model.is_dir():
        raise RerankerError(f"{model} is missing; run train first")
    plan, losses = recipe.training, losses_of(arguments.out / CHECKPOINT)
    mined = json.loads((arguments.out / MINED).read_text())
    base = ModelRef.parse(recipe.base).resolve(load(TrainingSettings).cache_dir)

    def describe(quality: dict[str, Any], size: int) -> tuple[str, dict[str, Any]]:
        last = losses[-50:]
        facts = {
            **mined,
            "used": min(plan.queries, sum(mined["kinds"].get(kind, 0) for kind in plan.kinds)),
            "steps": len(losses),
            "loss": sum(last) / len(last),
            "bytes": size,
        }
        head = {"name": recipe.name, **_provenance(), "recipe_sha256": recipe.hash, "pairs": mined, "dev": quality}
        return model_card(recipe, facts, quality), head

    quality = export(
        model,
        arguments.out / START,
        base / "tokenizer.json",
        arguments.artifact,
        read_candidates(arguments.out),
        describe,
        recipe,
    )
    print(json.dumps(quality, indent=1))
    return 0


def _evaluate(arguments: argparse.Namespace, recipe: Recipe) -> int:
    questions = read_candidates(arguments.out)
    values = logits(arguments.artifact, questions, recipe.evaluation.passage_tokens)
    print(json.dumps({**_provenance(), **report(questions, values, recipe.evaluation.support, recipe.seed)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
