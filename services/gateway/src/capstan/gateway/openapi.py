"""The API's description, committed as openapi.json beside pyproject.toml."""

import json

from capstan.gateway.app import Gateway
from capstan.gateway.config import KeysFile, ModelsFile
from capstan.gateway.settings import GatewaySettings


def description() -> str:
    """OpenAPI 3.1 as JSON text."""
    settings = GatewaySettings.model_validate({"identity_secret": "x" * 32, "models_file": "unread"})
    models = ModelsFile.model_validate({"pools": {"p": {"urls": ["http://x"]}}, "models": {"m": {"pool": "p"}}})
    return json.dumps(Gateway(settings, models, KeysFile()).control.openapi(), indent=1, sort_keys=True)
