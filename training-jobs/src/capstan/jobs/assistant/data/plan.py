"""The recipe's section `data`: how many items of which kind, and what is refused."""

from pydantic import BaseModel, ConfigDict, Field

from capstan.jobs.assistant.items import KINDS, Kind


class Sizes(BaseModel):
    """Most items of each kind in a split."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aws: int = Field(ge=0)
    option: int = Field(ge=0)
    git: int = Field(ge=0)
    sql: int = Field(ge=0)
    grounded: int = Field(ge=0)

    def of(self, kind: Kind) -> int:
        """The number for a kind."""
        return int(getattr(self, kind))

    @property
    def total(self) -> int:
        """Items of all kinds."""
        return sum(map(self.of, KINDS))


class DataPlan(BaseModel):
    """What is made of the corpus. Equal plans, corpora and code make equal bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 17
    share: float = Field(1.0, gt=0, le=1, description="Share of the corpus that is read: all, or less for a quick run.")
    train: Sizes = Sizes(aws=2100, option=650, git=500, sql=750, grounded=1200)
    validation: Sizes = Sizes(aws=110, option=45, git=35, sql=35, grounded=75)
    test: Sizes = Sizes(aws=320, option=120, git=90, sql=140, grounded=280)
    held_out: float = Field(0.22, gt=0, lt=0.6, description="Share of families of sources kept for test.")
    validated: float = Field(0.08, gt=0, lt=0.4, description="Share of families kept for validation.")
    max_tokens: int = Field(600, ge=64, description="Longest item, prompt and answer, in tokens of the base model.")
    overlap_words: int = Field(13, ge=5, description="Length of the n-grams that held-out items may not share.")
    near_duplicate: float = Field(
        0.7, gt=0, le=1, description="Jaccard similarity of three-word shingles above which two prompts are the same."
    )
    unanswerable: float = Field(0.2, ge=0, le=0.5, description="Share of grounded items without an answer.")
