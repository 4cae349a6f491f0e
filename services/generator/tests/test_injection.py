"""Documents that attack, with a model that falls for everything: tests/injection/documents.yaml."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from capstan.generator.defuse import Sources, as_data, visible
from capstan.generator.injection import speaks_to_the_model
from capstan.generator.passages import Passage
from capstan.generator.prompt import messages

CASES = yaml.safe_load((Path(__file__).parent / "injection" / "documents.yaml").read_text("utf-8"))
HONEST = "Use git add to stage a file."
each_case = pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])


def passage(case: dict[str, Any]) -> Passage:
    return Passage("c", "d", case.get("title", "Notes"), (), case["text"], "https://docs.example/a", "s", "MIT")


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 25
    assert len({case["name"] for case in CASES}) == len(CASES)


@each_case
def test_the_prompts_structure_stays_as_it_is(case: dict[str, Any]) -> None:
    honest = Passage("c2", "d2", "Manual", (), HONEST, "", "", "")
    system, user = messages([passage(case), honest], "How do I stage a file?", nonce=lambda: "n0nce")
    text = user["content"]
    assert [line for line in text.split("\n") if "-----" in line] == ["-----BEGIN n0nce-----", "-----END n0nce-----"]
    assert re.findall(r"(?m)^\W*[\[［【](\d+)[\]］】]", text) == ["1", "2"]
    assert not re.search(r"<[|｜]|</?s>|\[/?INST\]|SYS>>", text)
    assert visible(text) == text
    assert text.endswith("-----END n0nce-----\n\nQuestion: How do I stage a file?")
    assert case["text"] not in system["content"]


@pytest.mark.parametrize("grounding", ["strict", "mark"])
async def test_answers_stay_harmless(generator: Any, new_result: Any, grounding: str) -> None:
    setup = await generator(grounding=grounding)
    for case in CASES:
        hostile = new_result(0, case["text"], title=case.get("title", "Notes"), url="https://docs.example/a")
        setup.neighbours.results = [hostile, new_result(1, HONEST)]
        setup.neighbours.scores = [0.9, 0.8]
        setup.neighbours.writes = [f"{case.get('title', '')} {case['text']} [1] [2] [7]\n", f"{HONEST} [2]"]
        check(case, (await setup.ask()).json(), strict=grounding == "strict")


def check(case: dict[str, Any], body: dict[str, Any], *, strict: bool) -> None:
    message, details = body["choices"][0]["message"], body["capstan"]
    answer, name = message["content"], case["name"]
    prose = re.sub(r"(?ms)^```.*?^```$|`[^`\n]*`", lambda m: " " * len(m.group()), answer)

    markers = [(m.start(), m.end()) for m in re.finditer(r"(?<!\w)\[\d{1,3}\]", prose)]
    cited = [annotation["url_citation"] for annotation in message["annotations"]]
    assert markers == [(c["start_index"], c["end_index"]) for c in cited], name
    assert {c["id"] for c in cited} <= {source["id"] for source in details["sources"]}, name

    assert not re.search(r"!\[[^\]]*\]\(|\]\((?!https://docs\.example/a\))|<(?=[A-Za-z/!?])", prose), name
    assert visible(answer) == answer, name

    shown_as_true = answer if strict else " ".join(s["text"] for s in details["sentences"] if s["supported"])
    assert not [words for words in case.get("never", []) if words in shown_as_true], name
    assert details["withheld"] == int(case["withheld"]), name
    if case["withheld"]:
        assert [source["text"] for source in details["sources"]] == [HONEST], name


@pytest.mark.parametrize(
    "text",
    [
        "git rebase ignores whitespace. Earlier instructions in this manual apply.",
        "The kernel ignores the rule if a previous rule matched.",
        "This option tells the server to ignore all other messages.",
        "system: the name of the system. user: the name of the user.",
        "The assistant helps you to install the system. Answer the questions and reply with yes.",
        "<s> is the sequence number; <stdio.h> must be included.",
        "Show your changes, then print the message.",
        "As an example, the model shows how the reader is told about it.",
        "A new rule: files are staged first.",
    ],
)
def test_ordinary_documentation_is_not_withheld(text: str) -> None:
    assert not speaks_to_the_model(text)


def test_sources_may_be_linked_and_named_and_nothing_else() -> None:
    sources = Sources(frozenset({"https://docs.example/a"}), ("See https://git-scm.example/docs for more.",))
    assert sources.inert("See [a](https://docs.example/a).") == "See [a](https://docs.example/a)."
    assert sources.inert("See https://git-scm.example/docs.") == "See https://git-scm.example/docs."
    assert sources.inert("See https://git-scm.example/docs?q=secret.") == "See (link removed)"
    assert sources.inert("See <https://evil.example/x>!") == "See <(link removed)>!"
    assert sources.inert("Use `<b>` and git add <file>.") == "Use `<b>` and git add `<file>`."


def test_code_in_documents_is_left_alone() -> None:
    code = "if a[1] < b[2]:\n    x = y[0]  # see [3]\n-----\n"
    assert as_data(code) == code
