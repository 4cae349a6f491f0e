"""What the locustfile is made of: streams, shapes of load, tenants' keys, prompts."""
