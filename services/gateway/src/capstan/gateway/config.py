"""The gateway's two files: `models.yaml` (models and pools) and `keys.yaml` (tenants and key hashes)."""

import os
import string
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError, model_validator


class ConfigError(Exception):
    """A configuration file that cannot be used; the message names the file and what to change."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pool(_Strict):
    """Upstreams that serve the same models and share one admission queue."""

    kind: Literal["vllm", "openai", "capstan"] = "vllm"
    """`vllm`: our workers, probed, their metrics read, adapters loaded. `openai`: a hosted API, not probed.
    `capstan`: one of our services; it gets the signed tenant identity."""
    urls: list[AnyHttpUrl] = []
    dns: AnyHttpUrl | None = None
    """A URL whose host name stands for all addresses that it resolves to, looked up anew every few seconds."""
    api_key_env: str | None = Field(None, pattern="^[A-Z_][A-Z0-9_]*$")
    """Name of the environment variable that holds the upstream's own API key: not the key, which messages show."""
    metered: bool | None = None
    """Whether tokens are counted here. Off for `capstan` by default: its inner calls are counted where they go."""
    max_concurrent: int = Field(32, gt=0)
    """Requests running on one upstream at most."""
    ttft_target_s: float | None = Field(None, gt=0)
    """With it the limit adapts below `max_concurrent`, so that streams begin within this time."""
    max_queued: int = Field(128, ge=0)
    queue_timeout_s: float = Field(30.0, gt=0)
    """Longest wait; a request that is predicted to wait longer is refused at once."""
    first_byte_timeout_s: float = Field(120.0, gt=0)
    idle_timeout_s: float = Field(60.0, gt=0)
    """Longest silence inside an answer."""
    slow_start_s: float = Field(10.0, ge=0)
    """Time over which an upstream that has come back gets its full share again."""
    breaker_failures: int = Field(5, gt=0)
    """Failures in a row that open an upstream's circuit."""
    breaker_open_s: float = Field(10.0, gt=0)
    retry_ratio: float = Field(0.1, ge=0, le=1)
    """Retries allowed, as a part of the pool's requests."""

    @model_validator(mode="after")
    def _has_one_source_of_upstreams(self) -> "Pool":
        if bool(self.urls) == (self.dns is not None):
            raise ValueError("give either 'urls' or 'dns'")
        return self

    @property
    def internal(self) -> bool:
        """Whether the upstream is a Capstan service, which gets the tenant's signed identity."""
        return self.kind == "capstan"

    @property
    def counts_tokens(self) -> bool:
        """Whether this pool's requests are metered."""
        return self.kind != "capstan" if self.metered is None else self.metered


class Price(_Strict):
    """What a model costs: dollars per million tokens, or dollars per GPU-hour shared by what runs at the same time."""

    input: float = Field(0.0, ge=0)
    cached_input: float | None = Field(None, ge=0)
    """The input price where unset."""
    output: float = Field(0.0, ge=0)
    gpu_hour: float = Field(0.0, ge=0)
    """Dollars for one upstream and hour."""


class Model(_Strict):
    """A model that clients name: served by a pool, or split between other models."""

    pool: str | None = None
    split: dict[str, Annotated[int, Field(ge=0)]] = {}
    """Other models by weight: an A/B test. Sticky for one `user` or tenant and conversation start."""
    fallback: list[str] = []
    """Models tried, in order, when this one's pool cannot take the request."""
    upstream_model: str | None = None
    """Its name at the upstream, where that differs."""
    adapter: str | None = None
    """A LoRA adapter's directory as the workers see it; loaded on demand, under the model's name."""
    routing: Literal["least_tokens", "prefix"] = "prefix"
    default_output_tokens: int = Field(256, gt=0)
    """Output tokens reserved for a request that sets no limit of its own."""
    price: Price = Price()
    description: str = ""

    @model_validator(mode="after")
    def _is_served_somehow(self) -> "Model":
        if bool(self.split) == (self.pool is not None):
            raise ValueError("give either 'pool' or 'split'")
        if self.split and not any(self.split.values()):
            raise ValueError("'split' needs at least one weight above 0")
        return self


class Mount(_Strict):
    """Paths that are not models', served by a service behind the gateway."""

    path: str = Field(pattern=r"^/[A-Za-z0-9._~/-]*\*?$")
    """One path, or with `*` at its end all that begin so. The longest that fits serves."""
    url: AnyHttpUrl
    """The service; it gets the path as the client sent it."""
    public: bool = False
    """Without a key, and then for reading only."""
    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0)
    timeout_s: float = Field(60.0, gt=0)
    """Longest silence of the service."""

    @model_validator(mode="after")
    def _is_plain(self) -> "Mount":
        if self.url.path not in (None, "/") or self.url.query or self.url.username:
            raise ValueError("'url' is the service's scheme, host and port; the path of a request is kept")
        if "//" in self.path or not {".", ".."}.isdisjoint(self.path.split("/")):
            raise ValueError("'path' must not hold '//', '.' or '..'")
        return self

    @property
    def prefix(self) -> str:
        """The path without its star."""
        return self.path.removesuffix("*")

    def covers(self, path: str) -> bool:
        """Whether `path` is served by this mount."""
        return path.startswith(self.prefix) if self.path.endswith("*") else path == self.path


class ModelsFile(_Strict):
    """`models.yaml`."""

    pools: dict[str, Pool] = Field(min_length=1)
    models: dict[str, Model] = Field(min_length=1)
    mounts: list[Mount] = []

    @model_validator(mode="after")
    def _mounts_differ(self) -> "ModelsFile":
        paths = [mount.path for mount in self.mounts]
        twice = sorted({path for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"path {twice[0]!r} is mounted twice")
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> "ModelsFile":
        for name, model in self.models.items():
            if model.pool is not None and model.pool not in self.pools:
                raise ValueError(f"model {name!r} names pool {model.pool!r}; the pools are {', '.join(self.pools)}")
            if model.adapter and self.pools[model.pool or ""].kind != "vllm":
                raise ValueError(f"model {name!r} has an adapter; adapters need a pool of kind 'vllm'")
            for other in [*model.split, *model.fallback]:
                target = self.models.get(other)
                if target is None or target.split:
                    raise ValueError(f"model {name!r} names {other!r}, which is not a model with a pool")
        return self


class Key(_Strict):
    """An API key as stored: never the secret itself."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: datetime | None = None
    expires: datetime | None = None
    """From then on the key is refused."""


class Tenant(_Strict):
    """A tenant's limits and keys."""

    models: list[str] = ["*"]
    requests_per_minute: int = Field(600, gt=0)
    tokens_per_minute: int = Field(1_000_000, gt=0)
    max_concurrent: int = Field(64, gt=0)
    priority: Literal["high", "normal", "batch"] = "normal"
    """Its weight in the fair queue: high 4, normal 2, batch 1. None starves."""
    monthly_budget_usd: float | None = Field(None, ge=0)
    keys: list[Key] = []


TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class KeysFile(_Strict):
    """`keys.yaml`."""

    tenants: dict[TenantName, Tenant] = {}

    @model_validator(mode="after")
    def _key_ids_are_unique(self) -> "KeysFile":
        ids = [key.id for tenant in self.tenants.values() for key in tenant.keys]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"key id {twice[0]!r} is used twice")
        return self


F = TypeVar("F", bound=_Strict)


def read_models(path: Path, extra: Path | None = None) -> ModelsFile:
    """Read `models.yaml`, with `${NAME}` filled in from the environment, and what `extra` adds to it.

    Raises `ConfigError`.
    """
    data = _load(path, expand=True)
    if extra is not None:
        data = _joined(data, _load(extra, expand=True), extra)
    return _validated(data, ModelsFile, f"{path} with {extra}" if extra else str(path))


def read_keys(path: Path) -> KeysFile:
    """Read `keys.yaml`. Raises `ConfigError`."""
    return _validated(_load(path, expand=False), KeysFile, str(path))


def _load(path: Path, *, expand: bool) -> Any:
    try:
        text = path.read_text()
        data: Any = yaml.safe_load(string.Template(text).substitute(os.environ) if expand else text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except KeyError as error:
        raise ConfigError(f"{path}: names the environment variable {error.args[0]}, which is not set") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from None
    return {} if data is None else data  # an empty file


def _joined(data: Any, more: Any, path: Path) -> Any:
    """Both files' pools, models and mounts. A name stands in one of them."""
    if not isinstance(data, dict) or not isinstance(more, dict):
        raise ConfigError(f"{path}: this file and the one that it adds to must have 'pools', 'models' or 'mounts'")
    joined = dict(data)
    for section, added in more.items():
        own = joined.get(section) or type(added)()
        if isinstance(own, dict) and isinstance(added, dict):
            if twice := sorted(own.keys() & added.keys()):
                raise ConfigError(f"{path}: {section}: {twice[0]!r} is in the other file already")
            joined[section] = {**own, **added}
        elif isinstance(own, list) and isinstance(added, list):
            joined[section] = [*own, *added]
        else:
            raise ConfigError(f"{path}: {section}: has another form than in the other file")
    return joined


def _validated(data: Any, kind: type[F], name: str) -> F:
    try:
        return kind.model_validate(data)
    except ValueError as error:
        raise ConfigError(f"{name}: {first_problem(error)}") from None


def first_problem(error: Exception) -> str:
    """A mistake in one line: where it is and what is wrong."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    return " ".join(str(error).split())
