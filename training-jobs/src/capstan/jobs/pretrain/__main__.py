"""The pretraining job: `data`, `tokenizer`, `pack`, `train`, `export`, `evaluate`; `run` does all of them in turn."""

import argparse
import os
import sys
from pathlib import Path

from capstan.common.settings import load
from capstan.jobs.command import run_job
from capstan.jobs.metrics import TrainingSettings
from capstan.jobs.pretrain import commands
from capstan.jobs.pretrain.commands import Place
from capstan.jobs.pretrain.recipe import load_recipe


def main() -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the cores to others

    def work() -> int:
        settings, recipe = load(TrainingSettings), load_recipe(arguments.recipe)
        cache = settings.cache_dir
        place = Place(
            recipe,
            arguments.out or cache / "pretrain" / recipe.name,
            arguments.data or cache / "pretrain" / f"data-{recipe.data.hash[:12]}",
            arguments.corpus or cache / "corpus" / "recipe",
            settings,
            arguments,
        )
        place.out.mkdir(parents=True, exist_ok=True)
        return int(arguments.run(place))

    return run_job(work, stopped="stopped; the same command goes on from there")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m capstan.jobs.pretrain", description=__doc__)
    subparsers = parser.add_subparsers(required=True, metavar="command")
    for name, run, text in (
        ("data", commands.data, "filter, deduplicate, split and decontaminate the corpus"),
        ("tokenizer", commands.tokenizer, "train the tokenizer on the training split"),
        ("pack", commands.pack, "write the splits as rows of tokens"),
        ("train", commands.train, "train; goes on from its checkpoint"),
        ("export", commands.export, "write the model as a Hugging Face checkpoint with card and manifest"),
        ("evaluate", commands.evaluate, "held-out loss and downstream tasks, beside the baselines"),
        ("run", commands.run, "all of the above that is not done yet"),
        ("ladder", commands.ladder, "train small models and fit the scaling law"),
        ("compare", commands.compare, "train nanoGPT's recipe beside ours: loss and speed"),
        ("results", commands.results, "gather what was measured into one file"),
    ):
        command = subparsers.add_parser(name, help=text)
        command.add_argument("--recipe", type=Path, required=True)
        command.add_argument("--out", type=Path, help="directory of the run (default: in the cache, by name)")
        command.add_argument("--data", type=Path, help="directory of the splits (default: in the cache)")
        command.add_argument("--corpus", type=Path, help="directory that the corpus job made (default: in the cache)")
        command.set_defaults(run=run, wandb=False, push=None, limit=None)
        if name in ("train", "run"):
            command.add_argument("--wandb", action="store_true", help="log to Weights & Biases, offline by default")
        if name == "export":
            command.add_argument("--push", metavar="ORG/NAME", help="upload the artifact to this repository of the hub")
        if name == "evaluate":
            command.add_argument("--limit", type=int, help="most documents and items, for a first look")
        if name == "results":
            command.add_argument("--ladder", type=Path, required=True, help="directory of the ladder and comparison")
            command.add_argument("--to", type=Path, required=True, help="the file to write")
            command.add_argument("--report", type=Path, help="document whose tables are written anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
