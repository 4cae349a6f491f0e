"""What tokens and hardware time cost."""

from math import ceil

from capstan.gateway.config import Price
from capstan.gateway.tap import Usage

_HOUR = 3600.0
_MICRO = 1e6


def cost_of(price: Price, usage: Usage, upstream_s: float) -> int:
    """Micro-dollars, rounded up, for these tokens and this share of an upstream's time.

    Dollars per million tokens are micro-dollars per token.
    """
    total = usage.prompt * price.input + usage.completion * price.output + upstream_s * price.gpu_hour * _MICRO / _HOUR
    if usage.cached and price.cached_input is not None:
        total -= usage.cached * (price.input - price.cached_input)
    return ceil(total - 1e-6) if total else 0
