# btchat in a container, two targets: `cpu`, and `cuda` (the default), whose CUDA libraries come with torch's wheel.
#   docker build --target cpu -t btchat:cpu .
#   docker build -t btchat:cuda .
# BASE is pinned by digest where an image is released (docs/deployment.md).
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/btchat
ENV PATH=/opt/btchat/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY docker/requirements.py docker/requirements.py

FROM build AS wheel
COPY bt_model bt_model
COPY btchat btchat
COPY server server
COPY weights weights
RUN pip wheel --no-deps --wheel-dir /wheels .

# Dependencies first: they change less often than the code.
FROM build AS build-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN python docker/requirements.py > /tmp/requirements.txt \
 && pip install -c constraints/cpu.txt --extra-index-url "$TORCH_INDEX" -r /tmp/requirements.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl && pip uninstall -y pip

FROM build AS build-cuda
RUN python docker/requirements.py gpu > /tmp/requirements.txt \
 && pip install -c constraints/cuda.txt -r /tmp/requirements.txt
COPY --from=wheel /wheels /wheels
RUN pip install --no-deps /wheels/*.whl && pip uninstall -y pip

FROM ${BASE} AS runtime
RUN useradd --uid 10001 --create-home btchat && install -d -o btchat -g btchat -m 0700 /data /weights
ENV PATH=/opt/btchat/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    BTCHAT_HOST=0.0.0.0 BTCHAT_PORT=8000 BTCHAT_DATA_DIR=/data BTCHAT_WEIGHTS_DIR=/weights
COPY docker/healthcheck.py /opt/healthcheck.py
WORKDIR /data
USER btchat
EXPOSE 8000
VOLUME ["/data", "/weights"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "/opt/healthcheck.py"]
STOPSIGNAL SIGTERM
CMD ["btchat", "serve"]

FROM runtime AS cpu
COPY --from=build-cpu /opt/btchat /opt/btchat
ENV BTCHAT_DEVICE=cpu

FROM runtime AS cuda
COPY --from=build-cuda /opt/btchat /opt/btchat
# a toolkit that does not work is an error here, never a server that answers at a CPU's pace
ENV BTCHAT_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
