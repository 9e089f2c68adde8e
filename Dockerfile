# syntax=docker/dockerfile:1
# One image for every role: compose.yaml says which.
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/stoker
COPY requirements.lock ./
RUN /opt/stoker/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY scheduler scheduler
COPY tasks tasks
COPY demo demo
RUN /opt/stoker/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --uid 10001 --create-home --home-dir /var/lib/stoker stoker
COPY --from=build /opt/stoker /opt/stoker
# NAME_FILE stands for NAME: a secret comes as a file, and is in no image, command line or compose file.
COPY --chmod=755 <<'SH' /usr/local/bin/with-secrets
#!/bin/sh
set -eu
for name in STOKER_DATABASE_URL STOKER_REDIS_URL FLOWER_BASIC_AUTH; do
    eval "file=\${${name}_FILE:-}"
    if [ -n "$file" ]; then
        export "$name=$(cat "$file")"
    fi
done
exec "$@"
SH
ENV PATH=/opt/stoker/bin:$PATH PYTHONUNBUFFERED=1 STOKER_STATE_DIR=/var/lib/stoker/state
USER stoker
WORKDIR /var/lib/stoker
ENTRYPOINT ["with-secrets"]
CMD ["stoker", "--help"]
