"""The evaluation job: `tune` on dev, `run` on test, `ab` two arms, show the `feedback` of users."""

import argparse
import sys
from pathlib import Path

from pydantic import Field, SecretStr

from capstan.common.settings import load
from capstan.jobs.command import JobSettings, run_job
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate import commands
from capstan.jobs.evaluate.commands import Context
from capstan.jobs.evaluate.questions import LABELS
from capstan.jobs.evaluate.recipe import RECIPE, load_recipe

_DOCS = Path(__file__).parents[5] / "docs"


class Settings(JobSettings):
    """Environment of the job."""

    identity_secret: SecretStr = Field(
        SecretStr("evaluation" * 4),
        validation_alias="CAPSTAN_IDENTITY_SECRET",
        min_length=32,
        description="Key that signs the tenant identity; that of services given by URL. Those started here take any.",
    )
    api_key: SecretStr | None = Field(None, description="Key for a gateway, where that is what is asked.")


def main() -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args()
    stopped = "stopped; what was asked so far is kept, run it again and it goes on"
    return run_job(lambda: print(arguments.run(_context(arguments), arguments)), stopped=stopped)


def _context(arguments: argparse.Namespace) -> Context:
    settings = load(Settings)
    return Context(
        recipe=load_recipe(arguments.recipe),
        labels=arguments.labels,
        corpus=arguments.corpus or settings.cache_dir / "corpus/recipe",
        cache=settings.cache_dir / "evaluate",
        secret=settings.identity_secret.get_secret_value(),
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        urls=dict(_named(kind, text) for kind in ("retriever", "reranker") for text in getattr(arguments, kind) or ()),
        steps=Steps(),
    )


def _named(kind: str, text: str) -> tuple[str, str]:
    """`NAME=URL`, or a URL alone for the default."""
    name, separator, url = text.partition("=")
    if not separator or "/" in name:
        name, url = "default", text
    return f"{kind}/{name}", url


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--recipe", type=Path, default=RECIPE, help="indexes, rerankers and arms")
    common.add_argument("--labels", type=Path, default=LABELS, help="directory of the labels")
    common.add_argument("--corpus", type=Path, help="directory of the built corpus; default: the one in the cache")
    for kind in ("retriever", "reranker"):
        text = f"use this {kind} instead of starting one (NAME of the recipe, default where left out)"
        common.add_argument(f"--{kind}", action="append", metavar="[NAME=]URL", help=text)
    parser = argparse.ArgumentParser(prog="python -m capstan.jobs.evaluate", description=__doc__)
    names = parser.add_subparsers(required=True, metavar="command")

    tune = names.add_parser("tune", parents=[common], help="score arms on the dev split and print the tables")
    tune.add_argument("--arms", help="comma-separated; default: all of the recipe")
    tune.set_defaults(run=commands.tune)

    run = names.add_parser("run", parents=[common], help="score arms and write the report")
    run.add_argument("--arms", help="comma-separated; default: all of the recipe")
    run.add_argument("--split", choices=("dev", "test"), default="test")
    run.add_argument("--results", type=Path, default=_DOCS / "results/rag.json", help="JSON to write")
    run.add_argument("--report", type=Path, default=_DOCS / "rag.md", help="Markdown whose tables are replaced")
    run.set_defaults(run=commands.run)

    ab = names.add_parser("ab", parents=[common], help="compare two arms on the same questions")
    ab.add_argument("--a", required=True, help="an arm of the recipe, or changes of the default: mode=bm25,rerank=null")
    ab.add_argument("--b", required=True)
    ab.add_argument("--split", choices=("dev", "test"), default="dev")
    ab.add_argument("--rows", type=Path, help="where the per-question rows go; default: the cache")
    ab.add_argument("--answers", metavar="URL", help="compare the answers of docs:A and docs:B there")
    ab.add_argument("--limit", type=int, help="ask only the first so many questions")
    ab.set_defaults(run=commands.ab)

    known = names.add_parser("known-items", parents=[common], help="score arms on titles and headings, kept apart")
    known.add_argument("--arms", default="default,hybrid,bm25,dense")
    known.set_defaults(run=commands.known_items)

    feedback = names.add_parser("feedback", parents=[common], help="what users clicked and thought, by arm")
    feedback.add_argument("--url", required=True, help="the generator, or a gateway before it")
    feedback.set_defaults(run=commands.feedback)
    return parser


if __name__ == "__main__":
    sys.exit(main())
