"""Connections to Redis for the control plane. The request path has its own client, redis_pipe.py."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from capstan.common.errors import ApiError
from capstan.gateway.config import ConfigError

UNREACHABLE = (RedisError, OSError)
"""What a command raises when Redis is gone, hangs, or cannot do it now."""

SETTING = "CAPSTAN_GATEWAY_REDIS_URL"


def connect(url: str, timeout_s: float) -> Redis:
    """A client that gives up on a command after `timeout_s` seconds. Connects when used. Raises `ConfigError`."""
    # One new attempt: a connection that Redis closed while it was idle is noticed only by using it.
    retry = Retry(NoBackoff(), 1)
    try:
        return Redis.from_url(url, protocol=2, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=retry)
    except ValueError as error:
        raise ConfigError(f"{SETTING}: {error}") from None


def no_start(error: Exception) -> ConfigError:
    """Redis cannot be used at start-up. The URL is not repeated: it may hold a password."""
    return ConfigError(f"{SETTING}: Redis cannot be used ({error}); start it or correct the setting")


def unavailable(what: str) -> ApiError:
    """The answer when Redis cannot be used later."""
    return ApiError(
        503, "redis_unavailable", f"{what} cannot be reached: Redis does not answer; try again", retry_after=5.0
    )
