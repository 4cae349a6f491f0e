"""Grounded items are in the generator's own prompt, byte for byte: what is learned is what is asked at work."""

from hypothesis import assume, given
from hypothesis import strategies as st

from capstan.generator import answer, defuse, passages, prompt
from capstan.jobs.assistant.data import prompt as ours

TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from("[]()<>|/-*#`1 \n\t“é→\u200b\u00ad\u202e［］"),
        st.characters(codec="utf-8", categories=["L", "N"]),
    ),
    max_size=40,
).map(lambda text: f"a {text} b")


def theirs(passage: ours.Passage, title: str, heading: tuple[str, ...]) -> passages.Passage:
    return passages.Passage("c", passage.document, title, heading, passage.text, "", "", "")


def test_the_words_are_the_generator_s() -> None:
    assert prompt.PROMPTS["default"] == ours.SYSTEM
    assert answer.ABSTENTION == ours.ABSTENTION


@given(st.lists(st.tuples(TEXT, st.lists(TEXT, max_size=2), TEXT), min_size=1, max_size=4), TEXT)
def test_messages_are_the_generator_s(found: list[tuple[str, list[str], str]], question: str) -> None:
    made = [ours.Passage("d", ours.place_of(title, heading), text) for title, heading, text in found]
    assume(all(ours.plain(p.place) and ours.plain(p.text) for p in made) and ours.plain(question))
    same = [theirs(p, title, tuple(heading)) for p, (title, heading, _) in zip(made, found, strict=True)]
    assert list(ours.messages(made, question, "0f")) == prompt.messages(same, question, nonce=lambda: "0f")


@given(TEXT)
def test_what_the_generator_would_change_is_not_plain(text: str) -> None:
    assert defuse.as_data(text) == text or not ours.plain(text)


def test_ordinary_documentation_is_plain() -> None:
    for text in ("git add <file>…\n- -n, --dry-run: Don’t add.", "```c\nint pipe(int fd[2]);\n```", "a | b\n--- x → y"):
        assert ours.plain(text)
