"""Settings of the gateway."""

from pathlib import Path

from pydantic import Field, SecretStr

from capstan.common.settings import Port, ServiceSettings, settings_config


class GatewaySettings(ServiceSettings):
    """`CAPSTAN_GATEWAY_*`; what is shared by all services is in `ServiceSettings`."""

    model_config = settings_config("gateway")

    port: Port = Field(8000, description="Port to listen on.")
    models_file: Path = Field(description="YAML file of models and the upstream pools that serve them.")
    extra_models_file: Path | None = Field(
        None,
        description="YAML file of the same form whose models, pools and mounts are added.",
    )
    keys_file: Path | None = Field(
        None, description="YAML file of tenants, their limits and key hashes; with Redis, what is missing there."
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis that replicas share for quotas, tenants and usage: `redis://[:password@]host:port/db`."
    )
    redis_timeout_s: float = Field(0.25, gt=0, description="Longest wait for Redis before limits become local.")
    replicas: int = Field(1, gt=0, description="Gateways that share the limits; each takes its part without Redis.")
    usage_file: Path | None = Field(None, description="Where usage and spending are kept without Redis.")
    admin_key: SecretStr | None = Field(
        None, min_length=32, description="Key of the control plane under `/admin`; without it there is none."
    )
    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0, description="Largest request body, counted as it streams.")
    receive_timeout_s: float = Field(30.0, gt=0, description="Longest time that a client may take to send a request.")
    keep_alive_s: float = Field(75.0, gt=0, description="Time after which an idle client connection is closed.")
    probe_interval_s: float = Field(2.0, gt=0, description="Seconds between looks at each upstream's health.")
    drain_delay_s: float = Field(
        0.0, ge=0, description="Seconds after SIGTERM in which new requests are still taken, not ready any more."
    )
