import math

import httpx2
import pytest

from capstan.reranker.support import supported


def test_a_document_with_several_fitting_passages_passes_one_with_a_single_match() -> None:
    scores = supported([0.80, 0.75, 0.75, 0.70], ["lucky", "core", "core", "core"], temperature=1.0)
    assert scores[1] == scores[2] > scores[0] == 0.80
    assert scores[1] > scores[3] > 0.70


def test_the_best_passage_stands_for_the_soft_sum_of_its_group() -> None:
    logits = [0.5, -0.5, -2.0]
    scores = supported([1 / (1 + math.exp(-logit)) for logit in logits], ["d"] * 3, temperature=2.0)
    expected = 2.0 * math.log(sum(math.exp(logit / 2.0) for logit in logits))
    assert math.log(scores[0] / (1 - scores[0])) == pytest.approx(expected)


def test_order_within_a_group_stays() -> None:
    scores = supported([0.2, 0.9, 0.5], ["d"] * 3, temperature=1.0)
    assert scores[1] > scores[2] > scores[0]


@pytest.mark.parametrize(
    ("groups", "temperature"), [([None, None], 1.0), (["a", "b"], 1.0), (["a", None], 1.0), (["a", "a"], 0.0)]
)
def test_without_company_or_temperature_scores_stay(groups: list[str | None], temperature: float) -> None:
    assert supported([0.3, 1.0], groups, temperature) == [0.3, 1.0]


def test_scores_at_the_ends_of_the_scale_are_no_error() -> None:
    scores = supported([0.0, 1.0, 1.0], ["a", "a", "a"], temperature=1.0)
    assert all(0 <= score <= 1 for score in scores)


async def test_passages_of_one_group_support_each_other_over_the_api(client: httpx2.AsyncClient) -> None:
    def documents(group: str) -> list[dict[str, str]]:
        return [{"text": "a b x", "group": "single"}, *({"text": "a x y", "group": group} for _ in range(12))]

    async def best(group: str) -> tuple[int, float]:
        answer = await client.post("/v1/rerank", json={"query": "a b c", "documents": documents(group)})
        first = answer.json()["results"][0]
        return first["index"], first["relevance_score"]

    index, score = await best("core")
    assert index == 1
    assert score > 2 / 3
    assert await best("single") != (1, score)
