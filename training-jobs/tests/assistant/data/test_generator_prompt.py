"""Grounded items are in the generator's own prompt, byte for byte: what is learned is what is asked at work."""

from hypothesis import given
from hypothesis import strategies as st

from capstan.generator import answer, defuse, passages, prompt
from capstan.jobs.assistant.data import prompt as ours


def text(special: str, letters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.text(st.one_of(st.sampled_from(special), letters), max_size=40).map(lambda made: f"a {made} b")


PLAIN = text("()/-*#`1 \n\t“é→", st.characters(min_codepoint=48, max_codepoint=122)).filter(ours.plain)
ANY = text("[]()<>|/-*#`1 \n\t“é→\u200b\u00ad\u202e［］", st.characters(codec="utf-8", categories=["L", "N"]))


def theirs(passage: ours.Passage, title: str, heading: tuple[str, ...]) -> passages.Passage:
    return passages.Passage("c", passage.document, title, heading, passage.text, "", "", "")


def test_the_words_are_the_generator_s() -> None:
    assert prompt.PROMPTS["default"] == ours.SYSTEM
    assert answer.ABSTENTION == ours.ABSTENTION


@given(st.lists(st.tuples(PLAIN, st.lists(PLAIN, max_size=2), PLAIN), min_size=1, max_size=4), PLAIN)
def test_messages_are_the_generator_s(found: list[tuple[str, list[str], str]], question: str) -> None:
    made = [ours.Passage("d", ours.place_of(title, heading), text) for title, heading, text in found]
    same = [theirs(p, title, tuple(heading)) for p, (title, heading, _) in zip(made, found, strict=True)]
    assert list(ours.messages(made, question, "0f")) == prompt.messages(same, question, nonce=lambda: "0f")


@given(ANY)
def test_what_the_generator_would_change_is_not_plain(said: str) -> None:
    assert defuse.as_data(said) == said or not ours.plain(said)


def test_ordinary_documentation_is_plain() -> None:
    for said in ("git add <file>…\n- -n, --dry-run: Don’t add.", "```c\nint pipe(int fd[2]);\n```", "a | b\n--- x → y"):
        assert ours.plain(said)
