"""Families stay together, and what is held out shares nothing with training or with the labelled questions."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from capstan.jobs.assistant.data.contamination import Labelled, Prompts, consistent, without
from capstan.jobs.assistant.data.drafts import Draft, Refused, say
from capstan.jobs.assistant.data.plan import DataPlan
from capstan.jobs.assistant.data.sides import COMMON, aws_family, families_of, is_read, joined, side

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def draft(prompt: str, reference: str = "x") -> Draft:
    return Draft("option", "page", "family", say("system", prompt), reference, {})


def test_commands_on_one_noun_are_a_family() -> None:
    names = (["ec2", "create-vpc"], ["ec2", "describe-vpcs"], ["ec2", "delete-vpc"], ["ec2", "wait", "vpc-exists"])
    assert [aws_family(name) for name in names] == ["aws ec2 vpc"] * 4
    assert aws_family(["iam", "list-policies"]) == aws_family(["iam", "get-policy"]) != aws_family(["iam", "get-role"])


def test_pages_that_share_their_text_are_a_family() -> None:
    pages = {"a": "1234", "b": "1267", "c": "7xyz", "d": "7uvw", "e": "mnop"}
    assert joined(pages, shared=0.3) == {"a": "a", "b": "a", "c": "c", "d": "d", "e": "e"}


def test_a_family_of_most_of_a_manual_is_only_trained_on() -> None:
    pages = {f"page{n}": ["shared", "text", str(n)] for n in range(9)}
    assert set(joined(pages, shared=0.3).values()) == {COMMON}
    assert side(COMMON, DataPlan()) == "train"


def test_every_document_has_a_family() -> None:
    def page(name: str, text: str) -> dict[str, Any]:
        return {"id": name, "source": name.partition("/")[0], "sections": [{"heading": [], "text": text}]}

    found = families_of([page("awscli/ec2/create-vpc", "x"), page("git-doc/git-a", LONG), page("git-doc/git-b", LONG)])
    assert found == {
        "awscli/ec2/create-vpc": "aws ec2 vpc",
        "git-doc/git-a": "git-doc/git-a",
        "git-doc/git-b": "git-doc/git-a",
    }


@given(st.lists(st.text(max_size=8), min_size=200, max_size=200, unique=True))
def test_shares_of_the_sides_are_about_the_plan_s(families: list[str]) -> None:
    sides = [side(family, DataPlan()) for family in families]
    assert 15 <= sides.count("test") <= 80
    assert sides.count("train") > sides.count("test") > sides.count("validation")


def test_a_share_of_the_corpus_has_whole_services_of_aws_and_single_pages_of_manuals() -> None:
    services = [f"awscli/s{n}/{verb}" for n in range(200) for verb in ("get", "list")]
    pages = [
        {"id": name, "source": name.partition("/")[0]} for name in (*services, *(f"git-doc/{n}" for n in range(400)))
    ]
    read = {page["id"] for page in pages if is_read(page, DataPlan(share=0.2))}
    assert all((f"{name[:-5]}/get" in read) == (name in read) for name in services if name.endswith("/list"))
    assert 20 <= sum(name.startswith("git-doc") for name in read) <= 160
    assert all(is_read(page, DataPlan()) for page in pages)


def test_held_out_prompts_that_training_has_seen_are_refused() -> None:
    refused = Refused()
    train = [draft(f"Say {LONG}."), draft("Which option of pg_dump dumps only the schema of the database?")]
    held_out = [
        draft(f"Repeat {LONG}!"),
        draft("Which option of pg_dump dumps only the schema of a database?"),
        draft("Which option of pg_dump leaves the owners out?"),
    ]
    kept = without(held_out, train, overlap=13, near=0.6, refused=refused)
    assert kept == held_out[2:]
    assert sorted(refused.counts["option"].values()) == [1, 1]


def test_the_nearest_prompt_is_the_one_with_most_in_common() -> None:
    prompts = Prompts(["a b c d e", "p q r s t"])
    assert prompts.nearest("a b c d e") == 1
    assert prompts.nearest("p q r x y") == 0.2
    assert prompts.nearest("u v w") == 0


def test_nothing_of_a_labelled_question_is_left() -> None:
    labelled = Labelled([{"question": "In Perl, how do I read a file?", "answer": LONG}], overlap=13, near=0.7)
    assert labelled.holds(draft("How do I read a file in Perl?"))
    assert labelled.holds(draft("What?", f"It is {LONG}."))
    assert not labelled.holds(draft("In Perl, how do I write a socket?"))


def test_prompts_with_several_answers_teach_nothing() -> None:
    refused = Refused()
    kept = consistent([draft("a?", "1"), draft("A!", "2"), draft("b", "1"), draft("b", "1"), draft("c", "1")], refused)
    assert [d.prompt for d in kept] == ["b", "c"]
    assert refused.as_dict() == {"option": {"the same prompt has several answers": 2, "a repeated prompt": 1}}
