# syntax=docker/dockerfile:1
# Two stages: the first has what building needs, the second only what serving needs.
ARG PYTHON=3.13-slim

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
RUN python -m venv /opt/chainrule
ENV PATH=/opt/chainrule/bin:$PATH
COPY requirements.lock ./
RUN pip install --require-hashes --only-binary=:all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY chainrule ./chainrule
RUN pip install --no-deps --no-build-isolation . && pip uninstall --yes hatchling editables

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="Chainrule" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 chainrule \
    && useradd --uid 10001 --gid chainrule --home-dir /data --no-create-home --shell /usr/sbin/nologin chainrule \
    && install -d -o chainrule -g chainrule /data
COPY --from=build /opt/chainrule /opt/chainrule
ENV PATH=/opt/chainrule/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CHAINRULE_HOST=0.0.0.0 \
    CHAINRULE_AUTH=keys \
    CHAINRULE_DATABASE_URL=sqlite:////data/chainrule.sqlite3 \
    CHAINRULE_CACHE_DIR=/data/cache
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
# Draining puts running runs back into the queue; see stop_grace_period in docker-compose.yml.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v1/health/ready', timeout=2)"]
ENTRYPOINT ["chainrule"]
CMD ["serve"]
