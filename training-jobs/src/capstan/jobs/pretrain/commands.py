"""What each command does with a place: its recipe, and where it reads and writes."""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from capstan.common.provenance import provenance
from capstan.jobs.command import INTERRUPTED, stop_requests
from capstan.jobs.corpus.manifest import DOCUMENTS, read_manifest
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.metrics import TrainingSettings
from capstan.jobs.pretrain.errors import PretrainError
from capstan.jobs.pretrain.recipe import Recipe
from capstan.jobs.pretrain.report import COMPARISON, EVALUATION, LADDER, RUN, current_evaluation, weights_name

MADE = "made.json"
"""What a run's tokenizer and rows were made from."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command reads and writes."""

    recipe: Recipe
    out: Path
    data: Path
    corpus: Path
    settings: TrainingSettings
    arguments: argparse.Namespace

    @property
    def tokenizer(self) -> Path:
        """The tokenizer of this run."""
        return self.out / "tokenizer.json"

    @property
    def artifact(self) -> Path:
        """The exported checkpoint."""
        return self.out / "artifact"

    def rows(self, split: str) -> Path:
        """Packed rows of a split."""
        return self.out / "rows" / f"{split}.bin"


def data(place: Place) -> int:
    """Clean splits and task items of the corpus."""
    from capstan.jobs.pretrain.data import MANIFEST, build, code_sha256

    manifest = read_manifest(place.corpus)
    if manifest is None:
        raise PretrainError(f"{place.corpus} holds no corpus; run the corpus job first")
    source = {
        "corpus_documents_sha256": manifest["documents_sha256"],
        "data_recipe_sha256": place.recipe.data.hash,
        "code_sha256": code_sha256(),
    }
    if source.items() <= (_json(place.data / MANIFEST) or {}).items():
        Steps().say("data: up to date")
        return 0
    made = build(place.corpus / DOCUMENTS, place.data, place.recipe.data, {**_provenance(), **source}, Steps().say)
    Steps().say(json.dumps({"splits": made["splits"], "tasks": made["tasks"]}))
    return 0


def tokenizer(place: Place) -> int:
    """The tokenizer of the training split, and its compression on held-out documents."""
    from capstan.jobs.pretrain.tokenizer import bytes_per_token, save, train_tokenizer

    key = _source(place)
    if _made(place).get("tokenizer") != key:
        trained = train_tokenizer(_texts(place, "train"), place.recipe.vocabulary)
        save(trained, place.tokenizer)
        _remember(place, tokenizer=key)
        compression = bytes_per_token(trained, _texts(place, "validation"))
        Steps().say(f"tokenizer: {trained.get_vocab_size():,} tokens, {compression:.3f} bytes each")
    return 0


def pack(place: Place) -> int:
    """Rows of tokens of the training and the validation split."""
    from capstan.jobs.pretrain.pack import pack as pack_rows

    _require(place.tokenizer, "tokenizer")
    key = _source(place, place.recipe.context)
    for split in ("validation", "train"):
        if _made(place).get(split) != key:
            about = pack_rows(_texts(place, split), _tokenizer(place), place.recipe.context, place.rows(split))
            fit = f"{about['rows']:,} rows, {about['padding']:.2%} padding"
            Steps().say(f"pack: {split} {about['tokens']:,} tokens in {fit}")
            _remember(place, **{split: key})
    return 0


def train(place: Place) -> int:
    """Train to the end, or until asked to stop: then the checkpoint is written and the exit code is not 0."""
    import torch

    from capstan.jobs.pretrain.tracking import follow
    from capstan.jobs.pretrain.train import Run, use_all_cores
    from capstan.jobs.pretrain.train import train as train_model
    from capstan.jobs.pretrain.world import join, leave

    vocabulary, rows = _vocabulary_and_rows(place)
    use_all_cores()
    world = join()
    try:
        say = Steps().say if world.rank == 0 else _nothing
        first = world.rank == 0
        with (
            follow(place.recipe, place.out, say, wandb=place.arguments.wandb, first=first) as on_point,
            stop_requests() as stop,
        ):
            run = Run(place.out, world, say, stop, metrics_port=place.settings.metrics_port, on_point=on_point)
            model = train_model(place.recipe, vocabulary, rows, run)
        if world.rank == 0:
            about = {**_provenance(), "recipe": place.recipe.name, "torch": torch.__version__, "processes": world.size}
            _write(place.out / RUN, {**about, "curve": run.curve})
        return 0 if model is not None else INTERRUPTED
    finally:
        leave(world)


def export(place: Place) -> int:
    """The artifact of the trained model, and its upload where asked for."""
    from capstan.jobs.hub import push
    from capstan.jobs.pretrain.card import model_card
    from capstan.jobs.pretrain.checkpoint import CHECKPOINT, read
    from capstan.jobs.pretrain.export import export as write_artifact
    from capstan.jobs.pretrain.model import Decoder
    from capstan.jobs.pretrain.pack import inputs_and_targets
    from capstan.jobs.pretrain.train import identity_of, shape_of

    vocabulary, (rows, held_out) = _vocabulary_and_rows(place)
    state = read(place.out / CHECKPOINT, identity_of(place.recipe, vocabulary, rows))
    if state is None:
        raise PretrainError(f"{place.out / CHECKPOINT} is missing; run train first")
    model = Decoder(shape_of(place.recipe, vocabulary))
    model.load_state_dict(state["model"])
    tokens, _ = inputs_and_targets(held_out.at(0, 4, place.recipe.seed))

    def describe(difference: float) -> tuple[str, dict[str, Any]]:
        facts = _facts(place, model, state["curve"], difference)
        return model_card(place.recipe, facts), {"name": place.recipe.name, **_provenance(), **facts}

    write_artifact(model, place.tokenizer, tokens, place.artifact, describe)
    Steps().say(f"export: {place.artifact}")
    if place.arguments.push:
        Steps().say(f"export: {push(place.artifact, place.arguments.push, 'Capstan pretraining')}")
    return 0


def _facts(place: Place, model: Any, curve: list[dict[str, Any]], difference: float) -> dict[str, Any]:
    """What card and manifest say of a model."""
    return {
        "recipe_sha256": place.recipe.identity,
        "parameters": sum(p.numel() for p in model.parameters()),
        "shape": asdict(model.shape),
        "width": model.shape.width,
        "tokens": curve[-1]["tokens"],
        "steps": curve[-1]["step"],
        "hours": round(sum(point["seconds"] for point in curve) / 3600, 2),
        "val_loss": next((point["val_loss"] for point in reversed(curve) if "val_loss" in point), None),
        "logit_difference": difference,
        "data": _json(place.data / "manifest.json"),
        "evaluation": current_evaluation(place.recipe, place.out, curve[-1]["tokens"]),
    }


def evaluate(place: Place) -> int:
    """Our artifact and the baselines on held-out text and the downstream tasks; then the card says it."""
    import torch

    from capstan.jobs.pretrain import evaluate as harness
    from capstan.jobs.pretrain.data import read_split
    from capstan.jobs.pretrain.pack import bytes_per_token
    from capstan.jobs.pretrain.train import use_all_cores

    _require(place.artifact / "config.json", "export")
    use_all_cores()
    _, (rows, held_out) = _vocabulary_and_rows(place)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    limit: int | None = place.arguments.limit
    configs = harness.task_configs(read_split(place.data, "validation"), place.data / "tasks")
    ours = bytes_per_token(held_out)

    def models() -> Iterator[tuple[str, Any, float | None]]:
        for name, model in harness.ngram_models(rows, _tokenizer(place)).items():
            yield name, model, ours
        yield place.recipe.name, harness.exported_model(place.artifact, device), ours
        if place.recipe.baseline:
            baseline = harness.public_model(place.recipe.baseline, place.settings.cache_dir, device)
            yield place.recipe.baseline, baseline, None

    scores = {}
    for name, model, compression in models():
        scores[name] = harness.evaluate(model, configs, limit, compression)
        Steps().say(f"evaluate: {name}: {json.dumps(scores[name])}")
    weights = weights_name(place.recipe, _json(place.artifact / "manifest.json")["tokens"])
    _write(place.out / EVALUATION, {**_provenance(), "weights": weights, "limit": limit, "scores": scores})
    return export(place)


def run(place: Place) -> int:
    """Everything that is not done yet, in turn."""
    stages: tuple[Callable[[Place], int], ...] = (data, tokenizer, pack, train, export, evaluate)
    return next((code for stage in stages if (code := stage(place))), 0)


def ladder(place: Place) -> int:
    """The scaling ladder; what is trained already stays."""
    from capstan.jobs.pretrain.ladder import climb

    return _on_bench(place, LADDER, lambda bench, _: climb(place.recipe, bench))


def compare(place: Place) -> int:
    """nanoGPT's recipe beside ours."""
    from capstan.jobs.pretrain.ladder import compare as beside

    return _on_bench(place, COMPARISON, lambda bench, rows: beside(place.recipe, bench, rows))


def _on_bench(place: Place, name: str, work: Callable[[Any, Any], dict[str, Any]]) -> int:
    from capstan.jobs.pretrain.ladder import Bench, Stopped
    from capstan.jobs.pretrain.train import Run, use_all_cores
    from capstan.jobs.pretrain.world import ALONE

    vocabulary, rows = _vocabulary_and_rows(place)
    use_all_cores()
    try:
        with stop_requests() as stop:
            found = work(Bench(vocabulary, rows, Run(place.out, ALONE, Steps().say, stop)), rows[0])
    except Stopped:
        return INTERRUPTED
    _write(place.out / name, {**_provenance(), "recipe": place.recipe.name, **found})
    return 0


def results(place: Place) -> int:
    """The figures of a run, its ladder and its comparison in one file, and the report's tables of them."""
    from capstan.jobs.evaluate.results import write_table
    from capstan.jobs.pretrain.report import gather
    from capstan.jobs.pretrain.tables import tables

    vocabulary, (_, held_out) = _vocabulary_and_rows(place)
    size = _size(place, vocabulary, held_out)
    found = gather(place.recipe, size, place.out, place.data, place.arguments.ladder)
    _write(place.arguments.to, {**_provenance(), **found})
    if place.arguments.report:
        for name, table in tables(found).items():
            write_table(place.arguments.report, name, table)
    return 0


def _size(place: Place, vocabulary: int, held_out: Any) -> dict[str, float]:
    """Parameters of the recipe's model, and bytes of held-out text that its tokens stand for."""
    import torch

    from capstan.jobs.pretrain.model import multiplying
    from capstan.jobs.pretrain.pack import bytes_per_token
    from capstan.jobs.pretrain.train import make_model, shape_of

    shape = shape_of(place.recipe, vocabulary)
    with torch.device("meta"):
        model = make_model(place.recipe, shape)
    return {
        "params": sum(p.numel() for p in model.parameters()),
        "multiplying_params": multiplying(model, shape),
        "bytes_per_token": bytes_per_token(held_out),
    }


def _provenance() -> dict[str, Any]:
    """Where what is written comes from; absolute paths are another machine's business and cut to their names."""
    words = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    return provenance(" ".join(["python -m capstan.jobs.pretrain", *words]))


def _source(place: Place, *more: object) -> str:
    """What tokenizer and rows are made from: the texts and the recipe's sizes. Raises `PretrainError`."""
    manifest = _json(place.data / "manifest.json")
    if manifest is None:
        raise PretrainError(f"{place.data} holds no splits; run data first")
    texts = [manifest["splits"][split]["sha256"] for split in ("train", "validation")]
    return hashlib.sha256(json.dumps([*texts, place.recipe.vocabulary, *more]).encode()).hexdigest()


def _made(place: Place) -> dict[str, str]:
    return _json(place.out / MADE) or {}


def _remember(place: Place, **keys: str) -> None:
    _write(place.out / MADE, {**_made(place), **keys})


def _vocabulary_and_rows(place: Place) -> tuple[int, tuple[Any, Any]]:
    from capstan.jobs.pretrain.pack import Rows

    _require(place.tokenizer, "tokenizer")
    rows = Rows(place.rows("train")), Rows(place.rows("validation"))
    return int(_tokenizer(place).get_vocab_size()), rows


def _texts(place: Place, split: str) -> Iterator[str]:
    from capstan.jobs.pretrain.data import read_split

    return (document["text"] for document in read_split(place.data, split))


def _tokenizer(place: Place) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(place.tokenizer))


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _write(path: Path, value: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.replace(path)


def _require(path: Path, command: str) -> None:
    if not path.is_file():
        raise PretrainError(f"{path} is missing; run {command} first")


def _nothing(_: str) -> None:
    """What the processes beside the first one say."""
