"""What instructions are made of a page: titled commands, options of manuals, tables of examples."""

import random
from typing import Any

import pytest

from capstan.jobs.assistant.checkers import check
from capstan.jobs.assistant.data import aws, git, option, sql
from capstan.jobs.assistant.data.drafts import Draft, Refused
from capstan.jobs.assistant.data.tables import Table, tables


def page(name: str, title: str, *sections: tuple[list[str], str]) -> dict[str, Any]:
    return {
        "id": name,
        "source": name.partition("/")[0],
        "title": title,
        "sections": [{"heading": heading, "text": text} for heading, text in sections],
    }


def example(command: str, title: str = "To create a VPC", said: str = "") -> dict[str, Any]:
    text = f"{said}\n\n```\n{command}\n```\n\nOutput:\n\n```\n{{}}\n```"
    return page("awscli/ec2/create-vpc", "aws ec2 create-vpc: examples", ([title], text))


def of_aws(document: dict[str, Any], seed: int = 1) -> list[Draft]:
    return list(aws.drafts(document, "family", seed, Refused()))


@pytest.mark.parametrize("seed", range(40))
def test_an_aws_prompt_names_service_task_and_every_value(seed: int) -> None:
    command = "aws ec2 create-vpc \\\n    --cidr-block 10.0.0.0/16 \\\n    --instance-tenancy=dedicated --no-dry-run"
    (draft,) = of_aws(example(command), seed)
    assert draft.reference == "aws ec2 create-vpc --cidr-block 10.0.0.0/16 --instance-tenancy dedicated --no-dry-run"
    for said in ("reate a VPC", "10.0.0.0/16", "dedicated", "CIDR block", "no dry run"):
        assert said in draft.prompt.replace("No dry run", "no dry run")
    assert "ec2" in draft.prompt.lower()
    assert check(draft.item("1"), draft.reference).exact


def test_the_description_is_used_where_it_names_values() -> None:
    said = "The following create-vpc example creates a VPC with the block 10.0.0.0/16 and no tags."
    prompts = {
        of_aws(example("aws ec2 create-vpc --cidr-block 10.0.0.0/16", said=said), seed)[0].prompt for seed in range(40)
    }
    described = [prompt for prompt in prompts if "and no tags" in prompt]
    assert described
    assert all(prompt.count("10.0.0.0/16") == 1 for prompt in prompts)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (example("aws ec2 delete-vpc", "To delete a VPC"), "the parser refuses: a required option is missing"),
        (example("aws ec2 create-vpc --cidr-block 10.0.0.0/16 > out.json"), "the parser refuses: an argument too many"),
        (example("aws ec2 create-vpc --cidr-block <block>"), "a placeholder"),
        (
            example("aws ec2 create-vpc --cidr-block 10.0.0.0/16 --query Vpc"),
            "options that shape the output or read it from a file",
        ),
        (
            example("aws ec2 create-vpc --cidr-block 10.0.0.0/16", "To make a network"),
            "the operation is not to be guessed",
        ),
        (example("aws ec2 create-vpc --cidr-block 10.0.0.0/16", "VPCs"), "no task in the title"),
        (example("aws ec2 create-vpc --cidr-block " + "1" * 120), "a long value"),
        (example("ls"), "not one command"),
        (example("aws s3 cp C:\\notes.txt s3://bucket/notes.txt"), "not one command"),
    ],
)
def test_what_cannot_be_learned_is_refused_with_its_reason(document: dict[str, Any], reason: str) -> None:
    refused = Refused()
    assert not list(aws.drafts(document, "family", 1, refused))
    assert refused.as_dict() == {"aws": {reason: 1}}


OPTIONS = """- -s, --schema-only: Dump only the object definitions (schema), not data.
- -a, --data-only: Dump only the data, not the schema.
- --clean: Clean the database objects before they are created again.
- --create: Create the database itself before reconnecting to it.
- -v: Say more about what is done, and how long it takes.
- -x, --xyzzy: Print nothing of what was asked for at all.
- --quote-names: See the option --clean.
"""


def test_options_of_a_manual_are_asked_for_by_their_descriptions() -> None:
    refused = Refused()
    made = list(
        option.drafts(
            page("postgresql-doc-15/app-pgdump", "pg_dump (PostgreSQL Client Applications)", (["Options"], OPTIONS)),
            "f",
            3,
            refused,
        )
    )
    assert {"--schema-only", "--data-only", "--clean", "--create"} <= {draft.reference for draft in made}
    assert refused.counts["option"]["no name of more than a letter"] == 1
    for draft in made:
        assert "pg_dump" in draft.prompt
        assert draft.source == "postgresql-doc-15:app-pgdump"
        assert check(draft.item("1"), draft.reference).exact
    assert any(check(draft.item("1"), "-s").passed for draft in made if draft.reference == "--schema-only")


def test_a_name_that_nothing_leads_to_comes_with_a_choice() -> None:
    document = page("postgresql-doc-15/x", "x", (["Options"], OPTIONS))
    for seed in range(20):
        made = {draft.reference: draft.prompt for draft in option.drafts(document, "f", seed, Refused())}
        assert "--xyzzy" in made["--xyzzy"]


def test_names_and_descriptions_that_stand_for_several_things_are_left_out() -> None:
    text = (
        "- --bare: Make a bare copy of the objects.\n"
        "- --mirror: Make a bare copy of the objects.\n"
        "- --quiet: Be quiet about the objects.\n"
        "- --quiet: Be quiet about the progress.\n"
        "- --depth=<depth>: Limit the depth of the history.\n"
    )
    document = page("git-doc/git-fetch", "git-fetch(1): Download objects", (["OPTIONS"], text))
    for made in (git.drafts(document, "f", 1, Refused()), option.drafts(document, "f", 1, Refused())):
        assert {draft.reference.split()[-1].partition("=")[0] for draft in made} == {"--depth"}


def test_git_commands_have_one_or_two_options_with_their_values() -> None:
    text = (
        "- -n, --dry-run: Do a dry run and change nothing.\n"
        "- --depth=<depth>: Limit the depth of what is fetched.\n"
        "- -q, --quiet: Be quiet about it all."
    )
    document = page("git-doc/git-fetch", "git-fetch(1): Download objects", (["OPTIONS"], text))
    made = [draft for seed in range(30) for draft in git.drafts(document, "f", seed, Refused())]
    assert {draft.source for draft in made} == {"git-doc:git-fetch"}
    assert {len(draft.check["options"]) for draft in made} == {1, 2}
    for draft in made:
        assert check(draft.item("1"), draft.reference).exact
        assert all(o["value"] is None or o["value"] in draft.prompt for o in draft.check["options"])


SQL = """To make one:

```
CREATE TABLE films (
    code        char(5) CONSTRAINT firstkey PRIMARY KEY,
    title       varchar(40) NOT NULL,
    date_prod   date,
    len         interval hour to minute
);
CREATE TABLE t1 (a int, b int);
CREATE TABLE broken (a int,
```
"""


def test_tables_of_the_examples_keep_their_plain_columns() -> None:
    (table,) = tables(page("postgresql-doc-15/sql-createtable", "CREATE TABLE", (["Examples"], SQL)))
    assert table == Table(
        "films", {"code": "text", "title": "text", "date_prod": "date"}, "postgresql-doc-15/sql-createtable"
    )
    assert not list(tables(page("git-doc/x", "x", ([], SQL))))


@pytest.mark.parametrize("seed", range(60))
def test_every_statement_is_valid_and_can_be_told_from_others(seed: int) -> None:
    table = Table("films", {"title": "text", "made": "date", "length": "integer", "list_price": "real"}, "page")
    instruction, statement = sql.Writer(table, random.Random(seed)).one()
    made = list(sql.drafts(table, seed, Refused()))
    assert len({draft.reference for draft in made}) == len(made) >= 6
    for draft in made:
        assert check(draft.item("1"), draft.reference).exact
        assert table.schema in draft.prompt
    for literal in [word for word in statement.replace("%", "").split("'")[1::2]]:
        assert literal in instruction
