"""The edge: an OpenAI-compatible gateway. Modules follow a request's path.

`endpoint` -> `auth` -> `quota` -> `admission` -> `routing` -> `upstream` -> `relay` -> `metering`
"""
