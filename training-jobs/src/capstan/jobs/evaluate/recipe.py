"""The recipe: indexes, rerankers, and arms, each of which changes one thing of another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from capstan.jobs.evaluate.errors import EvaluateError

RECIPE = Path(__file__).parents[4] / "recipes/evaluate-rag.yaml"
DEFAULT = "default"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fusion(_Strict):
    """How the retriever joins its two lists; the fields of its API."""

    kind: Literal["rrf", "dbsf"] = "rrf"
    rrf_k: int = Field(60, ge=1)
    bm25_weight: float = Field(1.0, ge=0)
    dense_weight: float = Field(1.0, ge=0)
    candidates: int = Field(50, ge=1)
    siblings: float = Field(0.0, ge=0, le=1)


class Rerank(_Strict):
    """What the reranker does to the first `depth` chunks.

    `weight` w orders them by w times the reranker's reciprocal rank plus 1 - w times the retriever's, as the generator
    does; 1 is the reranker alone. `place` puts title and heading path before a passage's text; `group` tells it which
    passages are of one document, so that they support each other.
    """

    model: str = DEFAULT
    depth: int = Field(50, ge=1, le=50)
    weight: float = Field(1.0, ge=0, le=1)
    place: bool = True
    group: bool = True


class Arm(_Strict):
    """One way to retrieve."""

    index: str = DEFAULT
    query: Literal["text", "heading"] = Field("text", description="The question, or the bare heading of the FAQ page.")
    mode: Literal["bm25", "dense", "hybrid", "rank-bm25"] = "hybrid"
    fusion: Fusion = Fusion()
    per_document: int | None = Field(None, ge=1)
    rerank: Rerank | None = Rerank()
    neighbours: int = Field(0, ge=0, le=10, description="Chunks that widen a passage to either side as evidence.")


class NamedArm(_Strict):
    """An arm of the recipe: `base` is the arm that it changes and is compared with, if `compare`."""

    name: str
    change: str
    base: str | None
    compare: bool
    arm: Arm


ServiceSettings = Mapping[str, str | int | bool]


class Index(_Strict):
    """Settings of a retriever, named as in its environment but in lower case, and which sources it holds."""

    settings: dict[str, str | int | bool] = {}
    sources: list[str] = Field([], description="Only these, as wildcard patterns; none means all.")


class Reranker(_Strict):
    """Settings of a reranker, as its environment names them in lower case."""

    settings: dict[str, str | int | bool] = {}


class Recipe(_Strict):
    """All that an evaluation is made of."""

    seed: int
    limit: int = Field(100, ge=10, description="Chunks taken from each search.")
    passages: int = Field(4, ge=1, description="Chunks that are the context: those that context precision looks at.")
    evidence_tokens: int = Field(1024, ge=64, description="Budget of evidence, in tokens of about four characters.")
    exclude: list[str] = Field([], description="Documents that are never returned.")
    single: list[str] = Field(description="The single retrievers, the best of which all others are compared with.")
    indexes: dict[str, Index]
    rerankers: dict[str, Reranker]
    arms: dict[str, NamedArm]


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; arms inherit from their bases. Raises `EvaluateError` that names the file and the key."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluateError(f"recipe {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise EvaluateError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("arms"), dict):
        raise EvaluateError(f"recipe {path} has no arms")
    try:
        given = {name: _Changes.model_validate({**(arm or {}), "name": name}) for name, arm in raw["arms"].items()}
        arms = {name: _named(name, given) for name in given}
        recipe = Recipe.model_validate({**raw, "arms": arms})
    except ValidationError as error:
        raise EvaluateError(f"recipe {path}: {_first(error)}") from None
    except EvaluateError as error:
        raise EvaluateError(f"recipe {path}: {error}") from None
    for named in recipe.arms.values():
        check(named.arm, recipe, named.name)
    for name in recipe.single:
        arm_named(name, recipe)
    return recipe


def arm_named(name: str, recipe: Recipe) -> NamedArm:
    """An arm by its name, or given inline as changes of the default: `mode=bm25,rerank=null,fusion.rrf_k=2`.

    Raises `EvaluateError`.
    """
    if name in recipe.arms:
        return recipe.arms[name]
    if "=" not in name:
        raise EvaluateError(
            f"there is no arm {name!r}; name one of {', '.join(recipe.arms)}, or changes such as mode=bm25,rerank=null"
        )
    changes: dict[str, Any] = {}
    for part in name.split(","):
        key, _, value = part.partition("=")
        *groups, last = key.strip().split(".")
        inner = changes
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[last] = yaml.safe_load(value)
    try:
        arm = _changed(recipe.arms[DEFAULT].arm, changes)
    except ValidationError as error:
        raise EvaluateError(f"arm {name!r}: {_first(error)}") from None
    check(arm, recipe, name)
    return NamedArm(name=name, change=name, base=DEFAULT, compare=True, arm=arm)


def check(arm: Arm, recipe: Recipe, name: str) -> None:
    """Raises `EvaluateError` if an arm names an index or a reranker that the recipe does not have."""
    if arm.index not in recipe.indexes:
        raise EvaluateError(f"arm {name}: there is no index {arm.index!r}; it has {', '.join(recipe.indexes)}")
    if arm.rerank and arm.rerank.model not in recipe.rerankers:
        raise EvaluateError(
            f"arm {name}: there is no reranker {arm.rerank.model!r}; it has {', '.join(recipe.rerankers)}"
        )


class _Changes(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    base: str | None = DEFAULT
    change: str
    compare: bool = True


def _named(name: str, given: Mapping[str, _Changes], below: tuple[str, ...] = ()) -> NamedArm:
    changes = given[name]
    if name in below:
        raise EvaluateError(f"arm {name} is its own base")
    base = None if name == DEFAULT else changes.base
    if base is not None and base not in given:
        raise EvaluateError(f"arm {name}: its base {base!r} does not exist")
    start = _named(base, given, (*below, name)).arm if base else Arm()
    arm = _changed(start, changes.model_extra or {})
    return NamedArm(name=name, change=changes.change, base=base, compare=changes.compare and base is not None, arm=arm)


def _changed(arm: Arm, changes: Mapping[str, Any]) -> Arm:
    """The arm with `changes`, which may be of single fields inside `fusion` and `rerank`."""
    merged = arm.model_dump()
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            value = {**merged[key], **value}
        merged[key] = value
    return Arm.model_validate(merged)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
