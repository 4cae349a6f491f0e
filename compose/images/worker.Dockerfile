# vLLM. For CPUs, from packages:
#   docker build --build-arg TORCH_INDEX_URL=<PyTorch's index of CPU wheels> -f compose/images/worker.Dockerfile .
# For CUDA, on the official image, which brings the engine:
#   docker build --build-arg ENGINE=cuda --build-arg BASE_IMAGE=vllm/vllm-openai:v0.32.0 \
#     --build-arg BUILD_IMAGE=vllm/vllm-openai:v0.32.0 -f compose/images/worker.Dockerfile .
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG BUILD_IMAGE=python:3.11-bookworm

FROM ${BUILD_IMAGE} AS build
ARG SERVICE=vllm-worker
ARG ENGINE=cpu
ARG MODEL_PACKAGES=
ARG TORCH_INDEX_URL=
COPY compose/images/install.sh compose/images/finish.sh compose/images/hashes.* /build/
COPY compose/wheelhouse /wheelhouse
COPY services/vllm-worker/requirements*.txt /requirements/
RUN if [ "${ENGINE}" = cpu ]; then \
        sh /build/install.sh /venv requirements.txt requirements-engine.txt; \
    else \
        python3 -m venv /pip && python3 -m venv --without-pip --system-site-packages /venv; \
    fi
COPY services/common/src services/vllm-worker/src /app/
COPY training-jobs/artifacts /build/artifacts
RUN sh /build/finish.sh

FROM ${BASE_IMAGE}
ARG PORT=8004
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    CAPSTAN_CACHE_DIR=/cache HEALTH_URL=http://127.0.0.1:${PORT}/health
COPY --from=build /venv /venv
COPY --from=build /models /models
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /state /
LABEL org.opencontainers.image.title="capstan/vllm-worker"
WORKDIR /app
USER 10001:10001
EXPOSE ${PORT}
HEALTHCHECK --interval=5s --timeout=4s --start-period=300s --retries=3 \
    CMD ["/bin/sh", "-c", "exec python -IS /app/capstan/common/healthcheck.py \"$HEALTH_URL\""]
ENTRYPOINT ["/app/serve"]
