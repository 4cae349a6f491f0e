"""Every command in a document is one that its program understands.

A block of `sh` or `console` is run by a shell in which nothing is started (documented_calls.py), so that what is
checked is what a reader's shell would start. Each such call is then held against the program itself
(documented_programs.py):

- `make`: the real make says what the target starts, and that is checked in turn;
- `python`, `native/bootstrap.py`: the program is started in this process, with these arguments, and stopped where it
  has parsed them; one that has no parser takes none;
- `docker compose`, `helm`, `kubectl`, `ruff`: the program itself, with `--help` at the end, refuses an unknown option;
- `curl`: the route is one of a committed openapi.json, and what is sent is JSON;
- files of the repository that are named exist, and so do variables that are set.

What cannot be done on the machine of the tests is marked: the block's first line is `# needs:` and what it needs. Code
in the text is checked in the same way where it is a command.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documented_calls import HollowCheckout
from documented_programs import problems
from documents import DOCUMENTS, ROOT, Code, blocks, inline

SHELL = ("sh", "console")
NEEDS = ("a cluster", "a GPU", "a network", "hours")
_COMMAND = re.compile(r"(?:[A-Z_]+=\S* )*(?:make|python3?|docker compose|helm|kubectl|\./\w+) [\w-]")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> HollowCheckout:
    return HollowCheckout(tmp_path_factory.mktemp("hollow"))


def _all(pick: Callable[[Path], Iterator[Code]]) -> list[Code]:
    return [code for document in DOCUMENTS for code in pick(document)]


SCRIPTS = [code for code in _all(blocks) if code.language in SHELL]
IN_TEXT = list({code.text: code for code in _all(inline) if _COMMAND.match(code.text)}.values())


@pytest.mark.parametrize("code", SCRIPTS, ids=str)
def test_every_command_of_a_block_is_understood_by_its_program(code: Code, checkout: HollowCheckout) -> None:
    text = typed(code)
    assert problems(text, code.document.parent, checkout) == []
    assert needed(text, checkout) <= marked(code), "the block's first line has to be: # needs: …"


@pytest.mark.parametrize("code", IN_TEXT, ids=str)
def test_every_command_in_a_text_is_understood_by_its_program(code: Code, checkout: HollowCheckout) -> None:
    assert problems(code.text, code.document.parent, checkout) == []


def test_every_block_says_what_it_is() -> None:
    known = {*SHELL, "python", "yaml", "json", "mermaid", "text"}
    assert [str(code) for code in _all(blocks) if code.language not in known] == []


def test_marks_say_one_of_a_few_things() -> None:
    assert [str(code) for code in SCRIPTS if not marked(code) <= set(NEEDS)] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("make no-such-target", "No rule to make target"),
        ("make soak MINUTE=3", "MINUTE"),
        ("make pretrain RECIPE=huge", "pretrain-huge.yaml"),
        ('make bench-llm ARGS="--onyl awq"', "--onyl"),
        ("QUIK=1 make soak", "QUIK"),
        ("python -m capstan.retriever --port 1", "--port"),
        ("python -m capstan.gateway new-kye", "new-kye"),
        ("python -m capstan.jobs.no_such_job", "no_such_job"),
        ("cd compose && ./pni", "./pni"),
        ("cd compose && docker compose up --wiat", "--wiat"),
        ("docker compose up --scale worker=2", "worker"),
        ("helm install capstan charts/capstan --create-namespaces", "--create-namespaces"),
        ("helm install capstan charts/capstan --values charts/capstan/ci/none.yaml", "none.yaml"),
        ("pip install -r requirements/no.txt", "requirements/no.txt"),
        ("curl -X PUT http://127.0.0.1:8000/v1/models", "PUT /v1/models"),
        ("curl http://127.0.0.1:8000/v1/rerank -d '{query: x}'", "no JSON"),
        ('echo "$UNSET"', "UNSET"),
        ("frobnicate", "frobnicate"),
        ("if", "syntax error"),
    ],
)
def test_a_command_that_is_wrong_is_found(text: str, said: str, checkout: HollowCheckout) -> None:
    found = problems(text, ROOT / "training-jobs", checkout)
    assert found
    assert said in found[0]


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("kubectl get pods", {"a cluster"}),
        ("cd charts && helm install capstan capstan", {"a cluster"}),
        ("torchrun -m capstan.jobs.pretrain train --recipe training-jobs/recipes/pretrain-4m-cpu.yaml", {"a GPU"}),
        ("make pretrain RECIPE=60m-gpu", {"a GPU"}),
        ("python -m capstan.jobs.pretrain export --push a/b", {"a network"}),
        ("make run", set()),
    ],
)
def test_what_needs_more_than_this_machine_is_seen(text: str, needs: set[str], checkout: HollowCheckout) -> None:
    assert needed(text, checkout) == needs


def typed(code: Code) -> str:
    """What a reader types: of a session in a console, what follows its prompts."""
    if code.language == "sh":
        return code.text
    return "\n".join(line.removeprefix("$ ") for line in code.text.splitlines() if line.startswith("$ "))


def marked(code: Code) -> set[str]:
    """What a block says that it needs."""
    mark = re.match(r"# needs: (.+)\n", code.text)
    return set(mark[1].split(", ")) if mark else set()


def needed(text: str, checkout: HollowCheckout) -> set[str]:
    """What the commands of a script need, as far as it can be seen."""
    found = set()
    for call in checkout.shell(text):
        program, line = call.words[0], str(call)
        if program in ("kubectl", "kind", "helm"):
            found.add("a cluster")
        if program == "torchrun" or "-gpu" in line:
            found.add("a GPU")
        if "--push" in call.words:
            found.add("a network")
    return found
