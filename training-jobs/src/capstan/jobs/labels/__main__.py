"""The labels job: `build` the questions that evaluation asks."""

import argparse
import sys
from pathlib import Path
from typing import Any

from capstan.common.settings import load
from capstan.jobs.command import JobSettings, run_job
from capstan.jobs.labels.build import build_labels
from capstan.jobs.labels.recipe import load_label_recipe

_RECIPE = Path(__file__).parents[4] / "recipes/labels.yaml"


def main() -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m capstan.jobs.labels", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    build = commands.add_parser("build", help="make questions.jsonl, known_items.jsonl and manifest.json")
    build.add_argument("--recipe", type=Path, default=_RECIPE, help="which FAQ pages the questions come from")
    build.add_argument("--corpus", type=Path, help="directory of the built corpus; default: the one in the cache")
    build.add_argument("--out", type=Path, required=True, help="directory of the labels")
    arguments = parser.parse_args()
    return run_job(lambda: _build(arguments), stopped="stopped; build the labels again")


def _build(arguments: argparse.Namespace) -> None:
    cache = load(JobSettings).cache_dir / "corpus"
    corpus = arguments.corpus or cache / "recipe"
    print(_summary(build_labels(load_label_recipe(arguments.recipe), corpus, cache, arguments.out)))


def _summary(manifest: dict[str, Any]) -> str:
    lines = []
    for source in manifest["sources"]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in source["dropped"].items())
        kept = ", ".join(f"{count} {split}" for split, count in source["questions"].items()) or "none"
        lines.append(f"{source['name']}: {source['read']} questions read, kept {kept}; dropped: {dropped}")
    for split in ("dev", "test"):
        total = manifest["total"][split]
        lines.append(
            f"{split}: {total['questions']} questions from {total['pages']} pages, {total['pairs']} question-document "
            f"pairs, {total['withhold']} can be made unanswerable by withholding"
        )
    items = ", ".join(f"{count} by {kind}" for kind, count in manifest["total"]["known_items"].items())
    return "\n".join([*lines, f"known items, kept apart: {items}"])


if __name__ == "__main__":
    sys.exit(main())
