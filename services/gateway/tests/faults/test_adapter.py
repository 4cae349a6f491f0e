"""A LoRA adapter that the worker loads when the first request for it comes, and again after the worker's crash."""

import asyncio
from pathlib import Path
from typing import Any

from faults.rest import until
from simulated_worker import MODEL, Worker


async def test_an_adapter_on_demand(gateway: Any, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    models = {MODEL: {"pool": "p"}, "tuned": {"pool": "p", "adapter": str(tmp_path)}}
    models["broken"] = {"pool": "p", "adapter": str(tmp_path / "nowhere")}
    worker = Worker()
    try:
        setup = await gateway(urls=[worker.url], models=models, probe_interval_s=60)
        await until(lambda: _answers(setup, MODEL), 30)
        at_once = await asyncio.gather(*(setup.chat(model="tuned", max_tokens=2) for _ in range(3)))
        assert [(r.status_code, r.json()["model"]) for r in at_once] == [(200, "tuned")] * 3
        refused = await setup.chat(model="broken", max_tokens=2)
        assert (refused.status_code, "broken" in refused.json()["error"]["message"]) == (502, True)
        worker.kill()
        worker.start()
        await until(lambda: _answers(setup, MODEL), 30)
        again = await setup.chat(model="tuned", max_tokens=2)
        assert (again.status_code, again.json()["model"]) == (200, "tuned")
        used = sum(r.json()["usage"]["completion_tokens"] for r in (*at_once, again))
        assert await setup.metric('capstan_gateway_tokens_total{model="tuned",tenant="acme",type="output"}') == used
    finally:
        worker.kill()


async def _answers(setup: Any, model: str) -> bool:
    return bool((await setup.chat(model=model, max_tokens=1)).status_code == 200)
