"""Options of a request and of an arm, over HTTP."""

from pathlib import Path
from typing import Any

import pytest

from capstan.generator.app import create_generator
from capstan.generator.settings import GeneratorSettings


async def test_every_arm_is_a_model(generator: Any) -> None:
    setup = await generator()
    models = [model["id"] for model in (await setup.client.get("/v1/models")).json()["data"]]
    assert models[0] == "docs"
    assert "docs:bm25" in models
    for model in models:
        response = await setup.ask(model=model)
        assert response.status_code == 200
        assert response.json()["model"] == model


async def test_arms_are_listed_with_all_that_they_set(generator: Any) -> None:
    setup = await generator(candidates=31)
    arms = {arm["name"]: arm for arm in (await setup.client.get("/v1/arms")).json()["data"]}
    assert (arms["default"]["model"], arms["bm25"]["model"]) == ("docs", "docs:bm25")
    assert (arms["bm25"]["options"]["mode"], arms["bm25"]["options"]["rerank"]) == ("bm25", False)
    assert arms["bm25"]["options"]["candidates"] == 31
    assert None not in arms["default"]["options"].values()
    assert all(arm["description"] for arm in arms.values())


async def test_a_requests_options_override_its_arms_which_override_the_settings(generator: Any, tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text("wide: {options: {candidates: 50, fusion: {rrf_k: 7, bm25_weight: 2}}}")
    setup = await generator(arms_file=file, candidates=9)
    options = {"mode": "hybrid", "fusion": {"rrf_k": 8}, "exclude": ["d1"]}
    answer = await setup.ask(model="docs:wide", capstan=options)
    assert setup.neighbours.searches[-1] == {
        "query": "How do I stage a file?",
        "mode": "hybrid",
        "limit": 50,
        "fusion": {"rrf_k": 8, "bm25_weight": 2.0},
        "exclude": ["d1"],
    }
    assert answer.json()["capstan"]["arm"] == "wide"
    await setup.ask(capstan={"candidates": None})
    assert setup.neighbours.searches[-1]["limit"] == 9


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rerankk": True}, "capstan.rerankk"),
        ({"mode": "magic"}, "capstan.mode"),
        ({"fusion": {"k": 1}}, "capstan.fusion.k"),
        ({"rerank_weight": 1.5}, "capstan.rerank_weight"),
        ({"exclude": ["x"] * 101}, "capstan.exclude"),
        ({"prompt": "poem"}, "the prompts are default"),
        ("fast", "capstan"),
    ],
)
async def test_a_mistaken_option_is_named(generator: Any, options: Any, says: str) -> None:
    setup = await generator()
    response = await setup.ask(capstan=options)
    assert response.status_code == 400
    assert says in response.json()["error"]["message"]
    assert setup.neighbours.searches == []


async def test_what_the_retriever_refuses_is_the_clients_mistake(generator: Any) -> None:
    setup = await generator()
    setup.neighbours.search_status = 400
    response = await setup.ask(capstan={"candidates": 200})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "capstan")
    assert "at most 100" in response.json()["error"]["message"]


async def test_an_unknown_arm_is_an_unknown_model(generator: Any) -> None:
    setup = await generator()
    response = await setup.ask(model="docs:magic")
    assert response.status_code == 404
    assert "docs:bm25" in response.json()["error"]["message"]


async def test_without_reranking_the_retrievers_order_stands(generator: Any) -> None:
    setup = await generator()
    details = (await setup.ask(capstan={"rerank": False})).json()["capstan"]
    assert [source["document_id"] for source in details["sources"]] == ["d0", "d1"]
    assert (details["reranked"], details["rerank_note"], details["relevance"]) == (False, None, None)
    assert setup.neighbours.reranked == []


@pytest.mark.parametrize(("weight", "first"), [(1.0, "d2"), (0.6, "d1"), (0.0, "d0")])
async def test_the_order_is_shared_between_reranker_and_retriever(
    generator: Any, new_result: Any, weight: float, first: str
) -> None:
    setup = await generator()
    # The retriever's ranks are d0 1, d1 2, d2 9; the reranker's d2 1, d1 2, d0 9.
    others = [new_result(n, f"Filler number {n} says nothing.") for n in range(3, 9)]
    d0, d1, d2 = (new_result(n, f"Use git add to stage file {n}.") for n in range(3))
    setup.neighbours.results = [d0, d1, *others, d2]
    setup.neighbours.scores = [0.1, 0.8, *[0.5] * 6, 0.9]
    details = (await setup.ask(capstan={"rerank_weight": weight})).json()["capstan"]
    assert details["sources"][0]["document_id"] == first
    assert details["relevance"] == 0.9


async def test_a_trace_tells_what_each_stage_found(generator: Any, chunks_of: Any) -> None:
    setup = await generator()
    setup.neighbours.results[0]["text"] = "Use git add to stage a file. " * 20
    setup.neighbours.stages = {"bm25": [setup.neighbours.results[1]], "dense": []}
    chunks = chunks_of(await setup.ask(stream=True, capstan={"trace": True}))
    assert setup.neighbours.searches[0]["explain"] is True
    assert (chunks[1]["choices"], chunks[1]["capstan"]["question"]) == ([], "How do I stage a file?")
    stages = chunks[1]["capstan"]["stages"]
    assert {name: [item["chunk_id"] for item in items] for name, items in stages.items()} == {
        "bm25": ["c1"],
        "dense": [],
        "fused": ["c0", "c1"],
        "reranked": ["c1", "c0"],
    }
    assert [item["score"] for item in stages["reranked"]] == [0.9, 0.2]
    assert len(stages["fused"][0]["text"]) == 300
    whole = (await setup.ask(capstan={"trace": True, "mode": "bm25"})).json()["capstan"]["stages"]
    assert [item["chunk_id"] for item in whole["bm25"]] == ["c0", "c1"]
    assert "stages" not in (await setup.ask()).json()["capstan"]


async def test_an_extractive_answer_needs_no_model(generator: Any) -> None:
    setup = await generator()
    body = (await setup.ask(capstan={"extractive": True})).json()
    assert body["choices"][0]["message"]["content"] == "Use git add to stage a file. [2]"
    assert (body["capstan"]["mode"], body["capstan"]["note"]) == ("extractive", None)
    assert setup.neighbours.llm_bodies == []


async def test_a_named_prompt_is_used(generator: Any) -> None:
    setup = await generator()
    await setup.ask(model="docs:quote")
    assert "copying" in setup.neighbours.llm_bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("fast: {options: {speed: 9}}", "fast.options.speed"),
        ("fast: [", "not YAML"),
        ("fast: {options: {prompt: poem}}", "the prompts are"),
        (None, "No such file"),
    ],
)
def test_a_mistake_in_the_arms_file_stops_the_start_and_is_named(
    tmp_path: Path, identity_secret: str, capsys: pytest.CaptureFixture[str], content: str | None, says: str
) -> None:
    file = tmp_path / "arms.yaml"
    if content is not None:
        file.write_text(content)
    urls = {f"{name}_url": "http://nowhere" for name in ("gateway", "retriever", "reranker")}
    settings = GeneratorSettings.model_validate(
        {"identity_secret": identity_secret, "llm": "m", "arms_file": file, **urls}
    )
    with pytest.raises(SystemExit):
        create_generator(settings)
    assert says in capsys.readouterr().err


async def test_an_arm_may_have_another_language_model(generator: Any, tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text("trained: {llm: small-trained}")
    setup = await generator(arms_file=file)
    for model, llm in (("docs", "small"), ("docs:trained", "small-trained")):
        answer = (await setup.ask(model=model)).json()
        assert (setup.neighbours.llm_bodies[-1]["model"], answer["capstan"]["llm"]) == (llm, llm)
    arms = {arm["name"]: arm["llm"] for arm in (await setup.client.get("/v1/arms")).json()["data"]}
    assert arms == {"default": "small", "trained": "small-trained"}


async def test_a_request_cannot_choose_the_language_model(generator: Any) -> None:
    """It could name the documents themselves, which would ask themselves."""
    setup = await generator()
    response = await setup.ask(capstan={"llm": "docs"})
    assert (response.status_code, setup.neighbours.llm_bodies) == (400, [])


async def test_what_the_model_wrote_is_told_where_it_is_asked_for(generator: Any) -> None:
    setup = await generator(grounding="strict")
    traced = (await setup.ask(capstan={"trace": True})).json()
    assert traced["capstan"]["written"] == "".join(setup.neighbours.writes)
    assert "Bananas" not in traced["choices"][0]["message"]["content"]
    assert "written" not in (await setup.ask()).json()["capstan"]
