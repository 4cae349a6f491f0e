"""Fallback models and A/B splits: who answers, and under which name it is counted."""

from typing import Any

import httpx2
import pytest
from faults.raw_upstream import answer, die, die_in_stream, unavailable

from capstan.gateway.config import ModelsFile

MODELS = {
    "m": {"pool": "p", "fallback": ["spare"], "price": {"input": 1, "output": 1}},
    "spare": {"pool": "q", "price": {"input": 10, "output": 100}},
}


async def _start(gateway: Any, raw: Any, fault: Any, spare: Any = answer, **pool: Any) -> tuple[Any, Any]:
    first, second = await raw(fault), await raw(spare)
    setup = await gateway(urls=[first.url], pools={"q": {"urls": [second.url], **pool}}, models=MODELS)
    return setup, second


@pytest.mark.parametrize("fault", [die, unavailable])
async def test_another_model_answers_and_is_what_is_paid(
    gateway: Any, raw: Any, auth: dict[str, str], fault: Any
) -> None:
    setup, spare = await _start(gateway, raw, fault)
    assert (await setup.chat()).status_code == 200
    assert spare.requests == 1
    assert await setup.metric('capstan_gateway_tokens_total{model="spare",tenant="acme",type="output"}') == 7
    assert await setup.metric('capstan_gateway_tokens_total{model="m"') == 0
    assert await setup.metric('capstan_gateway_served_total{model="m",served="spare"}') == 1
    usage = (await setup.client.get("/v1/usage", headers=auth)).json()
    assert [(row["model"], row["output_tokens"]) for row in usage["rows"]] == [("spare", 7)]
    assert usage["rows"][0]["cost_usd"] == pytest.approx((5 * 10 + 7 * 100) / 1e6)


async def test_a_pool_that_cannot_be_reached_is_replaced_too(gateway: Any, raw: Any) -> None:
    spare = await raw(answer)
    setup = await gateway(urls=["http://127.0.0.1:9"], pools={"q": {"urls": [spare.url]}}, models=MODELS)
    assert [(await setup.chat()).status_code for _ in range(3)] == [200] * 3


async def test_a_stream_that_has_begun_is_not_begun_again(gateway: Any, raw: Any) -> None:
    setup, spare = await _start(gateway, raw, die_in_stream)
    assert "upstream_died" in (await setup.chat(stream=True)).text
    assert spare.requests == 0


async def test_when_the_fallback_fails_too_its_failure_is_told(gateway: Any, raw: Any) -> None:
    setup, _ = await _start(gateway, raw, die, unavailable)
    response = await setup.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (503, "starting")


async def test_a_rejected_request_is_not_sent_elsewhere(gateway: Any, raw: Any) -> None:
    setup, spare = await _start(gateway, raw, _reject)
    assert (await setup.chat()).status_code == 400
    assert spare.requests == 0


async def _reject(writer: Any) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")


async def test_what_a_fallback_of_a_pool_that_is_not_metered_uses_is_metered(gateway: Any, raw: Any) -> None:
    first, spare = await raw(die), await raw(answer)
    pools = {"q": {"urls": [spare.url]}}
    setup = await gateway(urls=[first.url], pool={"metered": False}, pools=pools, models=MODELS)
    assert (await setup.chat()).status_code == 200
    assert await setup.metric('capstan_gateway_tokens_total{model="spare",tenant="acme",type="output"}') == 7


async def test_a_fallback_that_a_reload_has_removed_is_passed_over(gateway: Any, raw: Any) -> None:
    first = await raw(die)
    setup = await gateway(urls=[first.url], models=MODELS, pools={"q": {"urls": ["http://127.0.0.1:9"]}})

    async def reload_and_die(writer: Any) -> None:
        pools = {"p": {"urls": [first.url]}}
        setup.gateway.router.apply(ModelsFile.model_validate({"pools": pools, "models": {"m": {"pool": "p"}}}))
        await die(writer)

    first.behave = reload_and_die
    response = await setup.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_died")


SPLIT = {"m": {"split": {"a": 1, "b": 1}}, "a": {"pool": "p"}, "b": {"pool": "p"}}


async def test_a_split_is_sticky_and_recorded(gateway: Any) -> None:
    setup = await gateway(models=SPLIT)

    async def arms(**fields: Any) -> set[str]:
        before = len(setup.upstream.requests)
        for _ in range(4):
            response: httpx2.Response = await setup.chat(**fields)
            assert response.status_code == 200
        return {r["body"]["model"] for r in setup.upstream.requests[before:]}

    by_user = [await arms(user=f"user-{i}") for i in range(12)]
    assert all(len(seen) == 1 for seen in by_user)
    assert set.union(*by_user) == {"a", "b"}
    counts = {arm: sum(r["body"]["model"] == arm for r in setup.upstream.requests) for arm in "ab"}
    for arm, count in counts.items():
        assert await setup.metric(f'capstan_gateway_served_total{{model="m",served="{arm}"}}') == count
        tokens = f'capstan_gateway_tokens_total{{model="{arm}",tenant="acme",type="output"}}'
        assert await setup.metric(tokens) == 7 * count
    setup.gateway._log.flush()
    assert sum(b'"served":"a"' in line for line in b"".join(setup.log).splitlines()) == counts["a"]


async def test_a_conversation_stays_on_its_arm_as_it_grows(gateway: Any) -> None:
    setup = await gateway(models=SPLIT)
    for start in ("one", "two", "three", "four"):
        said = [{"role": "system", "content": "be brief"}, {"role": "user", "content": start}]
        before = len(setup.upstream.requests)
        for _ in range(3):
            assert (await setup.chat(messages=said)).status_code == 200
            said = [*said, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "go on"}]
        assert len({r["body"]["model"] for r in setup.upstream.requests[before:]}) == 1
