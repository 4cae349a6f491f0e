"""The assistant job: instructions, SFT, preferences, DPO, evaluation, merge; `run` does all that is not done yet."""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

from pydantic import Field, SecretStr

from capstan.common.settings import load
from capstan.jobs.assistant import commands, evaluation_commands
from capstan.jobs.assistant.commands import Place
from capstan.jobs.assistant.recipe import load_recipe
from capstan.jobs.command import run_job
from capstan.jobs.evaluate.questions import LABELS
from capstan.jobs.metrics import TrainingSettings

_OPTIONS = ("url", "judge_url", "judge_model", "held_out", "limit", "format", "to", "report", "rag", "push", "variant")


class Settings(TrainingSettings):
    """Environment of the job."""

    api_key: SecretStr | None = Field(None, description="Key for the server given by --url.")
    judge_key: SecretStr | None = Field(None, description="Key for the judge given by --judge-url.")


def main() -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to others
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries; the steps say where they are
    warnings.filterwarnings("ignore", category=FutureWarning)  # what libraries tell each other
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it looks for kernels of GPUs

    def work() -> int:
        settings, recipe = load(Settings), load_recipe(arguments.recipe)
        cache = settings.cache_dir
        place = Place(
            recipe,
            arguments.out or cache / "assistant" / recipe.name,
            arguments.corpus or cache / "corpus" / "recipe",
            arguments.labels,
            settings,
            arguments,
        )
        place.out.mkdir(parents=True, exist_ok=True)
        return int(arguments.run(place))

    return run_job(work, stopped="stopped; the same command goes on from there")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m capstan.jobs.assistant", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="command")
    by_name = {}
    for name, run, text in (
        ("data", commands.data, "make instructions of the corpus, and split them by source"),
        ("sft", commands.sft, "fine-tune on the instructions; goes on from its checkpoint"),
        ("preferences", commands.preferences, "ask the fine-tuned model, judge its answers, and pair them"),
        ("dpo", commands.dpo, "optimize on the preferences, each variant; goes on from its checkpoints"),
        ("evaluate", evaluation_commands.evaluate, "every adapter and the base model on the held-out items"),
        ("merge", commands.merge, "write the chosen adapter merged into the base model, and the adapter's card"),
        ("formats", evaluation_commands.formats, "the chosen model as adapter, merged and quantized"),
        ("results", evaluation_commands.results, "gather what was measured into one file"),
        ("run", commands.run, "all of the above up to merge that is not done yet"),
    ):
        command = by_name[name] = subparsers.add_parser(name, help=text)
        command.add_argument("--recipe", type=Path, required=True)
        command.add_argument("--out", type=Path, help="directory of the run (default: in the cache, by name)")
        command.add_argument("--corpus", type=Path, help="directory that the corpus job made (default: in the cache)")
        command.add_argument("--labels", type=Path, default=LABELS, help="directory of the evaluation's labels")
        command.set_defaults(run=run, wandb=False, **dict.fromkeys(_OPTIONS))
    for name in ("sft", "dpo", "run"):
        by_name[name].add_argument("--wandb", action="store_true", help="log to Weights & Biases, offline by default")
    by_name["dpo"].add_argument("--variant", help="one variant of the recipe (default: all)")
    by_name["merge"].add_argument("--push", metavar="ORG/NAME", help="upload the adapter to this repository of the hub")
    for name in ("preferences", "evaluate"):
        by_name[name].add_argument("--url", help="a running server that has the adapters under their arms' names")
    _evaluation_options(by_name)
    return parser


def _evaluation_options(by_name: dict[str, argparse.ArgumentParser]) -> None:
    evaluate, formats, results = by_name["evaluate"], by_name["formats"], by_name["results"]
    evaluate.add_argument("--judge-url", help="an OpenAI-compatible server whose model judges pairs as well")
    evaluate.add_argument("--judge-model", help="its model")
    evaluate.add_argument("--held-out", type=Path, help="splits of the pretrain job (default: in the cache)")
    formats.add_argument("--format", action="append", metavar="NAME=REFERENCE", help="a model to measure; repeatable")
    for command in (evaluate, formats):
        command.add_argument("--limit", type=int, help="most items of a split, for a first look")
    results.add_argument("--to", type=Path, required=True, help="the file to write")
    results.add_argument("--report", type=Path, help="document whose tables are written anew")
    results.add_argument("--rag", type=Path, help="what eval-assistant-rag wrote")


if __name__ == "__main__":
    sys.exit(main())
