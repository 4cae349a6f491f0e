"""Preferences on policy: the SFT model answers training prompts several times, and the checkers pair its answers."""

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from capstan.jobs.assistant.answers import SFT, weights_of
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.recipe import Recipe, Sampling
from capstan.jobs.assistant.sampling import complete, worker
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.rows import Rows, key_of


def asked(items: Sequence[Item], plan: Sampling, seed: int) -> list[Item]:
    """The training items whose prompts are asked: some of them, kinds in proportion."""
    draw = random.Random(seed)  # noqa: S311
    return draw.sample(list(items), min(plan.prompts, len(items)))


def sample(
    recipe: Recipe,
    items: Sequence[Item],
    adapter: Path,
    kept: Path,
    *,
    merge: Callable[[Path], None],
    log: Path,
    url: str | None,
    key: str | None,
) -> dict[str, list[str]]:
    """`n` answers of the SFT model to each item, by its id; what was asked is in `kept` and not asked again.

    `url`: a running server that has the adapter as `sft`. Otherwise a worker is started on the weights that `merge`
    writes, which spares the engine its LoRA kernels. Raises `AssistantError`.
    """
    plan, rows = recipe.sampling, Rows(kept)
    weights = weights_of(adapter)
    how = plan.model_dump(include={"n", "temperature", "max_tokens"})
    keys = {item.id: key_of(weights, list(item.messages), how, recipe.seed) for item in items}
    missing = [item for item in items if rows.get(keys[item.id]) is None]

    def ask(server: str) -> None:
        with Steps().step("answers to training prompts", len(missing), "prompts") as done:
            answers = complete(
                server,
                SFT,
                missing,
                temperature=plan.temperature,
                max_tokens=plan.max_tokens,
                n=plan.n,
                seed=recipe.seed,
                concurrency=plan.concurrency,
                key=key,
            )
            for name, texts in answers:
                rows.put(keys[name], {"id": name, "answers": texts})
                done(1)

    if missing and url:
        ask(url)
    elif missing:
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".merged-") as merged:
            merge(Path(merged))
            with worker(f"file:{Path(merged).absolute()}", {}, log=log, served_name=SFT) as running:
                ask(running.url)
    return {name: (rows.get(key) or {"answers": []})["answers"] for name, key in keys.items()}
