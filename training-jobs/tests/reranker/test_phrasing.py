import random

import pytest

from capstan.jobs.reranker.phrasing import about, ask, instruction, is_question


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("create a pipe", "create a pipe"),
        ("To create a VPC", "create a VPC"),
        ("Return the size, in bytes, of path.", "get the size, in bytes, of path"),
        ("Opens the file that is named. More.", "open the file that is named"),
        ("Copying files", "copy files"),
        ("Getting a list", "get a list"),
        ("To list files, use ls", "list files"),
        ("Description", None),
        ("Files", None),
        ("The pipe is closed", None),
    ],
)
def test_phrases_that_begin_with_a_verb_become_instructions(phrase: str, expected: str | None) -> None:
    assert instruction(phrase) == expected


def test_the_product_is_named_once_and_not_always() -> None:
    asked = [ask("open a file", "Perl", random.Random(seed)) for seed in range(50)]
    assert any("Perl" in question for question in asked)
    assert any("Perl" not in question for question in asked)
    assert all(about("Perl filters", "Perl", random.Random(seed)).count("Perl") == 1 for seed in range(20))


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("How do I lock a file?", True),
        ("Why bisecting merge commits is harder", True),
        ("What?", False),
        ("NAME", False),
    ],
)
def test_headings_that_are_questions(heading: str, expected: bool) -> None:
    assert is_question(heading) is expected
