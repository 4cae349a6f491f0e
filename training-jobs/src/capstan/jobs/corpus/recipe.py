"""The recipe: which packages the corpus is made of, and how the pages of each are laid out."""

import hashlib
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from capstan.extract.rules import Format, PageRules
from capstan.jobs.corpus.errors import CorpusError

Globs = list[Annotated[str, Field(min_length=1)]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """The pages of one package. Globs match paths below `root`; `*` crosses directories."""

    root: str = Field(description="Directory of the pages inside the package; may hold wildcards.")
    format: Format
    include: Globs = ["*"]
    exclude: Globs = []
    labels: Globs = Field([], description="Pages that evaluation uses as questions and answers: kept out.")
    license: str = Field(description="SPDX expression, or what the package calls its licence.")
    license_file: str = Field(description="Where the licence's text is inside the package; may hold wildcards.")
    pages: PageRules = PageRules()


class DebianSource(Source):
    """A Debian package; of several that match `package`, the one with the highest version."""

    package: str = Field(description="Name or wildcard pattern, such as postgresql-doc-[0-9]*.")


class WheelSource(Source):
    """A wheel of the Python registry, pinned."""

    package: str
    version: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Cleaning(_Strict):
    """What is dropped after extraction."""

    min_characters: int = Field(40, ge=1, description="Documents with less text than this hold nothing to find.")
    max_link_share: float = Field(0.75, gt=0, le=1, description="Documents with more of their text in links are lists.")
    repeated_in: int = Field(10, ge=2, description="A section found in so many documents of a source is boilerplate.")
    keep_headings: list[str] = Field([], description="Headings of sections that may repeat: facts.")


class Recipe(_Strict):
    """One corpus."""

    name: str
    cleaning: Cleaning = Cleaning()
    debian: list[DebianSource] = []
    wheels: list[WheelSource] = []

    @property
    def hash(self) -> str:
        """SHA-256 of what the recipe says, whatever its layout and comments."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises `CorpusError` that names the file and the key."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CorpusError(f"recipe {path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CorpusError(f"recipe {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise CorpusError(f"recipe {path} is not a mapping of settings")
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorpusError(f"recipe {path}: {where}: {first['msg']}") from None
    if not recipe.debian and not recipe.wheels:
        raise CorpusError(f"recipe {path} names no packages: fill in debian or wheels")
    return recipe
