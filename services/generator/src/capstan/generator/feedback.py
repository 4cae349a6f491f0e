"""What users say of answers and results, and what that says of the arms."""

import math
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from capstan.generator.history import Caller
from capstan.generator.records import PairRow, Records, ThumbsRow

_Z95 = 1.959963984540054
"""The standard normal's quantile at 0.975."""


def sign_test(wins: int, losses: int) -> float:
    """p-value of the exact two-sided binomial test that a win is as likely as a loss. Ties are left out before."""
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(max(wins, losses), n + 1))
    return min(1.0, float(2 * tail / 2**n))


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """95% interval of a proportion (Wilson 1927); None without observations."""
    if n == 0:
        return None
    p, z2 = successes / n, _Z95 * _Z95
    middle = p + z2 / (2 * n)
    half = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


class FeedbackRequest(BaseModel):
    """A thumb on an answer, or a click on one of its sources or on an interleaved result."""

    model_config = ConfigDict(extra="forbid")
    answer_id: str | None = Field(None, max_length=200)
    interleaving_id: str | None = Field(None, max_length=200)
    kind: Literal["up", "down", "click"]
    chunk_id: str | None = Field(None, min_length=1, max_length=200)
    comment: str | None = Field(None, max_length=1000)

    @model_validator(mode="after")
    def _is_about_something(self) -> "FeedbackRequest":
        if (self.answer_id is None) == (self.interleaving_id is None):
            raise ValueError("give either 'answer_id' or 'interleaving_id'")
        if self.kind == "click" and self.chunk_id is None:
            raise ValueError("a click needs a 'chunk_id'")
        if self.interleaving_id is not None and (self.kind != "click" or self.comment is not None):
            raise ValueError("an interleaving takes clicks only, thumbs and comments are for answers")
        return self


class FeedbackRecorded(BaseModel):
    """The feedback is on disk."""

    recorded: bool = True


class PairReport(BaseModel):
    """Two arms that were interleaved. A win is an interleaving with more clicks on the one arm than on the other."""

    a: str
    b: str
    impressions: int
    clicks_a: int
    clicks_b: int
    wins_a: int
    wins_b: int
    ties: int = Field(description="Interleavings with as many clicks on the one as on the other, but some.")
    p_value: float = Field(description="Exact two-sided sign test of wins against losses, ties left out.")


class ThumbsReport(BaseModel):
    """Thumbs on an arm's answers, one an answer."""

    arm: str
    up: int
    down: int
    share_up: float | None
    ci95: tuple[float, float] | None = Field(description="Wilson interval of `share_up`.")


class FeedbackReport(BaseModel):
    """What the tenant's feedback says of the arms."""

    pairs: list[PairReport]
    thumbs: list[ThumbsReport]


def feedback_router(records: Records) -> APIRouter:
    """`/v1/feedback`."""
    router = APIRouter(prefix="/v1/feedback", tags=["feedback"])

    @router.post("")
    async def feedback(body: FeedbackRequest, identity: Caller) -> FeedbackRecorded:
        """Record feedback; the same once more changes nothing, a thumb replaces the other, a comment the one before."""
        if body.interleaving_id is not None:
            await records.add_click(identity.tenant, body.interleaving_id, body.chunk_id or "")
        elif body.answer_id is not None:
            await records.add_feedback(identity.tenant, body.answer_id, body.kind, body.chunk_id, body.comment)
        return FeedbackRecorded()

    @router.get("/report")
    async def report(identity: Caller) -> FeedbackReport:
        """Interleaved arms by clicks, and arms by thumbs."""
        pairs = [_pair(row) for row in await records.pairs(identity.tenant)]
        thumbs = [_thumbs(row) for row in await records.thumbs(identity.tenant)]
        return FeedbackReport(pairs=pairs, thumbs=thumbs)

    return router


def _pair(row: PairRow) -> PairReport:
    return PairReport(**row._asdict(), p_value=sign_test(row.wins_a, row.wins_b))


def _thumbs(row: ThumbsRow) -> ThumbsReport:
    n = row.up + row.down
    return ThumbsReport(**row._asdict(), share_up=row.up / n if n else None, ci95=wilson(row.up, n))
