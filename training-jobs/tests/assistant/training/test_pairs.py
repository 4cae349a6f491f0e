"""Preference pairs: what passes is preferred to what fails, lengths are balanced, and references are capped."""

from pathlib import Path
from typing import Any

import pytest

from capstan.jobs.assistant.errors import AssistantError
from capstan.jobs.assistant.items import Item
from capstan.jobs.assistant.pairs import Pair, about, choose, pairs_of, read_pairs
from capstan.jobs.assistant.recipe import Preferences

ITEM = Item(
    "option/1",
    "option",
    "manpages:ls(1)",
    ({"role": "user", "content": "Which option lists all entries?"},),
    "-a",
    {"accepted": ["-a", "--all"], "known": ["-a", "--all", "-l", "-r"]},
)


def length(text: str) -> int:
    return len(text.split())


def made(*answers: str, longest: int = 50, **plan: Any) -> list[Pair]:
    return pairs_of(ITEM, answers, Preferences(**plan), length, longest)


def test_an_answer_that_passes_is_preferred_to_one_that_fails() -> None:
    (pair,) = made("-a", "-l")
    assert (pair.chosen, pair.rejected, pair.origin) == ("-a", "-l", "sampled")
    assert pair.reason == "another name of the manual"
    assert pair.messages == ITEM.messages


def test_of_those_that_pass_the_one_most_like_the_reference_is_chosen() -> None:
    assert made("--all", "the option -a does it", "-a", "-l")[0].chosen == "-a"


def test_of_those_that_fail_the_most_frequent_are_rejected() -> None:
    assert [pair.rejected for pair in made("-a", "-x", "-l", "-l", "-r", "-r", "-r")] == ["-r", "-l"]
    assert len(made("-a", "-x", "-l", "-r", of_a_prompt=1)) == 1


def test_where_nothing_passes_the_reference_is_preferred() -> None:
    (pair,) = made("-l", "-l")
    assert (pair.chosen, pair.origin) == ("-a", "reference")


def test_where_everything_passes_there_is_no_pair() -> None:
    assert made("-a", "--all", "-a") == []


def test_an_answer_that_was_cut_off_is_in_no_pair() -> None:
    assert made("-a", "-l and so on and so on", longest=6) == []


def test_lengths_that_are_far_apart_make_no_pair() -> None:
    assert made("-a", "it is the option -l of course", max_difference=3) == []
    assert made("-a", "it is the option -l of course", max_difference=6) != []


def pair(number: int, chosen: int, rejected: int, origin: str = "sampled") -> Pair:
    origins: Any = origin
    return Pair(f"i/{number}#0", "option", (), "w " * chosen, "w " * rejected, origins, "none")


def test_pairs_are_left_out_until_lengths_are_balanced() -> None:
    pairs = [*(pair(n, 9, 3) for n in range(10)), *(pair(10 + n, 3, 4) for n in range(30))]
    kept = choose(pairs, Preferences(balance=0.25), length, seed=1)
    before, after = about(pairs, length), about(kept, length)
    assert before["difference_tokens"] == 0.75
    assert abs(after["difference_tokens"]) <= 0.25
    assert len(kept) >= 36, "no more than needed"


def test_references_are_at_most_their_share() -> None:
    pairs = [*(pair(n, 3, 3) for n in range(14)), *(pair(50 + n, 3, 3, "reference") for n in range(40))]
    kept = about(choose(pairs, Preferences(references=0.3), length, seed=1), length)
    assert kept["by_origin"] == {"sampled": 14, "reference": 6}


def test_too_few_pairs_are_an_error_that_says_what_to_raise() -> None:
    with pytest.raises(AssistantError, match=r"1 pairs are too few .*sampling.prompts"):
        choose([pair(1, 3, 3)], Preferences(least=2), length, seed=1)


def test_pairs_survive_the_disk_and_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(one.line() for one in made("-a", "-l", "-r")))
    assert read_pairs(path) == made("-a", "-l", "-r")
    path.write_text('{"id": 1}\n')
    with pytest.raises(AssistantError, match="holds no pairs"):
        read_pairs(path)
