"""Admission: bounded, in turns, and never losing a place."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan.gateway.admission import Admission
from capstan.gateway.config import Pool
from capstan.gateway.outcome import Outcome, Refusal


def _admission(**changes: float) -> Admission:
    return Admission("p", Pool.model_validate({"urls": ["http://x"], "max_concurrent": 1, **changes}))


async def _hold(admission: Admission, tenant: str, served: list[str], release: asyncio.Event | None = None) -> None:
    async with admission.slot(tenant):
        served.append(tenant)
        if release:
            await release.wait()


async def test_tenants_take_turns_whatever_one_has_queued() -> None:
    admission, served, release = _admission(), [], asyncio.Event()
    first = asyncio.create_task(_hold(admission, "x", served, release))
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(_hold(admission, t, served)) for t in ("a", "a", "a", "b", "c")]
    await asyncio.sleep(0)
    assert admission.queued == 5
    release.set()
    await asyncio.gather(first, *tasks)
    assert served == ["x", "a", "b", "c", "a", "a"]


async def test_a_full_queue_refuses_at_once_and_a_long_wait_ends() -> None:
    admission, served, release = _admission(max_queued=1, queue_timeout_s=0.01), [], asyncio.Event()
    first = asyncio.create_task(_hold(admission, "x", served, release))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(_hold(admission, "y", served))
    await asyncio.sleep(0)
    with pytest.raises(Refusal) as full:
        await _hold(admission, "z", served)
    assert full.value.outcome is Outcome.QUEUE_FULL
    with pytest.raises(Refusal) as late:
        await waiting
    assert late.value.outcome is Outcome.QUEUE_TIMEOUT
    release.set()
    await first
    assert (admission.running, admission.queued) == (0, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["stay", "cancel", "cancel later"])), max_size=30))
def test_no_cancellation_ever_leaks_a_place(requests: list[tuple[str, str]]) -> None:
    async def scenario() -> None:
        admission, served = _admission(max_concurrent=2, max_queued=100), []
        release = asyncio.Event()
        tasks = []
        for tenant, fate in requests:
            task = asyncio.create_task(_hold(admission, tenant, served, release))
            await asyncio.sleep(0)
            if fate == "cancel":
                task.cancel()
            tasks.append((task, fate))
        release.set()
        for task, fate in tasks:
            if fate == "cancel later":
                task.cancel()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert (admission.running, admission.queued) == (0, 0)
        assert not admission._queues

    asyncio.run(scenario())
