# The jobs: docker build --build-arg REQUIREMENTS="corpus.txt evaluate.txt" -f compose/images/jobs.Dockerfile .
# Training stands on a service's packages as well (services.txt) and adds its own files:
# REQUIREMENTS="services.txt corpus.txt evaluate.txt reranker.txt pretrain.txt assistant.txt".
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG BUILD_IMAGE=python:3.11-bookworm

FROM ${BUILD_IMAGE} AS build
ARG REQUIREMENTS="corpus.txt evaluate.txt"
ARG TORCH_INDEX_URL=
COPY compose/images/install.sh compose/images/hashes.* /build/
COPY compose/wheelhouse /wheelhouse
COPY training-jobs/requirements /requirements
COPY services/reranker/requirements.txt /requirements/services.txt
RUN sh /build/install.sh /venv ${REQUIREMENTS}
COPY services/common/src services/extract/src training-jobs/src /app/
COPY training-jobs/recipes /app/recipes
COPY training-jobs/labels /app/labels
RUN mkdir -p /state/data /state/cache \
    && { /venv/bin/python -m compileall -q -j 0 /app /venv/lib || true; }

FROM ${BASE_IMAGE}
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp CAPSTAN_CACHE_DIR=/cache
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY --from=build --chown=10001:10001 /state /
LABEL org.opencontainers.image.title="capstan/jobs"
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python", "-m"]
