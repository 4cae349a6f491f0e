from capstan.retriever.tokens import TokenCounter


def test_a_text_counts_as_its_words_do_and_each_word_is_asked_for_once() -> None:
    asked: list[str] = []

    def count_words(words: list[str]) -> list[int]:
        asked.extend(words)
        return [len(word) for word in words]

    count = TokenCounter(count_words)
    assert count(["the snake_case", "the (the)"]) == [3 + 5 + 1 + 4, 3 + 1 + 3 + 1]
    assert count(["the"]) == [3]
    assert sorted(asked) == ["(", ")", "_", "case", "snake", "the"]


def test_no_texts_and_empty_texts_count_nothing() -> None:
    count = TokenCounter(lambda words: [1] * len(words))
    assert count([]) == []
    assert count(["", " \n"]) == [0, 0]
