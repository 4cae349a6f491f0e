"""The gateway's two files: `models.yaml` (models and pools) and `keys.yaml` (tenants and key hashes)."""

import os
import string
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator


class ConfigError(Exception):
    """A configuration file that cannot be used; the message names the file and what to change."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Pool(_Strict):
    """Upstreams that serve the same models and share one admission queue."""

    urls: list[AnyHttpUrl] = Field(min_length=1)
    """`http://` only: TLS to an upstream is a sidecar's work (docs/decisions/0005)."""
    health_path: str = "/health"
    max_concurrent: int = Field(32, gt=0)
    max_queued: int = Field(128, ge=0)
    queue_timeout_s: float = Field(30.0, gt=0)
    first_byte_timeout_s: float = Field(120.0, gt=0)
    idle_timeout_s: float = Field(60.0, gt=0)
    internal: bool = False
    """A Capstan service: it gets the signed tenant identity, and it calls models through this gateway,
    where their tokens are metered once."""

    @field_validator("urls")
    @classmethod
    def _plain_http(cls, urls: list[AnyHttpUrl]) -> list[AnyHttpUrl]:
        if any(url.scheme != "http" for url in urls):
            raise ValueError("upstreams are reached by http://, not https://")
        return urls


class Model(_Strict):
    """A model that clients name."""

    pool: str
    default_output_tokens: int = Field(256, gt=0)
    """Output tokens reserved for a request that sets no limit of its own."""
    description: str = ""


class ModelsFile(_Strict):
    """`models.yaml`."""

    pools: dict[str, Pool] = Field(min_length=1)
    models: dict[str, Model] = Field(min_length=1)

    @model_validator(mode="after")
    def _pools_exist(self) -> "ModelsFile":
        for name, model in self.models.items():
            if model.pool not in self.pools:
                raise ValueError(f"model {name!r} names pool {model.pool!r}; the pools are {', '.join(self.pools)}")
        return self


class Key(_Strict):
    """An API key as stored: never the secret itself."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Tenant(_Strict):
    """A tenant's limits and keys."""

    models: list[str] = ["*"]
    requests_per_minute: int = Field(600, gt=0)
    tokens_per_minute: int = Field(1_000_000, gt=0)
    max_concurrent: int = Field(64, gt=0)
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


def read_models(path: Path) -> ModelsFile:
    """Read `models.yaml`, with `${NAME}` filled in from the environment. Raises `ConfigError`."""
    return _read(path, ModelsFile, expand=True)


def read_keys(path: Path) -> KeysFile:
    """Read `keys.yaml`. Raises `ConfigError`."""
    return _read(path, KeysFile, expand=False)


def _read(path: Path, kind: type[F], *, expand: bool) -> F:
    try:
        text = path.read_text()
        data: Any = yaml.safe_load(string.Template(text).substitute(os.environ) if expand else text)
        return kind.model_validate(data or {})
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except KeyError as error:
        raise ConfigError(f"{path}: names the environment variable {error.args[0]}, which is not set") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {_first_problem(error)}") from None


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    return " ".join(str(error).split())
