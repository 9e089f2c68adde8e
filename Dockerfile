# syntax=docker/dockerfile:1
# One image for every role: compose.yaml and deploy/kubernetes say which. The target `network` is for nodes that carry networks.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/stoker
COPY requirements-image.lock ./
RUN /opt/stoker/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY scheduler scheduler
COPY tasks tasks
COPY demo demo
RUN /opt/stoker/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .
# A container that runs installs nothing.
RUN /opt/stoker/bin/pip uninstall --yes --quiet --disable-pip-version-check setuptools pip

FROM python:3.13-slim-bookworm AS base
RUN useradd --uid 10001 --create-home --home-dir /var/lib/stoker stoker
COPY --from=build /opt/stoker /opt/stoker
# The root file system is read-only where this runs: no byte code is written, and all state is under one folder.
ENV PATH=/opt/stoker/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 STOKER_STATE_DIR=/var/lib/stoker/state
WORKDIR /var/lib/stoker
CMD ["stoker", "--help"]

# What the linux driver runs. It changes the network of its machine, and so needs root: no other role does.
FROM base AS network
RUN apt-get update && apt-get install --yes --no-install-recommends dnsmasq-base nftables && rm -rf /var/lib/apt/lists/*

FROM base AS stoker
USER 10001:10001
