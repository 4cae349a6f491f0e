"""Which sentences a passage supports."""

import asyncio
from collections.abc import Sequence

import pytest

from capstan.generator.embeddings import EmbeddingsUnavailable, Vector
from capstan.generator.markers import Sentence
from capstan.generator.passages import Passage
from capstan.generator.verify import Verdict, Verifier

TEXT = """The --force option overwrites files, but it does not delete them. The default timeout is 30 seconds.
Call os.replace() or rename_file to move a file atomically. Since version 3.11 the cache holds 1,024 entries.
Autovacuum runs without locks. The server stops when the parent process exits.

```
$ git add FILE
git commit -m "message"
```
"""


async def alike(texts: Sequence[str]) -> list[Vector]:
    return [[1.0, 0.0] for _ in texts]


async def unlike(texts: Sequence[str]) -> list[Vector]:
    return [[1.0, 0.0], *([0.0, 1.0] for _ in texts[1:])]


async def down(texts: Sequence[str]) -> list[Vector]:
    raise EmbeddingsUnavailable("no service")


def verify(text: str, named: tuple[int, ...] = (), embed: object = alike, is_code: bool = False) -> Verdict:
    other = Passage("c2", "d2", "Other", (), "Bananas ripen beside apples.", "", "", "")
    passages = [Passage("c1", "d1", "Manual", ("Options",), TEXT, "", "", ""), other]
    verifier = Verifier(passages, embed, min_support=0.6, min_similarity=0.5)  # type: ignore[arg-type]
    return asyncio.run(verifier.verify(Sentence(text, "", named, is_code)))


@pytest.mark.parametrize(
    "claim",
    [
        "The default timeout is 30 seconds.",
        "With --force, files are overwritten: the option overwrites files.",
        "The option does not delete files.",
        "Use `rename_file` to move a file atomically.",
        "A file is moved atomically by os.replace().",
        "Since 3.11 the cache holds 1024 entries.",
        "Autovacuum does not run with locks.",
        "When the parent process exits, the server is stopped.",
        "2. The default timeout is 30 seconds.",
    ],
)
def test_what_the_passage_says_is_supported(claim: str) -> None:
    assert list(verify(claim).by) == [1]


@pytest.mark.parametrize(
    ("claim", "why"),
    [
        ("The default timeout is 60 seconds.", "number"),
        ("The default timeout is 3 seconds.", "part of a number"),
        ("Since version 3.1 the cache holds 1,024 entries.", "part of a version"),
        ("The --forces option overwrites files.", "option"),
        ("The -f option overwrites files.", "option"),
        ("Use `rename_files` to move a file atomically.", "code"),
        ("Call os.rename() to move a file atomically.", "dotted name"),
        ("Call move_file to move a file atomically.", "name"),
        ("The option overwrites files in /etc/passwd.", "path"),
        ("The --force option deletes files.", "negation dropped"),
        ("The --force option does not overwrite files.", "negation added"),
        ("The default timeout is not 30 seconds.", "negation added"),
        ("The server never stops when the parent process exits.", "negation added"),
        ("Pears grow on tall trees.", "words"),
    ],
)
def test_what_the_passage_does_not_say_is_not(claim: str, why: str) -> None:
    verdict = verify(claim, named=(1,))
    assert (verdict.is_claim, verdict.by) == (True, {}), why


def test_words_alone_are_not_enough() -> None:
    verdict = verify("By default the timeout is 30 seconds.", embed=unlike)
    assert (verdict.by, verdict.support) == ({}, 1.0)


def test_without_embeddings_words_decide_and_it_is_said() -> None:
    passages = [Passage("c1", "d1", "Manual", (), TEXT, "", "", "")]
    verifier = Verifier(passages, down, min_support=0.6, min_similarity=0.5)
    assert not verifier.lexical_only
    verdict = asyncio.run(verifier.verify(Sentence("The default timeout is 30 seconds.", "", ())))
    assert verdict.by[1].similarity is None
    assert verifier.lexical_only


def test_a_code_block_must_stand_in_the_passage_line_by_line() -> None:
    assert list(verify("```\ngit add FILE\n```", is_code=True).by) == [1]
    assert list(verify('```sh\n$ git add FILE\n$ git commit -m "message"\n```', is_code=True).by) == [1]
    assert verify("```\ngit add FILE\ngit push --force\n```", is_code=True).by == {}
    assert verify("```\ngit add\nrm -rf /\n```", is_code=True).by == {}


def test_the_quote_is_the_passages_own_sentence() -> None:
    quote = verify("By default the timeout is 30 seconds.").by[1].quote
    assert quote == "The default timeout is 30 seconds."


def test_named_passages_come_first_and_a_wrong_name_is_corrected() -> None:
    assert list(verify("The default timeout is 30 seconds.", named=(2, 9)).by) == [1]
    assert list(verify("Bananas ripen beside apples.", named=(1,)).by) == [2]


@pytest.mark.parametrize("text", ["Sure!", "Here you go.", "Yes."])
def test_what_claims_nothing_needs_no_support(text: str) -> None:
    assert not verify(text).is_claim


def test_a_short_answer_with_a_number_is_a_claim() -> None:
    assert verify("It is 60.").is_claim
    assert verify("It is 60.").by == {}
