"""What a scrape says of the answers that were given."""

from typing import Any

import pytest


async def _stages(setup: Any, metric: Any) -> set[str]:
    names = ("condense", "retrieve", "rerank", "pack", "generate", "verify")
    return {name for name in names if await metric(setup, "stage_seconds_count", stage=name) == 1}


async def test_an_answer_shows_its_stages_its_best_score_and_its_citations(generator: Any, metric: Any) -> None:
    setup = await generator()
    answer = (await setup.ask()).json()
    assert await metric(setup, "answers_total", mode="generated") == 1
    assert await _stages(setup, metric) == {"condense", "retrieve", "rerank", "pack", "generate", "verify"}
    assert await metric(setup, "relevance_count") == 1
    assert await metric(setup, "relevance_sum") == pytest.approx(max(setup.neighbours.scores))
    assert await metric(setup, "citations_total") == len(answer["choices"][0]["message"]["annotations"]) > 0
    assert await metric(setup, "sentences_total", supported="yes") == 1
    assert await metric(setup, "sentences_total", supported="no") == 1


async def test_an_abstention_has_neither_citations_nor_a_models_time(generator: Any, metric: Any) -> None:
    setup = await generator(min_relevance=0.95)
    await setup.ask()
    assert await metric(setup, "answers_total", mode="abstained") == 1
    assert await metric(setup, "citations_total") == 0
    assert await _stages(setup, metric) == {"condense", "retrieve", "rerank", "pack"}


async def test_without_a_reranker_there_is_no_score_to_show(generator: Any, metric: Any) -> None:
    setup = await generator()
    setup.neighbours.rerank_status = 503
    await setup.ask()
    assert await metric(setup, "relevance_count") == 0
    assert await metric(setup, "unranked_total") == 1
