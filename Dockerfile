# One image for workers, beats, the HTTP API and Flower; the command decides. `make lock` refreshes what it installs.
FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# what others wrote comes first: it changes less often than what we write
COPY requirements.lock requirements-build.lock ./
RUN python -m venv --without-pip /venv \
    && python -m venv --without-pip /build \
    && pip --python /venv/bin/python install --require-hashes --only-binary :all: -r requirements.lock \
    && pip --python /build/bin/python install --require-hashes --only-binary :all: -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY agnt5 agnt5
RUN SOURCE_DATE_EPOCH=0 /build/bin/hatchling build -t wheel -d /dist \
    && pip --python /venv/bin/python install --no-deps --no-index /dist/*.whl

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="agnt5-example" \
      org.opencontainers.image.description="Workers, beats, HTTP API and Flower of an agnt5 project" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN groupadd --gid 10001 agnt5 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin agnt5
COPY --from=build /venv /venv
WORKDIR /app
COPY deploy/beat_health.py deploy/beat_health.py
COPY workers workers
COPY beat beat
USER 10001:10001
# a warm shutdown: workflows are parked, functions get AGNT5_SHUTDOWN_GRACE (30 s) to end
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "workers", "worker", "--loglevel=INFO"]
