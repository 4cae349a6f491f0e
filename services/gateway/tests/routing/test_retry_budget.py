from hypothesis import given
from hypothesis import strategies as st

from capstan.gateway.retry_budget import RetryBudget


def test_a_quiet_pool_may_retry(clock):
    assert RetryBudget(0.1, clock).take()


def test_a_ratio_of_zero_means_no_retries(clock):
    budget = RetryBudget(0, clock)
    clock.advance(100)
    assert not budget.take()
    assert budget.used == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 2)), max_size=40))
def test_an_outage_adds_no_more_than_the_ratio_and_a_trickle(steps):
    """Every request fails and asks for a retry."""
    time = [0.0]
    budget = RetryBudget(0.1, lambda: time[0])
    requests = 0
    for burst, pause in steps:
        for _ in range(burst):
            requests += 1
            budget.deposit()
            budget.take()
        time[0] += pause
    assert budget.used <= 10 + 0.1 * requests + time[0] + 1e-6
    assert budget.used >= min(requests, 10)
