"""What the commands `evaluate`, `formats` and `results` do with a place: its recipe, and where it reads and writes."""

import json
from typing import TYPE_CHECKING

from capstan.jobs.assistant import evaluation, report
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation import EVALUATION, Request
from capstan.jobs.assistant.figures import job_provenance, write_json
from capstan.jobs.assistant.formats import Format, measure
from capstan.jobs.assistant.items import read_items
from capstan.jobs.assistant.tables import tables
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.results import write_table

if TYPE_CHECKING:
    from capstan.jobs.assistant.commands import Place


def evaluate(place: "Place") -> int:
    """Every arm on the held-out items, into evaluation.json."""
    arguments = place.arguments
    found = evaluation.evaluate(
        Request(
            base=place.recipe.base,
            plan=place.recipe.evaluation,
            seed=place.recipe.seed,
            out=place.out,
            settings=place.settings,
            head=job_provenance(),
            url=arguments.url,
            judge_url=arguments.judge_url,
            judge_model=arguments.judge_model,
            held_out=arguments.held_out,
            limit=arguments.limit,
        )
    )
    rates = {name: f"{arm['pass_rate']:.3f}" for name, arm in found["arms"].items()}
    Steps().say(f"evaluate: pass rates on {found['prompts']} prompts {json.dumps(rates)}; {found['chosen']} is chosen")
    return 0


def formats(place: "Place") -> int:
    """The chosen model as adapter, merged and quantized, into formats.json; or the formats that are named."""
    key, limit = place.settings.api_key, place.arguments.limit
    found = measure(
        [Format.parse(text) for text in place.arguments.format or ()] or _formats_there(place),
        read_items(place.out / "data/test.jsonl")[:limit],
        place.recipe.evaluation,
        out=place.out,
        cache=place.settings.cache_dir,
        seed=place.recipe.seed,
        key=key.get_secret_value() if key else None,
    )
    write_json(place.out / report.FORMATS, {**job_provenance(), "limit": limit, **found})
    return 0


def results(place: "Place") -> int:
    """All that was measured in one file, and the report's tables of it."""
    found = report.gather(place.recipe.name, place.out, place.arguments.rag)
    write_json(place.arguments.to, {**job_provenance(), **found})
    if place.arguments.report:
        for name, table in tables(found).items():
            write_table(place.arguments.report, name, table)
    return 0


def _formats_there(place: "Place") -> list[Format]:
    """The adapter on its base, and the merged checkpoints that have been made. Raises `AssistantError`."""
    path = place.out / EVALUATION
    if not path.is_file():
        raise AssistantError(f"{path} is missing; run the evaluate command first")
    adapter = place.out / "adapters" / json.loads(path.read_text())["chosen"]
    merged = {name: (place.out / name).absolute() for name in ("merged", "awq")}
    made = [Format(name, f"file:{path}") for name, path in merged.items() if (path / "config.json").is_file()]
    return [*made, Format("adapter", place.recipe.base, adapter)]
