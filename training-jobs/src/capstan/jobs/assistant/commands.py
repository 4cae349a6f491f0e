"""What each command does with a place: its recipe, and where it reads and writes."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capstan.common.checkpoint import prepare
from capstan.jobs.assistant import evaluation_commands
from capstan.jobs.assistant.answers import SFT, weights_of
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation import EVALUATION
from capstan.jobs.assistant.figures import job_provenance, read_json, write_json
from capstan.jobs.assistant.items import read_items
from capstan.jobs.assistant.recipe import Dpo, Recipe
from capstan.jobs.assistant.report import DATA, PREFERENCES, RUN
from capstan.jobs.command import INTERRUPTED, stop_requests
from capstan.jobs.corpus.manifest import DOCUMENTS, read_manifest
from capstan.jobs.corpus.package import sha256_of
from capstan.jobs.corpus.progress import Steps

if TYPE_CHECKING:
    from capstan.jobs.assistant.__main__ import Settings

PAIRS = "preferences.jsonl"
MERGED = "merged"


@dataclass(frozen=True)
class Place:
    """Where a command reads and writes."""

    recipe: Recipe
    out: Path
    corpus: Path
    labels: Path
    settings: "Settings"
    arguments: argparse.Namespace

    @property
    def data(self) -> Path:
        """The items."""
        return self.out / "data"

    def adapter(self, arm: str) -> Path:
        """The trained adapter of an arm: `sft` or `dpo-<variant>`."""
        return self.out / "adapters" / arm

    @cached_property
    def checkpoint(self) -> Path:
        """The base model. Raises `ModelError`."""
        return prepare(self.recipe.base, self.settings.cache_dir, say=Steps().say)

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer. Raises `AssistantError`."""
        from capstan.jobs.assistant.base import read_tokenizer

        return read_tokenizer(self.checkpoint, self.recipe.base)

    def tokens(self, text: str) -> int:
        """Tokens of an answer."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def data(place: Place) -> int:
    """Items of the corpus, split by source."""
    manifest = read_manifest(place.corpus)
    if manifest is None:
        raise AssistantError(f"{place.corpus} holds no corpus; run the corpus job first")
    from capstan.jobs.assistant.base import counter
    from capstan.jobs.assistant.data.build import build, code_sha256

    plan = place.recipe.data
    source = {
        "corpus_documents_sha256": manifest["documents_sha256"],
        "labels_sha256": sha256_of(_required(place.labels / "questions.jsonl", "give --labels")),
        "base": place.recipe.base,  # whose tokens are counted
        "code_sha256": code_sha256(),
    }
    if {**source, "plan": plan.model_dump(mode="json")}.items() <= (read_json(place.out / DATA) or {}).items():
        Steps().say("data: up to date")
        return 0
    head, count = {**job_provenance(), **source}, counter(place.tokenizer)
    build(place.corpus / DOCUMENTS, place.labels, place.data, plan, head, count, Steps().say)
    return 0


def sft(place: Place) -> int:
    """The SFT adapter, or INTERRUPTED with a checkpoint."""
    recipe = place.recipe
    items = place.data / "train.jsonl"
    identity = recipe.identity(recipe.sft, sha256_of(_required(items, "run the data command first")))
    if _is_made(place, SFT, identity):
        return 0
    from capstan.jobs.assistant.base import model_of
    from capstan.jobs.assistant.sft import fine_tune
    from capstan.jobs.assistant.training import Run, summary

    training, validation = read_items(items), read_items(place.data / "validation.jsonl")
    with stop_requests() as stop:
        run = Run("sft", place.out / "sft", identity, stop=stop, **_run_options(place))
        model = model_of(recipe, place.settings.cache_dir)
        done = fine_tune(recipe, model, place.tokenizer, (training, validation), run)
    if done is None:
        return INTERRUPTED
    model, points = done
    _keep(place, SFT, identity, model, {**summary(points), "rate": recipe.sft.rate, "items": len(training)})
    return 0


def preferences(place: Place) -> int:
    """Answers of the SFT model to training prompts, and the pairs that they make."""
    from capstan.jobs.assistant.pairs import about, choose, pairs_of
    from capstan.jobs.assistant.preferences import asked, sample

    recipe = place.recipe
    items = read_items(place.data / "train.jsonl")
    adapter = _adapter(place, SFT)
    made_from = recipe.identity(recipe.sampling, recipe.preferences.model_dump_json(), weights_of(adapter))
    pairs_file = place.out / PAIRS
    if pairs_file.is_file() and (read_json(place.out / PREFERENCES) or {}).get("made_from") == made_from:
        Steps().say("preferences: up to date")
        return 0
    some = asked(items, recipe.sampling, recipe.seed)
    key = place.settings.api_key
    answers = sample(
        recipe,
        some,
        adapter,
        place.out / "samples.jsonl",
        merge=lambda to: _merge_into(place, adapter, to),
        log=place.out / "logs/sampling-worker.log",
        url=place.arguments.url,
        key=key.get_secret_value() if key else None,
    )
    plan, longest = recipe.preferences, recipe.sampling.max_tokens
    found = [pair for item in some for pair in pairs_of(item, answers[item.id], plan, place.tokens, longest)]
    used = choose(found, plan, place.tokens, recipe.seed)
    part = pairs_file.with_suffix(".part")
    part.write_text("".join(pair.line() for pair in used), encoding="utf-8")
    part.replace(pairs_file)
    figures = {"found": about(found, place.tokens), "used": about(used, place.tokens)}
    asked_for = {"prompts": len(some), **recipe.sampling.model_dump(include={"n", "temperature", "max_tokens"})}
    write_json(place.out / PREFERENCES, {**job_provenance(), "made_from": made_from, "sampling": asked_for, **figures})
    brief = ("pairs", "by_origin", "difference_tokens")
    Steps().say(f"preferences: {json.dumps({name: figures['used'][name] for name in brief})}")
    return 0


def dpo(place: Place) -> int:
    """The adapter of each variant, or INTERRUPTED with a checkpoint."""
    variants, name = place.recipe.dpo, place.arguments.variant
    if name is not None and name not in variants:
        raise AssistantError(f"the recipe has no variant {name}; it has {', '.join(variants)}")
    chosen = {name: variants[name]} if name is not None else variants
    return next((code for name, variant in chosen.items() if (code := _dpo(place, name, variant))), 0)


def _dpo(place: Place, name: str, variant: Dpo) -> int:
    recipe, arm = place.recipe, f"dpo-{name}"
    start = _adapter(place, SFT)
    inputs = weights_of(start), sha256_of(_required(place.out / PAIRS, "run the preferences command first"))
    identity = recipe.identity(variant, *inputs)
    if _is_made(place, arm, identity):
        return 0
    from capstan.jobs.assistant.base import adapted, model_of
    from capstan.jobs.assistant.dpo import dpo_summary, optimize
    from capstan.jobs.assistant.pairs import read_pairs
    from capstan.jobs.assistant.training import Run

    pairs = read_pairs(place.out / PAIRS)
    reference = place.out / "dpo" / f"reference-{recipe.identity(recipe.lora, *inputs)[:12]}.json"
    with stop_requests() as stop:
        run = Run("dpo", place.out / "dpo" / name, identity, stop=stop, **_run_options(place))
        model = adapted(model_of(recipe, place.settings.cache_dir), start, trainable=True)
        done = optimize(recipe, variant, model, place.tokenizer, pairs, reference, run)
    if done is None:
        return INTERRUPTED
    model, points = done
    _keep(place, arm, identity, model, {**dpo_summary(variant, points), "pairs": len(pairs)})
    return 0


def merge(place: Place) -> int:
    """The chosen adapter merged into the base model, and its cards with what evaluation found."""
    found = read_json(place.out / EVALUATION)
    if found is None:
        raise AssistantError(f"{place.out / EVALUATION} is missing; run the evaluate command first")
    from capstan.jobs.assistant.artifact import MADE_FROM, is_made_from, recard, write
    from capstan.jobs.assistant.card import model_card
    from capstan.jobs.hub import push

    arm = str(found["chosen"])
    adapter = _adapter(place, arm)
    facts = _facts(place, arm)
    recard(adapter, model_card(place.recipe, arm, facts))
    made_from, merged = weights_of(adapter), place.out / MERGED
    card = model_card(place.recipe, arm, facts, merged=True)
    if is_made_from(merged, made_from):
        recard(merged, card)
        Steps().say("merge: up to date")
    else:
        about = {"name": place.recipe.name, "arm": arm, **job_provenance(), "base": place.recipe.base}
        write(
            merged,
            lambda draft: _merge_into(place, adapter, draft),
            card,
            {**about, MADE_FROM: made_from},
        )
        Steps().say(f"merge: {arm} into {merged}")
    if place.arguments.push:
        Steps().say(f"merge: {push(adapter, place.arguments.push, 'Capstan assistant')}")
    return 0


def run(place: Place) -> int:
    """Everything that is not done yet, in turn."""
    stages: tuple[Callable[[Place], int], ...]
    stages = (data, sft, preferences, dpo, evaluation_commands.evaluate, merge)
    return next((code for stage in stages if (code := stage(place))), 0)


def _merge_into(place: Place, adapter: Path, directory: Path) -> None:
    """The base model with an adapter in its weights, as a checkpoint."""
    from capstan.jobs.assistant.artifact import save_merged
    from capstan.jobs.assistant.base import merging_base

    save_merged(merging_base(place.checkpoint), adapter, place.tokenizer, directory)


def _keep(place: Place, arm: str, identity: str, model: Any, figures: Mapping[str, Any]) -> None:
    """Write what a run has to say of itself, and its adapter; only the first of several processes does."""
    import torch

    from capstan.jobs.assistant.artifact import MADE_FROM, save_adapter, write
    from capstan.jobs.assistant.base import precision
    from capstan.jobs.assistant.card import model_card
    from capstan.jobs.assistant.training import first_process

    if not first_process():
        return
    recipe = place.recipe
    about = {**job_provenance(), "recipe": recipe.name, "base": recipe.base, "precision": str(precision(recipe))[6:]}
    about |= {"quantized": recipe.quantized, "torch": torch.__version__, **figures}
    write_json(_run_file(place, arm), about)
    write(
        place.adapter(arm),
        lambda draft: save_adapter(model, recipe.base, draft),
        model_card(recipe, arm, _facts(place, arm)),
        {"name": recipe.name, "arm": arm, MADE_FROM: identity, **about},
    )
    Steps().say(f"{arm}: {place.adapter(arm)}, loss {figures['loss']:.4f} after {figures['steps']} steps")


def _facts(place: Place, arm: str) -> dict[str, Any]:
    """What a card says of an arm."""
    runs = {name: read_json(_run_file(place, name)) for name in dict.fromkeys((SFT, arm))}
    return {
        "data": read_json(place.out / DATA),
        "runs": {name: run for name, run in runs.items() if run},
        "preferences": read_json(place.out / PREFERENCES) if arm != SFT else None,
        "evaluation": read_json(place.out / EVALUATION),
    }


def _run_file(place: Place, arm: str) -> Path:
    return place.out / (SFT if arm == SFT else f"dpo/{arm.removeprefix('dpo-')}") / RUN


def _is_made(place: Place, arm: str, identity: str) -> bool:
    from capstan.jobs.assistant.artifact import is_made_from

    made = is_made_from(place.adapter(arm), identity)
    if made:
        Steps().say(f"{arm}: up to date")
    return made


def _run_options(place: Place) -> dict[str, Any]:
    """What training runs depend on beside their stage."""
    from capstan.jobs.assistant.training import first_process
    from capstan.jobs.pretrain.train import use_all_cores

    use_all_cores()
    say = Steps().say if first_process() else _nothing
    return {"say": say, "metrics_port": place.settings.metrics_port, "wandb": place.arguments.wandb}


def _adapter(place: Place, arm: str) -> Path:
    _required(place.adapter(arm) / "adapter_config.json", f"run the {arm.partition('-')[0]} command first")
    return place.adapter(arm)


def _required(path: Path, what: str) -> Path:
    if not path.is_file():
        raise AssistantError(f"{path} is missing; {what}")
    return path


def _nothing(_: str) -> None:
    """What the processes beside the first one say."""
