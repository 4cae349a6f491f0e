"""Typed settings from the environment, validated at start.

Shared settings are `CAPSTAN_<NAME>`; a service's own are `CAPSTAN_<SERVICE>_<NAME>`. An unknown
`CAPSTAN_` name fails, so that a misspelt setting is never ignored in silence. A setting may also lie in a file of its
name under `/run/secrets`, where Docker and Kubernetes put secrets; the environment wins.
"""

import difflib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

PREFIX = "CAPSTAN_"
SECRETS = Path("/run/secrets")
COMPONENTS = ("gateway", "retriever", "reranker", "generator", "worker", "jobs", "native", "test")

Port = Annotated[int, Field(ge=1, le=65535)]


def settings_config(component: str | None = None) -> SettingsConfigDict:
    """The configuration of a settings class: `CAPSTAN_<COMPONENT>_` in front of its own fields."""
    prefix = PREFIX if component is None else f"{PREFIX}{component.upper()}_"
    return SettingsConfigDict(
        env_prefix=prefix,
        extra="forbid",
        populate_by_name=True,
        frozen=True,
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
    )


class CommonSettings(BaseSettings):
    """Settings that every process reads under the same name."""

    model_config = settings_config()

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="CAPSTAN_LOG_LEVEL", description="Least severe level that is logged."
    )
    cache_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "capstan",
        validation_alias="CAPSTAN_CACHE_DIR",
        description="Where downloaded and derived files live; safe to delete, shared by all checkouts.",
    )


class ServiceSettings(CommonSettings):
    """Settings of a service that answers HTTP behind the gateway."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    drain_s: float = Field(
        30.0,
        ge=0,
        validation_alias="CAPSTAN_DRAIN_S",
        description="Seconds that running requests may take after SIGTERM.",
    )
    identity_secret: SecretStr = Field(
        validation_alias="CAPSTAN_IDENTITY_SECRET",
        min_length=32,
        description="Key that signs the tenant identity passed between services; the same for all of them.",
    )


S = TypeVar("S", bound=BaseSettings)


def environment_names(cls: type[BaseSettings]) -> dict[str, str]:
    """Environment variable name of each field of `cls`, keyed by the field's name."""
    prefix = cls.model_config.get("env_prefix", "")
    return {name: str(field.validation_alias or f"{prefix}{name}").upper() for name, field in cls.model_fields.items()}


def unknown_names(cls: type[BaseSettings], given: Iterable[str]) -> Iterator[str]:
    """Names in `given` that `cls` should know and does not. Other components' names are theirs to judge."""
    known = set(environment_names(cls).values())
    own = str(cls.model_config.get("env_prefix", "")).upper()
    others = tuple(f"{PREFIX}{c.upper()}_" for c in COMPONENTS if f"{PREFIX}{c.upper()}_" != own)
    shared = {"CAPSTAN_" + n for n in ("LOG_LEVEL", "CACHE_DIR", "DRAIN_S", "IDENTITY_SECRET")}
    for name in sorted(given):
        upper = name.upper()
        if upper.startswith(PREFIX) and upper not in known | shared and not upper.startswith(others):
            yield name


def load(cls: type[S]) -> S:
    """Read `cls` from the environment, or say what to change, a line per mistake, and exit with 2."""
    names = environment_names(cls)
    given = [*os.environ, *(path.name for path in SECRETS.glob(f"{PREFIX}*"))]
    known = list(names.values())
    mistakes = [f"{name}: unknown setting{_suggestion(name, known)}" for name in unknown_names(cls, given)]
    try:
        settings = cls()
    except ValidationError as error:
        for item in error.errors(include_input=False, include_url=False):
            field = str(item["loc"][0]) if item["loc"] else ""
            mistakes.append(f"{names.get(field, field)}: {item['msg']}")
    except SettingsError as error:  # a structured setting that is not JSON
        mistakes.append(f"{error}; such a setting is written as JSON")
    else:
        if not mistakes:
            return settings
    die(*mistakes)


def die(*lines: str) -> NoReturn:
    """End the process over a user's mistake: the lines on stderr, no traceback, exit code 2."""
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.upper(), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
