"""The extractive answer: complete pieces of the passages, the best ones, nothing twice."""

import asyncio

import pytest

from capstan.generator.extract import best_pieces
from capstan.generator.passages import Passage
from capstan.generator.pieces import pieces
from capstan.generator.text import words

TEXT = """NAME
git-add - Add file contents to the index

DESCRIPTION
This command updates the index. It is run before a commit.

To stage every file below the current directory, use:

```
git add .
```

Output:

```
nothing
```

There are two ways to unstage:
- git restore --staged FILE
- git reset FILE

For more information, see git-commit(1).
A fragment without an end"""


def passage(text: str, number: int = 1, relevance: float | None = None) -> Passage:
    return Passage(f"c{number}", f"d{number}", "git-add", (), text, "", "", "", relevance)


def extract(question: str, *texts: str, **options: float) -> list[str]:
    passages = [passage(text, n) for n, text in enumerate(texts, start=1)]
    found = asyncio.run(best_pieces(question, passages, None, **options))  # type: ignore[arg-type]
    return [f"{scored.piece.number} {scored.piece.text} {scored.piece.code}".strip() for scored in found]


def test_a_passage_is_taken_apart_into_what_can_be_read_alone() -> None:
    assert [(piece.text, piece.code) for piece in pieces(1, passage(TEXT))] == [
        ("git-add - Add file contents to the index", ""),
        ("This command updates the index. It is run before a commit.", ""),
        ("To stage every file below the current directory, use:", "```\ngit add .\n```"),
        ("There are two ways to unstage:\n- git restore --staged FILE\n- git reset FILE", ""),
    ]


def test_code_comes_with_the_words_that_lead_to_it() -> None:
    assert extract("How do I stage every file?", TEXT)[0] == (
        "1 To stage every file below the current directory, use: ```\ngit add .\n```"
    )


def test_nothing_is_said_twice() -> None:
    once = "The timeout is thirty seconds by default."
    assert extract("What is the default timeout?", once, f"{once} Ports are open.") == [f"1 {once}"]


def test_pieces_come_in_reading_order() -> None:
    text = "A pipe has two ends. Bananas are yellow. The ends of a pipe are file descriptors."
    found = extract("What are the ends of a pipe?", text)
    assert found == ["1 A pipe has two ends.", "1 The ends of a pipe are file descriptors."]


def test_what_has_nothing_to_do_with_the_question_is_no_answer() -> None:
    assert extract("How do I bake bread?", TEXT, least=0.3) == []
    assert extract("anything", "") == []


def test_a_passage_that_the_reranker_finds_irrelevant_loses() -> None:
    texts = ("To stage a file, run add.", "To stage a file, use the index.")
    ranked = [passage(text, n, relevance) for n, (text, relevance) in enumerate(zip(texts, (0.9, 0.1), strict=True), 1)]
    found = asyncio.run(best_pieces("stage a file", ranked, None))
    assert [scored.piece.number for scored in found] == [1]


def test_a_long_answer_is_bounded() -> None:
    text = " ".join(f"Fact {i} about the pipe says something rather different about topic{i}." for i in range(30))
    assert len(" ".join(extract("pipe fact", text, characters=200))) < 240


@pytest.mark.parametrize("text", ["", "```\n```", "\n\n", "- ", "a", "```\nunclosed", ":", "x:\n- y"])
def test_odd_passages_do_no_harm(text: str) -> None:
    for piece in pieces(1, passage(text)):
        assert words(f"{piece.text} {piece.code}")
