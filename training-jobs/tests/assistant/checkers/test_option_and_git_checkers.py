"""Names of options pass in every spelling of the manual; git commands pass in any order of their options."""

import pytest

from capstan.jobs.assistant.checkers import check
from capstan.jobs.assistant.items import Item, Kind

USER = ({"role": "user", "content": "…"},)
FORCE = {"names": ["--force", "-f"], "value": None}
DEPTH = {"names": ["--depth", "-n"], "value": "5"}


def item(kind: Kind, reference: str, **check: object) -> Item:
    return Item("1", kind, "page", USER, reference, dict(check))


OPTION = item("option", "--schema-only", accepted=["--schema-only", "-s"], known=["--schema-only", "-s", "--data-only"])
CONSTANT = item("option", "O_APPEND", accepted=["O_APPEND"], known=["O_APPEND", "O_EXCL"])
GIT = item(
    "git", "git clone --force --depth=5", subcommand="clone", options=[FORCE, DEPTH], known=["--force", "--bare"]
)


@pytest.mark.parametrize(
    ("of", "answer", "exact"),
    [
        (OPTION, "--schema-only", True),
        (OPTION, "`-s`", False),
        (OPTION, "pg_dump -s, --schema-only", False),
        (CONSTANT, "The constant is O_APPEND.", False),
        (GIT, "git clone --force --depth=5", True),
        (GIT, "git clone --depth 5 -f", False),
        (GIT, "git clone -n5 -f", False),
    ],
)
def test_right_in_any_spelling(of: Item, answer: str, exact: bool) -> None:
    verdict = check(of, answer)
    assert (verdict.passed, verdict.exact) == (True, exact)


@pytest.mark.parametrize(
    ("of", "answer", "reason"),
    [
        (OPTION, "I do not know.", "no answer of the kind that was asked for"),
        (OPTION, "--data-only", "another name of the manual"),
        (OPTION, "--schemas", "a name that does not exist"),
        (OPTION, "--schema-only or --data-only", "more than one name"),
        (CONSTANT, "O_EXCL", "another name of the manual"),
        (GIT, "clone it with --force", "no answer of the kind that was asked for"),
        (GIT, "git fetch --force --depth=5", "another subcommand"),
        (GIT, "git clone --depth=5", "an option is missing"),
        (GIT, "git clone --force --depth=6", "another value"),
        (GIT, "git clone --force --depth=5 --bare", "another option"),
        (GIT, "git clone --force --depth=5 --deep", "an option that does not exist"),
        (GIT, "git clone --force --depth=5 there", "an argument too many"),
        (GIT, "git clone --force --force", "another option"),
        (GIT, "git clone --force '", "unbalanced quotes"),
        (GIT, "git", "another subcommand"),
    ],
)
def test_wrong_with_its_reason(of: Item, answer: str, reason: str) -> None:
    verdict = check(of, answer)
    assert (verdict.passed, verdict.exact, verdict.reason) == (False, False, reason)
