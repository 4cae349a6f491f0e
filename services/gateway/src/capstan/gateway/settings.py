"""Settings of the gateway."""

from pathlib import Path

from pydantic import Field

from capstan.common.settings import Port, ServiceSettings, settings_config


class GatewaySettings(ServiceSettings):
    """`CAPSTAN_GATEWAY_*`; what is shared by all services is in `ServiceSettings`."""

    model_config = settings_config("gateway")

    port: Port = Field(8000, description="Port to listen on.")
    models_file: Path = Field(description="YAML file of models and the upstream pools that serve them.")
    keys_file: Path = Field(description="YAML file of tenants, their limits and the hashes of their API keys.")
    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0, description="Largest request body, counted as it streams.")
    probe_interval_s: float = Field(2.0, gt=0, description="Seconds between health probes of each upstream.")
