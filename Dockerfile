# One image for workers, beats and Flower; the command decides.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY agnt5 agnt5
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir '.[flower]'

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 agnt5
COPY --from=build /venv /venv
WORKDIR /app
COPY workers workers
COPY beat beat
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER agnt5
# a warm shutdown: workflows are parked, functions get AGNT5_SHUTDOWN_GRACE (30 s) to end
STOPSIGNAL SIGTERM
CMD ["celery", "-A", "workers", "worker", "--loglevel=INFO"]
