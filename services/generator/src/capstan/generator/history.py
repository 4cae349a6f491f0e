"""The history of a tenant's answers: the same text, annotations and ids as they were sent."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from capstan.common.app import require_identity
from capstan.common.errors import ApiError
from capstan.common.identity import Identity
from capstan.generator.answer import Answer
from capstan.generator.chat import annotations, details, usage
from capstan.generator.records import Records

Caller = Annotated[Identity, Depends(require_identity)]


class Keeping:
    """Follows one answer's text to its client, and keeps the answer when it has ended.

    `head` has the completion's id, time and model; `asked` is the question as the user put it. An answer that ends too
    early, since its client has left or the model broke off, is kept with what was sent if it was a stream; of others
    nothing was sent.
    """

    def __init__(
        self, records: Records, tenant: str, head: dict[str, Any], asked: str, answer: Answer, *, streamed: bool
    ) -> None:
        self._records = records
        self._tenant = tenant
        self._head = head
        self._asked = asked
        self._answer = answer
        self._streamed = streamed

    async def follow(self, text: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        """The text itself. It ends after the answer is kept: who has seen its end can ask for it by its id."""
        sent = ""
        try:
            async with aclosing(text) as pieces:
                async for piece in pieces:
                    sent += piece
                    yield piece
        except BaseException:
            if self._streamed and sent:
                self._records.keep_soon(self._tenant, self._record(sent, incomplete=True))
            raise
        await self._records.keep(self._tenant, self._record(sent, incomplete=False))

    def _record(self, text: str, *, incomplete: bool) -> dict[str, Any]:
        answer = self._answer
        marked = [a for a in annotations(answer) if a["url_citation"]["end_index"] <= len(text)]
        return {
            **self._head,
            "object": "answer",
            "arm": answer.arm,
            "question": self._asked,
            "answer": text,
            "annotations": marked,
            "finish_reason": None if incomplete else answer.usage.finish_reason,
            "usage": usage(answer),
            "capstan": details(answer),
            "incomplete": incomplete,
        }


class Summary(BaseModel):
    """A kept answer in a list; the whole is at `/v1/answers/{id}`. `created` is Unix time in seconds."""

    id: str
    created: int
    model: str
    arm: str
    question: str
    answer: str
    incomplete: bool


class SummaryPage(BaseModel):
    """Answers from new to old; `next` is the cursor of the page after this one, null on the last."""

    data: list[Summary]
    next: str | None


class Deleted(BaseModel):
    """What was deleted."""

    id: str
    deleted: bool = True


def history_router(records: Records) -> APIRouter:
    """`/v1/answers`."""
    router = APIRouter(prefix="/v1/answers", tags=["history"])

    @router.get("")
    async def answers(
        identity: Caller, limit: Annotated[int, Query(ge=1, le=100)] = 30, cursor: str | None = None
    ) -> SummaryPage:
        """The tenant's answers, new ones first."""
        found, place = await records.answers(identity.tenant, limit, _place(cursor) if cursor else None)
        data = [Summary.model_validate(record) for record in found]
        return SummaryPage(data=data, next=place and f"{place[0]!r}_{place[1]}")

    @router.get("/{id}", response_class=Response, responses={200: {"content": {"application/json": {}}}})
    async def answer(id: str, identity: Caller) -> Response:
        """One answer as it was sent: question, text, annotations, and the object `capstan`."""
        body = await records.answer(identity.tenant, id)
        if body is None:
            raise _not_found(id)
        return Response(body, media_type="application/json")

    @router.delete("/{id}")
    async def forget(id: str, identity: Caller) -> Deleted:
        """Delete an answer and the feedback on it."""
        if not await records.forget(identity.tenant, id):
            raise _not_found(id)
        return Deleted(id=id)

    return router


def _place(cursor: str) -> tuple[float, str]:
    at, _, id = cursor.partition("_")
    try:
        return float(at), id
    except ValueError:
        message = "the cursor is not one: take it from 'next' of the page before"
        raise ApiError(400, "invalid_request", message, param="cursor") from None


def _not_found(id: str) -> ApiError:
    return ApiError(404, "answer_not_found", f"there is no answer {id[:100]!r}; it may have been deleted")
