"""Two arms compared on real searches: their rankings in one list, and clicks that say which one was better.

Team-draft interleaving: Radlinski, Kurup, Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?", CIKM 2008.
"""

import asyncio
import random
import secrets
from collections.abc import Hashable, Sequence
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from capstan.common.disconnect import until_disconnect
from capstan.common.errors import ApiError
from capstan.common.identity import IDENTITY_HEADER, Identity
from capstan.generator.chat import MAX_QUESTION_CHARS
from capstan.generator.evidence import Evidence, EvidenceFinder
from capstan.generator.history import Caller
from capstan.generator.options import Arms
from capstan.generator.passages import Passage
from capstan.generator.records import Records
from capstan.generator.stopwatch import Stopwatch

Item = TypeVar("Item", bound=Hashable)
Team = Literal["a", "b"]


def team_draft(
    a: Sequence[Item], b: Sequence[Item], rng: random.Random, limit: int | None = None
) -> list[tuple[Item, Team | None]]:
    """One list of the items of both, at most `limit`, each with the team that drafted it.

    In each round both teams pick the best item of their ranking that is not yet taken; a coin says who picks first. The
    draft ends when one team has nothing left to pick; what the other has left follows in its order, without a team, as
    it would be credited for the length of its list.
    """
    drafted: dict[Item, Team | None] = {}
    rankings = {"a": iter(a), "b": iter(b)}
    picks: dict[Team, int] = {"a": 0, "b": 0}

    def left(team: Team) -> Item | None:
        return next((item for item in rankings[team] if item not in drafted), None)

    waiting: dict[Team, Item | None] = {"a": left("a"), "b": left("b")}
    while waiting["a"] is not None and waiting["b"] is not None:
        first_by_coin: Team = "a" if rng.getrandbits(1) else "b"
        behind: Team = "a" if picks["a"] < picks["b"] else "b"
        team = first_by_coin if picks["a"] == picks["b"] else behind
        pick = waiting[team]
        assert pick is not None
        drafted[pick] = team
        picks[team] += 1
        for other in picks:
            if waiting[other] == pick:
                waiting[other] = left(other)
    for item in (*(w for w in waiting.values() if w is not None), *rankings["a"], *rankings["b"]):
        drafted.setdefault(item, None)
    return list(drafted.items())[:limit]


class InterleaveRequest(BaseModel):
    """A search by two arms."""

    model_config = ConfigDict(extra="forbid")
    query: str = Field(min_length=1, max_length=MAX_QUESTION_CHARS)
    a: str = Field(description="An arm's name.")
    b: str = Field(description="Another arm's name.")
    limit: int = Field(10, ge=1, le=50)


class InterleavedResult(BaseModel):
    """A chunk of a document. It has no score: that would tell whose it is."""

    id: str
    document_id: str
    chunk_index: int
    title: str
    heading: list[str]
    text: str
    url: str
    source: str
    license: str


class Interleaving(BaseModel):
    """Results of both arms; clicks on them go to `/v1/feedback` with this id."""

    id: str
    results: list[InterleavedResult]


def interleave_router(
    records: Records, finder: EvidenceFinder, arms: Arms, rng: random.Random | None = None
) -> APIRouter:
    """`/v1/interleave`. `rng` throws the coins."""
    router = APIRouter(tags=["feedback"])
    coins = rng or random.SystemRandom()

    @router.post("/v1/interleave")
    async def interleave(body: InterleaveRequest, request: Request, identity: Caller) -> Interleaving:
        """Search with two arms and mix their results by team draft. Who drafted what stays here."""
        if not body.query.strip():
            raise ApiError(400, "invalid_request", "the query is empty: say what to search for", param="query")
        if body.a == body.b:
            raise ApiError(400, "invalid_request", "'a' and 'b' are the same arm: name two", param="b")
        chosen = {"a": arms.options(body.a, "a"), "b": arms.options(body.b, "b")}
        headers = {IDENTITY_HEADER: request.app.state.signer.sign(Identity(identity.tenant, "generator"))}
        searches = asyncio.gather(
            *(finder.find(body.query, options, headers, Stopwatch()) for options in chosen.values())
        )
        found_a, found_b = await until_disconnect(request.receive, _both(searches))
        passages = {passage.chunk_id: passage for found in (found_b, found_a) for passage in found.passages}
        rankings = [[passage.chunk_id for passage in found.passages] for found in (found_a, found_b)]
        mixed = team_draft(rankings[0], rankings[1], coins, body.limit)
        id = f"interleaving-{secrets.token_hex(12)}"
        names: dict[Team | None, str | None] = {"a": body.a, "b": body.b, None: None}
        teams = {chunk: names[team] for chunk, team in mixed}
        await records.add_interleaving(identity.tenant, id, body.a, body.b, teams)
        return Interleaving(id=id, results=[_result(passages[chunk]) for chunk, _ in mixed])

    return router


async def _both(searches: "asyncio.Future[list[Evidence]]") -> list[Evidence]:
    """Raises `ApiError` when one arm could not do what it says: its clicks would be another arm's."""
    found = await searches
    if note := next((evidence.unranked for evidence in found if evidence.unranked), None):
        raise ApiError(503, "reranker_unavailable", f"the arms cannot be compared: {note}", retry_after=5)
    return found


def _result(passage: Passage) -> InterleavedResult:
    fields: dict[str, Any] = {
        name: getattr(passage, name) for name in ("document_id", "title", "text", "url", "source", "license")
    }
    return InterleavedResult(id=passage.chunk_id, chunk_index=passage.index, heading=list(passage.heading), **fields)
