"""The gateway's reference says what there is, all of it, and nothing else."""

import re
from pathlib import Path

import httpx2
import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from capstan.common.settings import environment_names
from capstan.gateway.app import Gateway
from capstan.gateway.config import Key, KeysFile, Model, ModelsFile, Mount, Pool, Price, Tenant
from capstan.gateway.outcome import Outcome, Refusal
from capstan.gateway.settings import GatewaySettings

HERE = Path(__file__).resolve()
README = (HERE.parents[1] / "README.md").read_text()
PAGE = (HERE.parents[3] / "docs/gateway.md").read_text()
REDIS = "redis://127.0.0.1:1/0"  # nothing connects before the start-up


def table(heading: str) -> list[list[str]]:
    """The cells of each row of the README's table under that heading."""
    section = re.split(r"^#{2,3} ", README.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def names(cell: str) -> list[str]:
    """What stands in backticks, without a metric's labels."""
    return [name.partition("{")[0] for name in re.findall(r"`([^`]+)`", cell)]


def gateway(redis_url: str | None = None) -> Gateway:
    """A gateway that is not started, with control plane."""
    settings = GatewaySettings.model_validate(
        {
            "identity_secret": "x" * 32,
            "admin_key": "x" * 32,
            "models_file": "unread",
            "redis_url": redis_url,
        }
    )
    models = ModelsFile.model_validate({"pools": {"p": {"urls": ["http://x"]}}, "models": {"m": {"pool": "p"}}})
    return Gateway(settings, models, KeysFile())


def default_of(cls: type[BaseModel], field: str) -> str:
    """How the README writes a field's default."""
    value = cls.model_fields[field].get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value == "":
        return "empty"
    if isinstance(value, Price):
        return "`{}`"
    return "unset" if value is None else f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def test_every_setting_is_there_with_its_default() -> None:
    fields = {name: field for field, name in environment_names(GatewaySettings).items()}
    own = {name: default_of(GatewaySettings, field) for name, field in fields.items() if "_GATEWAY_" in name}
    assert {names(row[0])[0]: row[1] for row in table("Settings")} == own


@pytest.mark.parametrize("cls", [Pool, Model, Mount, Price, Tenant, Key])
def test_every_field_of_the_files_is_there_with_its_default(cls: type[BaseModel]) -> None:
    expected = {field: default_of(cls, field) for field in cls.model_fields}
    assert {names(row[0])[0]: row[1] for row in table(cls.__name__)} == expected


def test_the_example_of_a_models_file_is_one() -> None:
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block
    assert ModelsFile.model_validate(yaml.safe_load(block[1].replace(", …", "")))


def test_every_outcome_is_there_with_its_status() -> None:
    def status(outcome: Outcome) -> str:
        try:
            return str(Refusal(outcome, "").status_code)
        except KeyError:  # no answer of the gateway's own
            return {"completed": "200", "client_closed": "–", "upstream_rejected": "upstream's"}[outcome]

    assert {names(row[0])[0]: row[1] for row in table("Outcomes")} == {o.value: status(o) for o in Outcome}


async def _metrics(redis_url: str | None) -> set[str]:
    transport = httpx2.ASGITransport(app=gateway(redis_url).control)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        text = (await client.get("/metrics")).text
    found = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    return {name for name in found if not name.endswith("_created")}


async def test_every_metric_is_there() -> None:
    documented = {name for row in table("Metrics") for name in names(row[0])}
    with_redis = {name for row in table("Metrics") if row[1].startswith("with Redis.") for name in names(row[0])}
    alone, shared = await _metrics(None), await _metrics(REDIS)

    def grouped(found: set[str]) -> set[str]:
        return {"process_*" if name.startswith("process_") else name for name in found}

    assert documented == grouped(shared)
    assert with_redis == shared - alone


def test_no_text_names_a_metric_that_does_not_exist() -> None:
    documented = {name for row in table("Metrics") for name in names(row[0])}
    assert set(re.findall(r"capstan_(?:gateway|http)_[a-z_]+", README + PAGE)) <= documented


def test_every_route_is_there() -> None:
    paths = gateway().control.openapi()["paths"]
    expected = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert {row[0].strip("`") for row in table("Routes")} == expected


def test_the_page_names_every_model_route_and_only_routes_that_exist() -> None:
    paths = gateway().control.openapi()["paths"]
    inference = {
        f"POST {path}" for path, methods in paths.items() if "inference" in methods.get("post", {}).get("tags", [])
    }
    known = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert inference <= set(re.findall(r"`(POST /[^`]+)`", PAGE)) <= known
    assert set(re.findall(r"`((?:GET|PUT|DELETE) /[^`]+)`", PAGE)) <= known


def test_every_module_is_on_the_map() -> None:
    package = HERE.parents[1] / "src/capstan/gateway"
    modules = {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    assert {name for row in table("Modules") for name in names(row[0])} == modules
