"""The answer in the shape of OpenAI's chat completions, with `url_citation` annotations."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from capstan.common.errors import ApiError
from capstan.generator.answer import Answer
from capstan.generator.citations import Checked
from capstan.generator.condense import Turn
from capstan.generator.options import AnswerOptions
from capstan.generator.passages import Passage

MAX_QUESTION_CHARS = 4000
_PASSED_ON = ("temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty")


class Message(BaseModel):
    """A chat message; content is text or a list of text parts."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: str | list[dict[str, Any]] | None = None

    def text(self) -> str:
        """The message's text."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or ""


class StreamOptions(BaseModel):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """OpenAI's chat completion request, as far as it concerns an answer from documents."""

    model_config = ConfigDict(extra="allow")
    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = None
    capstan: AnswerOptions = Field(AnswerOptions(), description="Options of this answer; else the arm's.")

    def turns(self) -> list[Turn]:
        """The conversation up to the last user message, the question. Raises `ApiError`."""
        if self.n not in (None, 1):
            raise ApiError(400, "invalid_request", "this model gives one answer: leave out 'n'", param="n")
        said = [Turn(m.role, m.text().strip()) for m in self.messages if m.role in ("user", "assistant")]
        while said and said[-1].role != "user":
            said.pop()
        if not said or not said[-1].text:
            raise ApiError(400, "invalid_request", "the last user message is empty: ask a question", param="messages")
        if len(said[-1].text) > MAX_QUESTION_CHARS:
            message = f"the question is longer than {MAX_QUESTION_CHARS} characters; shorten it"
            raise ApiError(400, "question_too_long", message, param="messages")
        return said

    def sampling(self, answer_tokens: int) -> dict[str, Any]:
        """Sampling options for the language model; greedy unless the client says otherwise.

        The penalty breaks loops. It counts only what the model wrote, so copying a passage is not punished.
        """
        given = {name: value for name in _PASSED_ON if (value := (self.model_extra or {}).get(name)) is not None}
        return {"temperature": 0, "frequency_penalty": 0.2, **given, "max_tokens": answer_tokens}

    def answer_tokens(self, default: int, most: int) -> int:
        """The answer's token limit."""
        return min(self.max_completion_tokens or self.max_tokens or default, most)


class ChatFormat:
    """Builds the objects of one completion."""

    def __init__(self, *, id: str, created: int, model: str) -> None:
        self._common = {"id": id, "created": created, "model": model}

    @property
    def head(self) -> dict[str, Any]:
        """What all objects of the completion have: its id, time and model."""
        return dict(self._common)

    def chunk(self, delta: dict[str, Any], finish_reason: str | None = None, **extra: Any) -> dict[str, Any]:
        """A `chat.completion.chunk`."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {**self._common, "object": "chat.completion.chunk", "choices": [choice], **extra}

    def trace_chunk(self, answer: Answer) -> dict[str, Any]:
        """The chunk that tells what each stage found, before the first text."""
        return {**self._common, "object": "chat.completion.chunk", "choices": [], "capstan": trace(answer)}

    def usage_chunk(self, answer: Answer) -> dict[str, Any]:
        """The chunk that carries usage and no choice."""
        return {**self._common, "object": "chat.completion.chunk", "choices": [], "usage": usage(answer)}

    def completion(self, answer: Answer) -> dict[str, Any]:
        """A whole `chat.completion`."""
        message = {"role": "assistant", "content": answer.binder.text, "annotations": annotations(answer)}
        choice = {"index": 0, "message": message, "finish_reason": answer.usage.finish_reason}
        return {
            **self._common,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage(answer),
            "capstan": {**details(answer), **({"stages": answer.evidence.stages} if answer.options.trace else {})},
        }


def annotations(answer: Answer) -> list[dict[str, Any]]:
    """`url_citation` annotations: where the marker stands, and the passage's own words behind it."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": c.start,
                "end_index": c.end,
                "url": passage.url,
                "title": passage.place,
                "id": c.number,
                "document_id": passage.document_id,
                "chunk_id": passage.chunk_of(c.quote),
                "quote": c.quote,
                "support": c.support,
            },
        }
        for c in answer.binder.citations
        for passage in [answer.passages[c.number - 1]]
    ]


def trace(answer: Answer) -> dict[str, Any]:
    """What each stage of retrieval found, and for which question."""
    return {"stages": answer.evidence.stages, "question": answer.question}


def details(answer: Answer) -> dict[str, Any]:
    """What an OpenAI client does not know about: mode, sources, flags, times."""
    cited = {c.number for c in answer.binder.citations}
    return {
        "arm": answer.arm,
        "llm": answer.llm,
        "question": answer.question,
        "mode": answer.mode.value,
        "note": answer.note,
        "reranked": answer.evidence.reranked,
        "rerank_note": answer.evidence.unranked,
        "relevance": answer.evidence.best,
        "grounded": answer.grounded,
        "verified_by": "words" if answer.binder.verifier.lexical_only else "words and embeddings",
        "sentences": [_sentence(sentence) for sentence in answer.binder.checked],
        "sources": [_source(n, p, cited=n in cited) for n, p in enumerate(answer.passages, start=1)],
        "suggestions": [_suggestion(p) for p in answer.suggestions],
        "withheld": answer.withheld,
        "timings_ms": answer.timings_ms,
        **({"written": answer.written} if answer.options.trace else {}),
    }


def _sentence(sentence: Checked) -> dict[str, Any]:
    return {
        "text": sentence.text,
        "start": sentence.start,
        "end": sentence.end,
        "supported": sentence.supported,
        "citations": list(sentence.citations),
        "support": sentence.support,
        "similarity": sentence.similarity,
    }


def _suggestion(passage: Passage) -> dict[str, Any]:
    return {
        "document_id": passage.document_id,
        "chunk_id": passage.chunk_id,
        "title": passage.title,
        "heading": list(passage.heading),
        "url": passage.url,
    }


def _source(number: int, passage: Passage, *, cited: bool) -> dict[str, Any]:
    return {
        "id": number,
        "cited": cited,
        "title": passage.title,
        "heading": list(passage.heading),
        "url": passage.url,
        "document_id": passage.document_id,
        "chunk_id": passage.chunk_id,
        "chunks": [chunk.id for chunk in passage.chunks],
        "source": passage.source,
        "license": passage.license,
        "relevance": passage.relevance,
        "text": passage.text,
    }


def usage(answer: Answer) -> dict[str, int]:
    """Tokens of the language model's calls."""
    prompt = answer.usage.prompt + answer.condensing.prompt
    completion = answer.usage.completion + answer.condensing.completion
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
