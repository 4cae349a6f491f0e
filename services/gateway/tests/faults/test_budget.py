"""A month's budget: refused when it is spent, and spending outlives the process."""

from pathlib import Path
from typing import Any

from fake_upstream import FakeUpstream

PRICE = {"input": 1000, "output": 10_000}
"""A request of 5 + 7 tokens costs $0.075; with `max_tokens` 7 at most a little more is held for it."""


async def test_spending_survives_a_restart(process: Any, serve: Any, tmp_path: Path) -> None:
    url = await serve(FakeUpstream())
    models = {"pools": {"p": {"urls": [url]}}, "models": {"m": {"pool": "p", "price": PRICE}}}
    gateway = await process(models, USAGE_FILE=str(tmp_path / "usage.jsonl"))
    assert await gateway.stop() == 0
    gateway.limit_tenant(monthly_budget_usd=0.25)
    await gateway.start()
    codes = [await gateway.code(max_tokens=7) for _ in range(5)]
    served = codes.count("")
    assert 1 <= served <= 3
    assert codes[served:] == ["budget_exceeded"] * (5 - served)
    refused = await gateway.chat(max_tokens=7)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0
    assert await gateway.stop() == 0
    await gateway.start()
    assert await gateway.code(max_tokens=7) == "budget_exceeded"
    usage = (await gateway.client.get("/v1/usage")).json()
    assert usage["totals"]["requests"] == served
    assert usage["budget_left_usd"] == round(0.25 - served * 0.075, 6)
    assert await gateway.stop() == 0
