import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan.gateway.config import Pool
from capstan.gateway.health import Health


@pytest.fixture
def make_health(clock):
    def make(new=False, **pool):
        return Health(Pool.model_validate({"urls": ["http://w"], **pool}), clock, new=new)

    return make


def test_a_failed_probe_marks_it_down_at_once_and_a_good_one_ends_that(make_health):
    health = make_health(slow_start_s=0)
    assert health.admits()
    assert health.probed(False)
    assert (health.admits(), health.word) == (False, "down")
    assert not health.probed(False)
    assert health.probed(True)
    assert (health.admits(), health.word, health.ok) == (True, "up", True)


def test_no_connection_means_down_without_waiting_for_the_probe(make_health):
    health = make_health()
    assert health.failed(unreachable=True)
    assert health.word == "down"


def test_a_hosted_api_has_no_probe_that_could_bring_it_back_so_only_the_breaker_counts(make_health):
    health = make_health(kind="openai", breaker_failures=2)
    health.failed(unreachable=True)
    assert health.word == "up"
    health.failed(unreachable=True)
    assert health.word == "open"


def test_failures_in_a_row_open_the_circuit(make_health):
    health = make_health(breaker_failures=3)
    for _ in range(2):
        assert not health.failed(unreachable=False)
    health.succeeded()
    for _ in range(2):
        assert not health.failed(unreachable=False)
    assert health.admits()
    assert health.failed(unreachable=False)
    assert not health.admits()


def test_an_open_circuit_lets_one_trial_through_when_its_time_is_over(make_health, clock):
    health = make_health(breaker_failures=1, breaker_open_s=10)
    health.failed(unreachable=False)
    clock.advance(9.9)
    assert not health.admits()
    clock.advance(0.2)
    assert (health.admits(), health.word) == (True, "half_open")
    health.began()
    assert not health.admits()
    assert health.succeeded()
    assert (health.admits(), health.ok, health.word) == (True, True, "up")


def test_a_trial_that_its_client_gave_up_makes_way_for_another(make_health, clock):
    health = make_health(breaker_failures=1, breaker_open_s=10)
    health.failed(unreachable=False)
    clock.advance(11)
    health.began()
    health.ended()
    assert health.admits()


def test_each_failed_trial_doubles_the_time_up_to_a_minute(make_health, clock):
    health = make_health(breaker_failures=1, breaker_open_s=10)
    waits = []
    for _ in range(5):
        health.failed(unreachable=False)
        waits.append(health.open_until - clock())
        clock.time = health.open_until
    assert waits == [10, 20, 40, 60, 60]
    health.succeeded()
    health.failed(unreachable=False)
    assert health.open_until - clock() == 10


def test_requests_that_were_under_way_do_not_keep_an_open_circuit_open_longer(make_health, clock):
    health = make_health(breaker_failures=1, breaker_open_s=10)
    health.failed(unreachable=False)
    clock.advance(5)
    for _ in range(20):
        assert not health.failed(unreachable=False)
    clock.advance(5.1)
    assert health.admits()


def test_a_worker_that_restarted_gets_its_trial_at_once(make_health, clock):
    health = make_health(breaker_failures=1, breaker_open_s=10, slow_start_s=0)
    health.failed(unreachable=True)
    clock.advance(1)
    health.probed(True)
    assert (health.admits(), health.word) == (True, "half_open")


def test_one_that_declines_gets_nothing_new_for_a_second_whatever_its_probe_says(make_health, clock):
    health = make_health(slow_start_s=0)
    health.declined()
    health.probed(True)
    health.succeeded()  # what it had begun goes on well
    assert (health.admits(), health.word) == (False, "aside")
    clock.advance(1.1)
    assert (health.admits(), health.ok, health.word) == (True, True, "up")


def test_what_comes_back_or_joins_gets_its_share_step_by_step(make_health, clock):
    joined, back = make_health(new=True, slow_start_s=10), make_health(slow_start_s=10)
    assert back.share() == 1.0
    back.probed(False)
    back.probed(True)
    for health in (joined, back):
        assert health.share() == pytest.approx(0.1)
        assert health.word == "starting"
    clock.advance(5)
    for health in (joined, back):
        assert health.share() == pytest.approx(0.5)
    clock.advance(5)
    for health in (joined, back):
        assert (health.share(), health.ok) == (1.0, True)


EVENTS = ("begin", "good", "bad", "unreachable", "decline", "up", "down", "gone", "later")


@given(st.lists(st.sampled_from(EVENTS), max_size=60))
def test_whatever_happens_an_open_circuit_has_one_trial_at_most_and_always_ends(events):
    time = [0.0]
    health = Health(Pool.model_validate({"urls": ["http://w"], "breaker_failures": 2}), lambda: time[0])
    trials = 0
    for event in events:
        closed = health.open_until is None
        if event == "begin" and health.admits():
            health.began()
            trials = 0 if closed else trials + 1
        elif event in ("good", "bad", "unreachable", "decline", "gone"):
            if event == "good":
                health.succeeded()
            elif event == "decline":
                health.declined()
            elif event != "gone":
                health.failed(unreachable=event == "unreachable")
            health.ended()
            trials = 0
        elif event in ("up", "down"):
            health.probed(event == "up")
        elif event == "later":
            time[0] += 30
        assert trials <= 1
        assert (health.word == "up") == health.ok
    health.ended()
    health.probed(True)
    time[0] += 61
    assert health.admits()
