import pytest

from capstan.worker.simulate.text import reply, token_ids, tokenize


def written(message: str) -> str:
    return "".join(reply(message))


def test_tokens_join_to_the_text_they_came_from():
    assert "".join(tokenize("one  two\nthree")) == "one  two\nthree"


def test_token_numbers_depend_on_the_text_alone():
    assert token_ids(["a", " b", "a"])[::2] == token_ids(["a", "a"])


def test_repeats_the_sentences_in_order():
    assert written("First one. Second one? Third") == "First one. Second one? Third"


def test_leaves_markdown_markers_out():
    assert written("# Title\n\n- **bold** `code`\n> quoted") == "Title bold code quoted"


def test_keeps_names_with_dots_and_stars_together():
    assert written("Use a.b.c and *.py files.") == "Use a.b.c and *.py files."


BRACKETED = """[1] guide.md > Start
Run the server with make. It prints.

[2] ref.md
The port is 8004 here. More.

Question: how?"""

TAGGED = """<passage id="1">Run the server with make. It prints.</passage>
<passage id="2" from="ref.md">The port is 8004 here.</passage>"""


@pytest.mark.parametrize("message", [BRACKETED, TAGGED])
def test_quotes_one_sentence_of_each_of_two_passages_with_its_number(message):
    assert written(message) == "Run the server with make. [1] The port is 8004 here. [2]"


def test_one_passage_is_quoted_alone():
    assert written("[1] A title\nOnly this sentence is here.\n\nQuestion: what?") == "Only this sentence is here. [1]"


def test_a_passage_without_a_sentence_is_quoted_by_its_first_line():
    assert written("[1] apt-get install\nls -l") == "apt-get install [1]"


def test_an_empty_message_has_no_reply():
    assert reply("  \n") == []
