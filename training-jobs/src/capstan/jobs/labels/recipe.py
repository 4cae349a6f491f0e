"""The recipe: which FAQ pages the questions come from, their layout, and on which side of the split they are."""

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from capstan.jobs.corpus.errors import CorpusError

Layout = Literal["pod", "sections", "definitions", "numbered"]
Split = Literal["dev", "test"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Strict):
    """What makes a question usable; each drops some, and the manifest counts them."""

    min_words: int = Field(3, ge=1)
    max_documents: int = Field(6, ge=1)
    max_answer_characters: int = Field(3000, ge=100)
    min_answer_characters: int = Field(40, ge=1)
    withhold_max_documents: int = Field(2, ge=1)
    withhold_max_uses: int = Field(5, ge=1)


class LabelSource(_Strict):
    """The FAQ pages of one package. `root` as in the corpus recipe; pages are paths below it."""

    package: str
    root: str
    layout: Layout
    content: str = Field("body", description="CSS selectors of where the text is; the first that is found.")
    product: str = Field(description="What the questions are about.")
    dev: list[str]
    test: list[str]

    @model_validator(mode="after")
    def _one_side(self) -> "LabelSource":
        if both := set(self.dev) & set(self.test):
            raise ValueError(f"{sorted(both)[0]} is in dev and in test; a page lies on one side")
        return self


class LabelRecipe(_Strict):
    """All label sources and the rules for them. Patterns are shell wildcards."""

    corpus: str = Field(description="The name of the corpus that the labels belong to.")
    limits: Limits = Limits()
    known_items: int = Field(300, ge=0)
    generic: list[str] = []
    not_alone: list[str] = []
    sources: list[LabelSource]


def load_label_recipe(path: Path) -> LabelRecipe:
    """Read a recipe. Raises `CorpusError` that names the file and the key."""
    try:
        return LabelRecipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise CorpusError(f"recipe {path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise CorpusError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorpusError(f"recipe {path}: {where}: {first['msg']}") from None
