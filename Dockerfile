# btchat on a CUDA host: docker compose up. Without a GPU: docker run with BTCHAT_DEVICE=cpu.
FROM nvidia/cuda:13.0.1-runtime-ubuntu24.04

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    VIRTUAL_ENV=/opt/btchat PATH=/opt/btchat/bin:$PATH
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv $VIRTUAL_ENV \
 && useradd --uid 10001 --create-home btchat \
 && install -d -o btchat -g btchat -m 0700 /data

WORKDIR /app
# Dependencies first: they change less often than the code.
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir -p bt_model btchat server && touch bt_model/__init__.py btchat/__init__.py server/__init__.py \
 && pip install -c constraints.txt .
COPY bt_model bt_model
COPY btchat btchat
COPY server server
COPY weights/manifest.toml weights/manifest.toml
COPY weights/embedded weights/embedded
COPY docker/healthcheck.py docker/healthcheck.py
RUN pip install --no-deps --editable .

USER btchat
ENV BTCHAT_HOST=0.0.0.0 BTCHAT_PORT=8000 BTCHAT_DATA_DIR=/data
EXPOSE 8000
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 CMD ["python", "docker/healthcheck.py"]
STOPSIGNAL SIGTERM
CMD ["btchat", "serve"]
