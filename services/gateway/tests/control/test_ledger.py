"""Usage is added up per day, tenant and model, survives a restart, and is written exactly once."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from control.plane import TODAY, Clock, until
from hypothesis import given
from hypothesis import strategies as st
from redis_server import RedisServer

from capstan.common.errors import ApiError
from capstan.gateway.config import ConfigError
from capstan.gateway.ledger import FileLedger, Ledger, UsageRow, Used
from capstan.gateway.ledger_redis import RedisLedger

DAY = TODAY.date()
EARLIER = DAY - timedelta(days=3)
ONE = Used(requests=1, input=100, cached_input=40, output=20, cost=7)

MakeLedger = Callable[[], Ledger]


@pytest.fixture(params=["file", "redis"])
async def make(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[MakeLedger]:
    """Makes ledgers in one place."""
    if request.param == "file":
        yield lambda: FileLedger(tmp_path / "usage.jsonl", wall=clock)
    else:
        redis: RedisServer = request.getfixturevalue("redis")
        yield lambda: RedisLedger(redis.url, timeout_s=5, wall=clock)


async def test_usage_is_read_by_tenant_and_days_and_survives_a_restart(make: MakeLedger) -> None:
    ledger = make()
    await ledger.start()
    for _ in range(3):
        ledger.add(DAY, "acme", "m", ONE)
    ledger.add(DAY, "acme", "org/a:b", ONE)
    ledger.add(DAY, "other", "m", ONE)
    ledger.add(EARLIER, "acme", "m", ONE)
    thrice = Used(3, 300, 120, 60, 21)
    expected = [
        UsageRow(EARLIER, "acme", "m", ONE),
        UsageRow(DAY, "acme", "m", thrice),
        UsageRow(DAY, "acme", "org/a:b", ONE),
        UsageRow(DAY, "other", "m", ONE),
    ]
    assert await ledger.read(None, EARLIER, DAY) == expected
    await ledger.close()

    again = make()
    await again.start()
    assert await again.read(None, EARLIER, DAY) == expected
    assert await again.read("acme", DAY, DAY) == expected[1:3]
    assert await again.read("nobody", date.min, date.max) == []
    assert await again.read(None, DAY, EARLIER) == []
    again.add(DAY, "other", "m", ONE)
    await again.close()
    last = make()
    await last.start()
    assert await last.read("other", DAY, DAY) == [UsageRow(DAY, "other", "m", Used(2, 200, 80, 40, 14))]
    await last.close()


async def test_usage_of_long_ago_is_forgotten(make: MakeLedger, clock: Clock) -> None:
    ledger = make()
    await ledger.start()
    ledger.add(DAY, "acme", "m", ONE)
    await ledger.close()
    clock.now += 401 * 86400
    later = make()
    await later.start()
    assert await later.read(None, date.min, date.max) == []
    await later.close()


async def test_spending_of_the_month_is_known_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    ledger = FileLedger(tmp_path / "usage.jsonl", wall=clock)
    await ledger.start()
    for day in (DAY.replace(day=1) - timedelta(days=1), DAY.replace(day=1), DAY):
        ledger.add(day, "acme", "m", ONE)
    ledger.add(DAY, "other", "m", ONE)
    await ledger.close()
    again = FileLedger(tmp_path / "usage.jsonl", wall=clock)
    await again.start()
    assert again.month_costs(DAY) == {"acme": 14, "other": 7}
    await again.close()


async def test_without_a_file_usage_is_kept_in_memory() -> None:
    ledger = FileLedger(None)
    await ledger.start()
    ledger.add(DAY, "acme", "m", ONE)
    assert len(await ledger.read(None, DAY, DAY)) == 1
    await ledger.close()


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"day":"2026-11-24","tenant":"a"}', b'{"day":"x"}'])
async def test_a_file_that_is_not_usage_is_named_and_kept(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_bytes(line)
    with pytest.raises(ConfigError, match=r"usage\.jsonl: line 1"):
        await FileLedger(path).start()
    assert path.read_bytes() == line


async def test_a_place_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        await FileLedger(tmp_path / "nowhere/usage.jsonl").start()


async def test_a_full_disk_loses_nothing(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "usage.jsonl"
    ledger = FileLedger(path, interval_s=0.001, wall=clock)
    await ledger.start()
    replace, tries = os.replace, 0

    def full(*names: Any) -> None:
        nonlocal tries
        tries += 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    ledger.add(DAY, "acme", "m", ONE)
    await until(lambda: tries > 3)
    monkeypatch.setattr(os, "replace", replace)
    await until(lambda: b"acme" in path.read_bytes())
    await ledger.close()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_usage_survives_redis_being_away(
    redis: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ledger = RedisLedger(redis.url, timeout_s=0.5, interval_s=0.001, wall=clock)
    await ledger.start()
    redis.kill()
    for _ in range(5):
        ledger.add(DAY, "acme", "m", ONE)
        await asyncio.sleep(0.005)
    await until(lambda: len(caplog.records) == 1)
    with pytest.raises(ApiError, match="usage") as refusal:
        await ledger.read(None, DAY, DAY)
    assert refusal.value.status_code == 503
    redis.start()
    await until(lambda: len(caplog.records) == 2)
    assert await ledger.read(None, DAY, DAY) == [UsageRow(DAY, "acme", "m", Used(5, 500, 200, 100, 35))]
    await ledger.close()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_a_batch_whose_answer_was_lost_counts_once(redis: RedisServer, clock: Clock) -> None:
    """Redis hangs: what was sent lies in its socket and is done later, after it was given up."""
    ledger = RedisLedger(redis.url, timeout_s=0.05, interval_s=0.001, wall=clock)
    await ledger.start()
    ledger.add(DAY, "acme", "m", ONE)
    await until(lambda: not ledger._tally.days and ledger._batch is None)
    redis.pause()
    ledger.add(DAY, "acme", "m", ONE)
    await until(lambda: ledger._failing)
    redis.resume()
    await until(lambda: not ledger._failing)
    ledger.add(DAY, "acme", "m", ONE)
    assert await ledger.read(None, DAY, DAY) == [UsageRow(DAY, "acme", "m", Used(3, 300, 120, 60, 21))]
    await ledger.close()


async def test_gateways_add_to_the_same_usage(redis: RedisServer, clock: Clock) -> None:
    ledgers = [RedisLedger(redis.url, timeout_s=5, interval_s=0.001, wall=clock) for _ in range(3)]
    for ledger in ledgers:
        await ledger.start()
    for _ in range(50):
        for ledger in ledgers:
            ledger.add(DAY, "acme", "m", ONE)
        await asyncio.sleep(0)
    for ledger in ledgers[1:]:
        await ledger.close()
    assert await ledgers[0].read(None, DAY, DAY) == [UsageRow(DAY, "acme", "m", Used(*(150 * n for n in ONE)))]
    await ledgers[0].close()


async def test_no_redis_at_the_start_names_the_setting(redis: RedisServer) -> None:
    redis.kill()
    with pytest.raises(ConfigError, match="CAPSTAN_GATEWAY_REDIS_URL"):
        await RedisLedger(redis.url, timeout_s=0.5).start()


@given(st.lists(st.tuples(st.sampled_from([DAY, EARLIER]), st.sampled_from("ab"), st.sampled_from("mn"))))
def test_totals_are_sums(events: list[tuple[date, str, str]]) -> None:
    async def total() -> int:
        ledger = FileLedger(None)
        for day, tenant, model in events:
            ledger.add(day, tenant, model, ONE)
        rows = await ledger.read(None, EARLIER, DAY)
        assert len({(row.day, row.tenant, row.model) for row in rows}) == len(rows)
        return sum(row.used.input for row in rows)

    assert asyncio.run(total()) == 100 * len(events)
