"""Questions with their answers: what can be asked of a page, and what would be ambiguous or cut short."""

from typing import Any

from capstan.jobs.assistant.data.questions import Question, questions


def asked(
    *sections: tuple[str | None, str], source: str = "postgresql-doc-15", title: str = "pg_dump"
) -> list[Question]:
    parts = [{"heading": [heading] if heading else [], "text": text} for heading, text in sections]
    page: dict[str, Any] = {"id": f"{source}/x", "source": source, "title": title, "sections": parts}
    return [question for seed in range(30) for question in questions(page, seed)]


def test_a_heading_is_answered_by_the_section_s_own_words() -> None:
    made = asked(
        ("Parallel dumps", "Parallel dumps of a database are made by several jobs. See the option for it. More.")
    )
    assert {question.answer for question in made} == {("Parallel dumps of a database are made by several jobs.",)}
    assert all("arallel dumps" in question.text for question in made)


def test_sentences_are_told_apart_behind_an_acronym_too() -> None:
    text = (
        "Parallel dumps of a database are a feature of PostgreSQL. However, the format of A. Lovelace has none of it."
    )
    longest = max((question.answer for question in asked(("Parallel dumps", text))), key=len)
    assert [len(sentence.split()) for sentence in longest] == [10, 10]


def test_a_page_without_headings_is_asked_for_by_its_short_name() -> None:
    title = "PostgreSQL: pg_dump (PostgreSQL Client Applications)"
    made = asked((None, "The program pg_dump extracts a database into a script file. It is quick to use."), title=title)
    assert made
    assert not [question.text for question in made if "Client Applications" in question.text]


def test_a_heading_that_every_page_has_asks_nothing() -> None:
    text = "These notes are about what the options of the examples return to the user in the end."
    assert not asked(("NOTES", text), ("Options", text), ("Examples", text))


def test_a_sentence_that_was_cut_answers_nothing() -> None:
    text = 'Parallel dumps of a database (e.g. "of a large one") are made by several jobs of the server.'
    assert not [q for q in asked(("Parallel dumps", text)) if "jobs" not in "".join(q.answer)]


def test_an_option_is_answered_where_its_term_and_its_name_are_its_own() -> None:
    options = (
        "- -j <n>, --jobs=<n>: Create the dump by several jobs of the server.\n"
        "- -a, --data, -s, --schema: Create the dump of one of the two alone.\n"
        "- EINVAL: The number of jobs is not valid at all.\n"
        "- EINVAL: The name of the file is not valid at all.\n"
        "- Module: The module of the server that does it all."
    )
    made = asked((None, options))
    assert {question.answer[0].split("`")[1] for question in made} == {"--jobs"}


def test_an_example_is_answered_by_operation_and_options() -> None:
    text = (
        "It does.\n\n```\naws ec2 create-vpc \\\n    --cidr-block 10.0.0.0/16 \\\n    --instance-tenancy dedicated\n```"
    )
    made = asked(("To create a VPC", text), source="awscli", title="aws ec2 create-vpc: examples")
    assert {q.answer for q in made} == {("Use `aws ec2 create-vpc` with `--cidr-block` and `--instance-tenancy`.",)}
