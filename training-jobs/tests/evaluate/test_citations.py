from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.jobs.evaluate import citations, handcheck
from capstan.jobs.evaluate.asking import Answer
from capstan.jobs.evaluate.citations import Judged, Sentence
from capstan.jobs.evaluate.errors import EvaluateError
from capstan.jobs.evaluate.ratios import ratio
from capstan.jobs.evaluate.verifier import CachedEmbedder, Verdict, Verifier

REBASE = (
    "git rebase reapplies commits on top of another base tip. Use --onto to start elsewhere. "
    "It does not change the working tree. The default is 50 commits. Conflicts are shown and left to the user."
)
STASH = "git stash saves your local modifications away. The entries can be listed with git stash list."


def answer(text: str, cites: list[tuple[str, int]], passages: list[str], mode: str = "generated") -> Answer:
    """`cites` are (words before the marker, number); markers are put into the text here."""
    annotations: list[dict[str, Any]] = []
    shift = 0
    for place, number in sorted((text.index(before) + len(before), number) for before, number in cites):
        marker = f" [{number}]"
        start = place + shift
        text = text[:start] + marker + text[start:]
        shift += len(marker)
        citation = {"start_index": start + 1, "end_index": start + len(marker), "id": number}
        annotations.append({"type": "url_citation", "url_citation": citation})
    texts = enumerate(passages, 1)
    sources = [{"id": n, "title": "", "heading": [], "text": text, "document_id": f"d{n}"} for n, text in texts]
    details = {"mode": mode, "sources": sources}
    return Answer("k", "q1", "given", "docs", "How?", text=text, annotations=annotations, details=details)


def judged(given_answer: Answer) -> list[Judged]:
    return citations.judge(given_answer, Verifier(None))


def test_a_citation_belongs_to_the_sentence_it_stands_behind() -> None:
    one = answer(
        "Rebase reapplies commits on another base. Stash saves local modifications away.",
        [("another base.", 1), ("modifications away.", 2)],
        [REBASE, STASH],
    )
    assert citations.sentences(one) == [
        Sentence("Rebase reapplies commits on another base.", (1,)),
        Sentence("Stash saves local modifications away.", (2,)),
    ]


def test_a_marker_before_the_full_stop_and_two_markers_belong_there_too() -> None:
    one = answer(
        "Rebase reapplies commits on another base. More follows here.",
        [("another base", 1), ("another base", 2)],
        [REBASE, STASH],
    )
    first = citations.sentences(one)[0]
    assert set(first.cited) == {1, 2}
    assert "[" not in first.text


def test_indexing_in_code_is_not_a_citation() -> None:
    one = answer("The first argument is argv[1] in most programs.", [], [REBASE])
    assert citations.sentences(one) == [Sentence("The first argument is argv[1] in most programs.", ())]


def test_words_around_quotations_claim_nothing() -> None:
    quote = "git stash saves your local modifications away."
    frame = "The language model is not available at the moment; this is what the documents say:"
    one = answer(f"{frame}\n\n- {quote}", [("away.", 1)], [STASH], mode="extractive")
    assert [s.text for s in citations.sentences(one)] == [quote]


def test_a_block_of_code_is_one_sentence_with_the_marker_behind_it() -> None:
    code = "```sh\ngit stash list\n\ngit stash pop\n```"
    one = answer(f"Run these two:\n{code}\n\nMore words follow here.", [("pop\n```", 1)], [STASH])
    assert citations.sentences(one) == [
        Sentence("git stash list\n\ngit stash pop\n", (1,)),
        Sentence("More words follow here.", ()),
    ]


def test_a_sentence_without_a_marker_borrows_the_next_one_of_its_paragraph() -> None:
    text = "Stash saves modifications away. Rebase is something quite different. Penguins live far south."
    one = answer(text, [("different.", 1)], [STASH])
    assert citations.sentences(one) == [
        Sentence("Stash saves modifications away.", (1,), borrowed=True),
        Sentence("Rebase is something quite different.", (1,)),
        Sentence("Penguins live far south.", ()),
    ]
    figures = citations.score([(one, judged(one))], seed=1)
    assert (figures["recall"]["hits"], figures["recall_own_marker"]["hits"], figures["recall"]["n"]) == (1, 0, 3)
    assert (figures["precision"]["hits"], figures["precision"]["n"]) == (0, 1)


def test_precision_and_recall_by_hand() -> None:
    """Four sentences: supported, read with the next marker, wrongly cited, supported with a citation too many."""
    one = answer(
        "Rebase reapplies commits on top of another base tip. The moon is made of green cheese. "
        "Stash saves local modifications away. Use --onto to start elsewhere.",
        [("base tip.", 1), ("modifications away.", 1), ("start elsewhere.", 1), ("start elsewhere.", 2)],
        [REBASE, STASH],
    )
    figures = citations.score([(one, judged(one))], seed=1)
    assert (figures["recall"]["hits"], figures["recall"]["n"]) == (2, 4)
    assert (figures["precision"]["hits"], figures["precision"]["n"]) == (2, 4)
    assert figures["uncited_sentences"] == 0


class Told:
    """A verifier that supports a sentence by one of the given sets of passages, and by what holds one of them."""

    def __init__(self, *enough: set[str]) -> None:
        self._enough = enough

    def judge(self, sentence: str, passages: Any) -> Verdict:
        held = {passage.strip() for passage in passages}
        return Verdict(any(needed <= held for needed in self._enough), "told")


@pytest.mark.parametrize(
    ("enough", "precise"),
    [
        ([{"a", "b"}], [True, True, False]),  # neither suffices, both are needed, the third is not
        ([{"a"}], [True, False, False]),
        ([{"a"}, {"b"}], [True, True, False]),  # each suffices
        ([], [False, False, False]),
    ],
)
def test_a_citation_counts_if_it_suffices_or_is_needed(enough: list[set[str]], precise: list[bool]) -> None:
    one = answer("Something with words is said.", [("is said.", n) for n in (3, 2, 1)], ["a", "b", "c"])
    found = citations.judge(one, Told(*enough))[0]  # type: ignore[arg-type]
    assert [found.precise[n] for n in (1, 2, 3)] == precise
    assert found.together.supported is bool(enough)


def test_a_number_that_names_no_passage_is_a_wrong_citation() -> None:
    one = answer("Rebase reapplies commits on top of another base.", [("another base.", 7)], [REBASE])
    figures = citations.score([(one, judged(one))], seed=1)
    assert (figures["precision"]["hits"], figures["precision"]["n"], figures["recall"]["hits"]) == (0, 1, 0)


def test_failed_and_abstained_answers_are_counted_and_not_scored() -> None:
    good = answer("Rebase reapplies commits on another base.", [("another base.", 1)], [REBASE])
    failed = replace(good, error="503: busy")
    abstained = answer("I could not find an answer.", [], [REBASE], mode="abstained")
    figures = citations.score([(good, judged(good)), (failed, []), (abstained, [])], seed=1)
    assert [figures[key] for key in ("n", "n_scored", "n_failed", "n_abstained")] == [3, 1, 1, 1]
    assert figures["recall"]["value"] == 1.0


def test_nothing_scored_is_not_a_number() -> None:
    figures = citations.score([], seed=1)
    assert figures["precision"] == {"value": None, "ci95": None, "hits": 0, "n": 0}


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("“Use --onto to start elsewhere.”", True),
        ("git rebase reapplies commits on top of another base.", True),
        ("git rebase changes the working tree.", False),  # the passage says that it does not
        ("The default is 100 commits.", False),
        ("The default is 50 commits.", True),
        ("Use --upstream to start elsewhere.", False),
        ("Rebase commits default tip tree.", False),  # its words are there, but not together
        ("Penguins live in Antarctica.", False),
    ],
)
def test_the_verifier(sentence: str, supported: bool) -> None:
    assert Verifier(None).judge(sentence, [REBASE]).supported is supported


def test_a_paraphrase_needs_its_embedding_near() -> None:
    sentence = "Rebase reapplies your commits onto another base branch somewhere."

    def verdict(cosine: float) -> bool:
        def embed(texts: Any) -> Any:
            return np.array([[1, 0], *[[cosine, (1 - cosine**2) ** 0.5]] * (len(texts) - 1)], dtype=np.float32)

        return Verifier(embed).judge(sentence, [REBASE]).supported

    assert verdict(0.9)
    assert not verdict(0.3)


def test_two_passages_support_together_what_neither_does() -> None:
    sentence = "Rebase reapplies commits and stash saves local modifications."
    verifier = Verifier(None)
    assert verifier.judge(sentence, [REBASE, STASH]).supported
    assert not verifier.judge(sentence, [REBASE]).supported
    assert not verifier.judge(sentence, [STASH]).supported


SENTENCES = st.lists(
    st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]), min_size=4, max_size=8
).map(lambda words: " ".join(words).capitalize() + ".")


@given(st.lists(SENTENCES, min_size=1, max_size=6), st.data())
def test_a_sentence_of_the_passage_is_always_supported_and_one_with_a_new_number_never(
    passage: list[str], data: st.DataObject
) -> None:
    sentence = data.draw(st.sampled_from(passage))
    text = " ".join(passage)
    assert Verifier(None).judge(sentence, [text]).supported
    assert not Verifier(None).judge(f"{sentence[:-1]} 4711.", [text]).supported


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).map(lambda p: (min(p), max(p))), max_size=30),
    st.integers(0, 9),
)
def test_a_share_lies_within_its_interval_and_in_0_to_1(counts: list[tuple[int, int]], seed: int) -> None:
    found = ratio(counts, seed=seed, resamples=200)
    if found.value is None:
        assert found.n == 0
        return
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.high <= 1
    assert found == ratio(counts, seed=seed, resamples=200)


def test_the_embedder_asks_for_each_text_once_and_for_few_at_a_time() -> None:
    asked: list[int] = []

    def fetch(texts: Any) -> Any:
        asked.append(len(texts))
        return np.ones((len(texts), 2), dtype=np.float32)

    embed = CachedEmbedder(fetch)
    assert embed([str(n) for n in range(100)]).shape == (100, 2)
    embed(["1", "2", "1"])
    assert asked == [64, 36]


def lines(verdicts: list[tuple[bool | None, bool]]) -> list[dict[str, Any]]:
    return [
        {"question": f"q{n}", "verdict": person, "verifier": machine} for n, (person, machine) in enumerate(verdicts)
    ]


def test_agreement_by_hand() -> None:
    """Ten judged: 7 both true, 1 only the verifier, 1 only the person, 1 both false; chance is 0.8² + 0.2²."""
    told = [(True, True)] * 7 + [(False, True), (True, False), (False, False), (None, True)]
    found = handcheck.agreement(lines(told))
    assert found["sampled"] == 11
    assert found["n"] == 10
    assert found["precision_by_hand"] == 0.8
    assert found["agreement"] == 0.8
    assert found["kappa"] == round((0.8 - 0.68) / (1 - 0.68), 4)
    assert (found["accepted_wrong"], found["refused_right"]) == (1, 1)


def test_a_sample_takes_few_of_a_question_and_is_the_same_each_time() -> None:
    many = [{"question": f"q{n % 10}", "n": n, "verdict": None} for n in range(100)]
    chosen = handcheck.sample(many, 15, seed=3)
    assert chosen == handcheck.sample(many, 15, seed=3)
    assert len(chosen) == 15
    assert max([c["question"] for c in chosen].count(f"q{n}") for n in range(10)) <= 2


def test_a_persons_verdicts_are_not_overwritten(tmp_path: Any) -> None:
    path = tmp_path / "check.jsonl"
    handcheck.write(path, lines([(True, True)]))
    with pytest.raises(EvaluateError, match="holds a person's verdicts"):
        handcheck.write(path, lines([(None, True)]))
    handcheck.write(path, lines([(None, True)]), force=True)
    assert handcheck.read(path)[0]["verdict"] is None


def test_a_verdict_that_is_none_of_three_is_named(tmp_path: Any) -> None:
    path = tmp_path / "check.jsonl"
    path.write_text('{"verdict": true}\n{"verdict": "yes"}\n')
    with pytest.raises(EvaluateError, match="line 2"):
        handcheck.read(path)


def test_every_citation_becomes_a_line_with_its_passage() -> None:
    one = answer("Rebase reapplies commits on another base.", [("another base.", 1)], [REBASE, STASH])
    (line,) = handcheck.pairs([(one, judged(one))])
    assert line["passage"].strip() == REBASE
    assert line["verdict"] is None
    assert line["verifier"] is True
