"""The corpus job: `build` documents, `load` them into the retriever, or `watch` a folder and do both."""

import argparse
import os
import sys
import time
from pathlib import Path

from pydantic import Field, SecretStr

from capstan.common.settings import load
from capstan.jobs.command import JobSettings, run_job
from capstan.jobs.corpus.build import Built, build_folder, build_packages
from capstan.jobs.corpus.load import Retriever, load_corpus
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.corpus.recipe import load_recipe
from capstan.jobs.corpus.watch import Watch


class LoadSettings(JobSettings):
    """Environment of `load` and `watch`, which speak for a tenant."""

    identity_secret: SecretStr = Field(
        validation_alias="CAPSTAN_IDENTITY_SECRET",
        min_length=32,
        description="Key that signs the tenant identity; the retriever's own.",
    )


def main() -> int:
    """Run one command; its exit code."""
    arguments = _parser().parse_args()
    return run_job(
        lambda: arguments.run(arguments),
        stopped="stopped; nothing half-written is left, what was downloaded stays in the cache",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m capstan.jobs.corpus", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    build = commands.add_parser("build", help="make documents.jsonl and manifest.json")
    what = build.add_mutually_exclusive_group(required=True)
    what.add_argument("--recipe", type=Path, help="build the packages that this file names")
    what.add_argument("--source", type=Path, help="build your own folder of html, md, rst, txt and pdf instead")
    build.add_argument("--out", type=Path, required=True, help="directory of the corpus")
    build.add_argument("--refresh", action="store_true", help="look for newer packages first")
    build.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1), help="how many work at a time")
    build.set_defaults(run=_build)
    sync = commands.add_parser("load", help="bring the retriever's documents up to date with a corpus")
    sync.add_argument("--corpus", type=Path, required=True, help="directory that `build` made")
    _add_target(sync)
    sync.set_defaults(run=_load)
    watch = commands.add_parser("watch", help="keep the retriever's documents as a folder has them, until SIGTERM")
    watch.add_argument("--source", type=Path, required=True, help="your own folder of html, md, rst, txt and pdf")
    watch.add_argument("--out", type=Path, required=True, help="directory of the corpus; its file `loaded` says ready")
    watch.add_argument("--every-s", type=float, default=10.0, help="seconds between two looks at the folder")
    _add_target(watch)
    watch.set_defaults(run=_watch)
    return parser


def _add_target(command: argparse.ArgumentParser) -> None:
    command.add_argument("--retriever", required=True, help="base URL, such as http://127.0.0.1:8001")
    command.add_argument("--tenant", default="shared", help="whose documents these are")
    command.add_argument("--prune", action="store_true", help="delete the tenant's documents that the corpus lacks")


def _build(arguments: argparse.Namespace) -> int:
    settings = load(JobSettings)
    steps = Steps()
    if arguments.source:
        built = build_folder(arguments.source, arguments.out, steps, processes=arguments.processes)
    else:
        built = build_packages(
            load_recipe(arguments.recipe),
            arguments.out,
            settings.cache_dir / "corpus",
            steps,
            refresh=arguments.refresh,
            processes=arguments.processes,
        )
    steps.say(_summary(built, arguments.out))
    return 0


def _summary(built: Built, out: Path) -> str:
    total = built.manifest["total"]
    state = "corpus" if built.fresh else "corpus is up to date"
    counts = (
        f"{total['documents']:,} documents, {total['sections']:,} sections, {total['characters'] / 1e6:.1f} MB of text"
    )
    return f"{state}: {counts} in {out}"


def _load(arguments: argparse.Namespace) -> int:
    with _target(arguments) as retriever:
        print(load_corpus(arguments.corpus, retriever, Steps(), prune=arguments.prune))
    return 0


def _watch(arguments: argparse.Namespace) -> int:
    done = arguments.out / "loaded"
    done.unlink(missing_ok=True)
    with _target(arguments) as retriever:
        watch = Watch(arguments.source, arguments.out, retriever, Steps(), done, prune=arguments.prune)
        watch.run(arguments.every_s, time.sleep)
    return 0


def _target(arguments: argparse.Namespace) -> Retriever:
    secret = load(LoadSettings).identity_secret.get_secret_value()
    return Retriever(arguments.retriever, arguments.tenant, secret)


if __name__ == "__main__":
    sys.exit(main())
