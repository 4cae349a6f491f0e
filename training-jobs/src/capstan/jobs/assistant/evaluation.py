"""The command `evaluate`: base, SFT and every variant of DPO on held-out items, and which of them is shipped.

The variant is chosen on the validation split; the test split only measures. What was asked is kept, so an interrupted
evaluation goes on, and one that is repeated asks nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr

from capstan.jobs.assistant import general, judge
from capstan.jobs.assistant.answers import SFT, Arm, Server, answers, arms_in
from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.evaluation_plan import Evaluation
from capstan.jobs.assistant.items import Item, read_items
from capstan.jobs.assistant.sampling import BASE
from capstan.jobs.assistant.scores import Answers, Verdicts, compared, judged, pass_rate, scorecard
from capstan.jobs.assistant.winrate import outcomes, step, win_rate
from capstan.jobs.corpus.progress import Steps
from capstan.jobs.evaluate.stats import holm

EVALUATION = "evaluation.json"
TEST = "test"


class Settings(Protocol):
    """Environment that the command reads."""

    cache_dir: Path
    api_key: SecretStr | None
    judge_key: SecretStr | None


@dataclass(frozen=True, slots=True)
class Request:
    """What is evaluated, and with what."""

    base: str
    plan: Evaluation
    seed: int
    out: Path
    settings: Settings
    head: Mapping[str, Any]
    """Where the figures come from."""
    url: str | None = None
    judge_url: str | None = None
    judge_model: str | None = None
    held_out: Path | None = None
    limit: int | None = None
    """Most items of a split: a first look."""

    def items(self, split: str) -> list[Item]:
        """The items of a split. Raises `AssistantError`."""
        return read_items(self.out / "data" / f"{split}.jsonl")[: self.limit]


@dataclass(frozen=True, slots=True)
class Answered:
    """An arm's answers to the test items, with the checkers' verdicts."""

    answers: Answers
    verdicts: Verdicts


def evaluate(request: Request) -> dict[str, Any]:
    """Ask, judge, compare; the figures, which are also written to evaluation.json. Raises `AssistantError`."""
    arms = arms_in(request.out / "adapters", request.base)
    if SFT not in [arm.name for arm in arms]:
        raise AssistantError(f"{request.out / 'adapters'} holds no adapter named {SFT}; run the sft command first")
    if request.judge_url and not request.judge_model:
        raise AssistantError("a judge needs --judge-model beside --judge-url")
    validation, test = request.items("validation"), request.items(TEST)
    with _server(request, arms) as server:
        tuned = [arm for arm in arms if arm.name != BASE]
        on_validation = {a.name: pass_rate(validation, _asked(request, server, a, validation).verdicts) for a in tuned}
        on_test = {arm.name: _asked(request, server, arm, test) for arm in arms}
    best, shipped = chosen(on_validation)
    figures = {
        **request.head,
        "base": request.base,
        "limit": request.limit,
        "prompts": len(test),
        "test_sha256": hashlib.sha256((request.out / "data" / f"{TEST}.jsonl").read_bytes()).hexdigest(),
        "validation_prompts": len(validation),
        "validation_pass_rate": {name: round(rate, 4) for name, rate in on_validation.items()},
        "best_dpo": best,
        "chosen": shipped,
        "arms": {name: scorecard(test, found.answers, found.verdicts) for name, found in on_test.items()},
        **_comparisons(request, test, on_test, best),
        "judge": _judged(request, test, on_test, _matches(best)),
        "forgetting": _forgetting(request, [arm for arm in arms if arm.name in (BASE, SFT, best)]),
    }
    (request.out / EVALUATION).write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def chosen(pass_rates: Mapping[str, float]) -> tuple[str | None, str]:
    """The variant of DPO with the best pass rate on validation, if there is one; and what is shipped, it or SFT."""
    variants = {name: rate for name, rate in pass_rates.items() if name != SFT}
    best = max(variants, key=lambda name: (variants[name], name)) if variants else None
    return best, best if best and variants[best] > pass_rates[SFT] else SFT


def _server(request: Request, arms: Sequence[Arm]) -> Server:
    key = request.settings.api_key
    secret = key.get_secret_value() if key else None
    return Server(request.base, arms, request.out / "logs/evaluate-worker.log", request.url, secret)


def _asked(request: Request, server: Server, arm: Arm, items: Sequence[Item]) -> Answered:
    said = answers(server, arm, items, request.out / "answers" / f"{arm.name}.jsonl", request.plan)
    return Answered(said, judged(items, said))


def _matches(best: str | None) -> list[tuple[str, str]]:
    """Which arm is held against which: every step, and the whole way."""
    return [(SFT, BASE), *([(best, SFT), (best, BASE)] if best else [])]


def _comparisons(
    request: Request, test: Sequence[Item], found: Mapping[str, Answered], best: str | None
) -> dict[str, Any]:
    """The steps on the same prompts, win rates, and every variant against SFT."""
    seed, margin = request.seed, request.plan.tie_margin

    def played(first: str, second: str) -> Any:
        a, b = found[first], found[second]
        return outcomes(test, (a.answers, a.verdicts), (b.answers, b.verdicts), margin)

    def against(first: str, second: str) -> dict[str, Any]:
        return compared(test, found[first].verdicts, found[second].verdicts, seed=seed)

    names = [name for name in found if name not in (BASE, SFT)]
    tried = {name: against(name, SFT) for name in names}
    corrected = holm({name: entry["p"] for name, entry in tried.items()})
    over_base = {name: played(name, BASE) for name in (SFT, *names)}
    return {
        "steps": {f"{a} over {b}": against(a, b) for a, b in _matches(best)},
        "win_rates": {
            **{f"{name} over {BASE}": win_rate(pairs, seed=seed) for name, pairs in over_base.items()},
            **({f"{best} over {SFT}": win_rate(played(best, SFT), seed=seed)} if best else {}),
        },
        "win_rate_step": step(over_base[best], over_base[SFT], seed=seed) if best else None,
        "variants": {name: {**entry, "p_holm": corrected[name]} for name, entry in tried.items()},
    }


def _judged(
    request: Request, test: Sequence[Item], found: Mapping[str, Answered], matches: Sequence[tuple[str, str]]
) -> dict[str, Any] | None:
    """A language model's second opinion; None without one."""
    if not request.judge_url or not request.judge_model:
        Steps().say("no LLM judge: give --judge-url and --judge-model for a second opinion")
        return None
    key, plan = request.settings.judge_key, request.plan
    secret = key.get_secret_value() if key else None
    asked = judge.Judge(request.judge_url, request.judge_model, secret, request.out / "answers/judge.jsonl")
    pairs = judge.sample(test, plan.judge_pairs, request.seed)
    sanity = judge.sanity(asked, test, plan, seed=request.seed)
    results = {}
    for first, second in matches:
        a, b = found[first].answers, found[second].answers
        results[f"{first} over {second}"] = judge.match(
            judge.opinions(asked, pairs, a, b, plan), a, b, seed=request.seed
        )
    return {"model": request.judge_model, "sanity": sanity, "matches": results}


def _forgetting(request: Request, arms: Sequence[Arm]) -> dict[str, Any] | None:
    """General ability before and after; None where pretraining's splits are not there."""
    from capstan.jobs.pretrain.recipe import Data

    splits = request.held_out or request.settings.cache_dir / "pretrain" / f"data-{Data().hash[:12]}"
    if request.held_out is None and not splits.is_dir():
        Steps().say("no check for forgetting: pretraining's held-out splits are not there (make them: pretrain data)")
        return None
    trained_on = read_items(request.out / "data/train.jsonl")
    questions = general.drawn(general.held_out(splits, trained_on), request.plan, request.seed)
    out = request.out / "general"
    out.mkdir(exist_ok=True)
    scores = general.forgetting(request.base, arms, questions, out, request.settings.cache_dir)
    return {**{name: len(records) for name, records in questions.items()}, "scores": scores}
