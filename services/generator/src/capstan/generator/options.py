"""What can be chosen per request, and arms: named sets of such choices.

A request's options override its arm's, which override the settings'.
"""

from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, field_validator

from capstan.common.errors import ApiError
from capstan.common.settings import die
from capstan.generator.prompt import PROMPTS
from capstan.generator.settings import GeneratorSettings

DEFAULT_ARM = "default"


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FusionOptions(_Body):
    """How the retriever joins BM25 and dense; null: its own default."""

    kind: Literal["rrf", "dbsf"] | None = None
    rrf_k: int | None = Field(None, ge=1, le=1000)
    bm25_weight: float | None = Field(None, ge=0, le=100)
    dense_weight: float | None = Field(None, ge=0, le=100)
    candidates: int | None = Field(None, ge=1, le=1000, description="Length of each list before fusion.")
    siblings: float | None = Field(None, ge=0, le=1, description="What chunks of one document add to each other.")


class AnswerOptions(_Body):
    """The object `capstan` of a request, and an arm. Null: as the arm, else as the settings have it."""

    mode: Literal["bm25", "dense", "hybrid"] | None = None
    fusion: FusionOptions = FusionOptions()
    candidates: int | None = Field(None, ge=1, le=200, description="Chunks taken from the retriever.")
    rerank: bool | None = None
    rerank_weight: float | None = Field(None, ge=0, le=1, description="1: the reranker's order alone.")
    passages: int | None = Field(None, ge=1, le=20, description="Most passages given to the language model.")
    neighbours: int | None = Field(None, ge=0, le=10, description="Chunks before and after that widen a passage.")
    per_document: int | None = Field(None, ge=1, le=20, description="Most passages from one document.")
    exclude: list[str] = Field([], max_length=100, description="Ids of documents that are not to be used.")
    min_relevance: float | None = Field(None, ge=0, le=1, description="Best reranker score under which to abstain.")
    prompt: str | None = Field(None, description="Name of a prompt.")
    extractive: bool | None = Field(None, description="Answer with the passages' own sentences, without a model.")
    trace: bool | None = Field(None, description="Tell what each stage of retrieval found.")

    @field_validator("prompt")
    @classmethod
    def _known_prompt(cls, name: str | None) -> str | None:
        if name is not None and name not in PROMPTS:
            raise ValueError(f"there is no prompt {name[:100]!r}; the prompts are {', '.join(PROMPTS)}")
        return name

    def over(self, base: "AnswerOptions") -> "AnswerOptions":
        """These options where they are set, else those of `base`."""
        return AnswerOptions.model_validate(_merged(_given(base), _given(self)))


class Arm(_Body):
    """A named set of options, and perhaps another language model: only the operator says which one may be asked."""

    description: str = ""
    llm: str | None = Field(None, min_length=1, description="Its name at the gateway; null: the settings'.")
    options: AnswerOptions = AnswerOptions()


class _ArmsFile(RootModel[dict[str, Arm]]):
    pass


class Arms:
    """The arms of the file over the settings; arm `default` always exists."""

    def __init__(self, settings: GeneratorSettings, arms: dict[str, Arm]) -> None:
        self._model = settings.model_name
        self._llm = settings.llm
        self._arms = {DEFAULT_ARM: Arm(description="as the settings say"), **arms}
        base = AnswerOptions(
            mode="hybrid",
            candidates=settings.candidates,
            rerank=True,
            rerank_weight=settings.rerank_weight,
            passages=settings.passages,
            neighbours=settings.neighbours,
            per_document=settings.per_document,
            min_relevance=settings.min_relevance,
            prompt="default",
            extractive=False,
            trace=False,
        )
        self._options = {name: arm.options.over(base) for name, arm in self._arms.items()}

    def of_model(self, model: str) -> str:
        """The arm behind the model's name `docs` or `docs:<arm>`. Raises `ApiError` (404)."""
        name = DEFAULT_ARM if model == self._model else model.removeprefix(f"{self._model}:")
        if name == model or name not in self._arms:
            message = f"the model {model[:100]!r} does not exist here; the models are {', '.join(self.models())}"
            raise ApiError(404, "model_not_found", message, param="model")
        return name

    def options(self, arm: str, param: str = "arm") -> AnswerOptions:
        """All options of an arm, none of them null. Raises `ApiError` (404)."""
        if arm not in self._options:
            message = f"there is no arm {arm[:100]!r}; the arms are {', '.join(self._options)}"
            raise ApiError(404, "arm_not_found", message, param=param)
        return self._options[arm]

    def llm(self, arm: str) -> str:
        """The language model that writes an arm's answers."""
        return self._arms[arm].llm or self._llm

    def models(self) -> list[str]:
        """Names under which clients ask."""
        return [self._model, *(f"{self._model}:{name}" for name in self._arms if name != DEFAULT_ARM)]

    def listing(self) -> list[dict[str, Any]]:
        """Name, model, description, language model and complete options of each arm."""
        return [
            {
                "name": name,
                "model": self._model if name == DEFAULT_ARM else f"{self._model}:{name}",
                "description": arm.description,
                "llm": self.llm(name),
                "options": self._options[name].model_dump(),
            }
            for name, arm in self._arms.items()
        ]


def load_arms(settings: GeneratorSettings) -> Arms:
    """Arms from the settings' file. A mistake in it ends the process with a line that says what to change."""
    path = settings.arms_file
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
        arms = _ArmsFile.model_validate(content).root
    except OSError as error:
        die(f"CAPSTAN_GENERATOR_ARMS_FILE: {path}: {error.strerror}")
    except yaml.YAMLError as error:
        die(f"{path}: not YAML: {' '.join(str(error).split())}")
    except ValidationError as error:
        die(*(f"{path}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()))
    return Arms(settings, arms)


def _given(options: AnswerOptions) -> dict[str, Any]:
    return options.model_dump(exclude_unset=True, exclude_none=True)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    fusion = {**base.get("fusion", {}), **over.get("fusion", {})}
    return {**base, **over, "fusion": fusion}
