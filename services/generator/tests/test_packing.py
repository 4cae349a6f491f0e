"""Evidence within its budget: nothing twice, neighbours where they fit."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from capstan.generator.packing import numbered, select, tokens, widen
from capstan.generator.passages import Chunk, Passage
from capstan.generator.prompt import messages, room


def passage(document: str, index: int, text: str, heading: tuple[str, ...] = ("H",)) -> Passage:
    chunk = Chunk(index, f"{document}-{index}", text, heading)
    return Passage(chunk.id, document, f"Title {document}", heading, text, "u", "s", "MIT", None, (chunk,))


def around(document: str, texts: list[str], heading: tuple[str, ...] = ("H",)) -> list[Chunk]:
    return [Chunk(i, f"{document}-{i}", text, heading) for i, text in enumerate(texts)]


def pack(*ranked: Passage, budget: int = 1000, most: int = 9, per_document: int = 9) -> list[Passage]:
    return select(ranked, budget=budget, most=most, per_document=per_document)


def test_the_same_text_of_two_documents_is_packed_once() -> None:
    packed = pack(passage("a", 0, "Same  text\nhere."), passage("b", 4, "same text here."), passage("c", 0, "Other."))
    assert [p.document_id for p in packed] == ["a", "c"]


def test_passages_side_by_side_become_one_under_the_better_number() -> None:
    packed = pack(
        passage("a", 5, "Five."), passage("b", 0, "Other."), passage("a", 4, "Four."), passage("a", 6, "Six.")
    )
    assert [(p.chunk_id, p.text) for p in packed] == [("a-5", "Four.\n\nFive.\n\nSix."), ("b-0", "Other.")]
    assert [chunk.index for chunk in packed[0].chunks] == [4, 5, 6]


def test_a_document_gets_no_more_than_its_share() -> None:
    packed = pack(*(passage("a", 2 * i, f"Text {i}.") for i in range(4)), passage("b", 0, "B."), per_document=2)
    assert [p.chunk_id for p in packed] == ["a-0", "a-2", "b-0"]


def test_a_passage_is_widened_by_its_neighbours_nearest_first() -> None:
    texts = [f"Sentence number {i}." for i in range(5)]
    found = passage("a", 2, texts[2])
    one = widen([found], [around("a", texts)], reach=1, budget=1000)
    assert one[0].text == "\n\n".join(texts[1:4])
    tight = tokens(numbered(1, found)) + tokens(texts[3]) + 4
    assert widen([found], [around("a", texts)], reach=2, budget=tight)[0].text == "\n\n".join(texts[2:4])
    assert one[0].chunk_id == "a-2"
    assert one[0].chunk_of("Sentence number 3.") == "a-3"


def test_two_passages_that_grow_together_are_joined_and_no_text_stands_twice() -> None:
    texts = [f"Sentence number {i}." for i in range(5)]
    found = [passage("a", 0, texts[0]), passage("a", 3, texts[3])]
    wide = widen(found, [around("a", texts)] * 2, reach=2, budget=1000)
    assert [p.text for p in wide] == ["\n\n".join(texts)]


def test_overlapping_windows_are_joined_at_what_they_share() -> None:
    words = " ".join(f"word{i}" for i in range(40))
    first, second = words[:200], words[150:]
    assert widen([passage("a", 0, first)], [around("a", [first, second])], reach=1, budget=1000)[0].text == words


def test_a_neighbour_under_another_heading_brings_it() -> None:
    other = Chunk(1, "a-1", "It closes the file.", ("close()",))
    wide = widen([passage("a", 0, "It opens.", ("open()",))], [[other]], reach=1, budget=1000)
    assert wide[0].text == "It opens.\n\nclose()\n\nIt closes the file."


def test_a_long_passage_is_cut_at_a_sentence() -> None:
    packed = pack(passage("a", 0, "A sentence of some words. " * 60), budget=100)
    assert packed[0].text.endswith("words.")
    assert tokens(numbered(1, packed[0])) <= 100


odd = ["word ", "x9_", "\n", "[1]", "語", "<|a|>", ". "]
anything = st.text(max_size=300) | st.lists(st.sampled_from(odd)).map("".join)
found_chunks = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), anything, anything), max_size=8)


@settings(deadline=None)
@example([("a", 4, "0", "00000000"), ("a", 2, "", "")], 43, 1)  # joined, the better one's heading stands in the text
@given(found_chunks, st.integers(0, 400), st.integers(0, 3))
def test_the_budget_holds_whatever_the_documents_are(found: list[Any], budget: int, reach: int) -> None:
    unique = {(document, index): (text, title) for document, index, text, title in found}
    ranked = [passage(document, index, text, (title,)) for (document, index), (text, title) in unique.items()]
    packed = select(ranked, budget=budget, most=5, per_document=3)
    beside = [[Chunk(i, f"{p.document_id}-{i}", f"Neighbour {i}.", ("N",)) for i in range(8)] for p in packed]
    for passages in (packed, widen(packed, beside, reach=reach, budget=budget)):
        data = "".join(numbered(n, p) for n, p in enumerate(passages, start=1))
        assert tokens(data) <= budget
        chunks = [(p.document_id, chunk.index) for p in passages for chunk in p.chunks]
        assert len(chunks) == len(set(chunks))


@settings(deadline=None)
@given(anything, st.sampled_from(["default", "brief", "quote"]))
def test_prompt_and_answer_fit_the_context(question: str, prompt: str) -> None:
    left = room(question, prompt=prompt, context_tokens=1024, answer_tokens=128)
    packed = pack(*(passage(str(i), 0, f"{i} word. " * 200) for i in range(6)), budget=left)
    said = messages(packed, question, nonce=lambda: "0123456789ab", prompt=prompt)
    assert sum(tokens(m["content"]) for m in said) + 128 <= 1024
    assert packed
