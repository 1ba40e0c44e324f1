# btchat in a container, two targets: `cpu`, and `cuda` (the default), whose CUDA libraries come with torch's wheel.
#   docker build --target cpu -t btchat:cpu .
#   docker build -t btchat:cuda .
# docs/deployment.md tells where the base's digest is from.
ARG BASE=python:3.12-slim-bookworm@sha256:54c85f3c47607a77f32adec749d3c81d1348bf25833671f512b26a9b6d778cb3

FROM ${BASE} AS tools
ENV PIP_CACHE_DIR=/var/cache/pip
WORKDIR /src
COPY constraints/image.txt ./
RUN --mount=type=cache,target=/var/cache/pip \
    python -m venv /opt/tools && /opt/tools/bin/pip install -r image.txt && python -m venv --without-pip /opt/btchat

FROM tools AS requirements
COPY pyproject.toml ./
COPY docker/requirements.py docker/requirements.py
RUN python docker/requirements.py > /opt/cpu.txt && python docker/requirements.py gpu > /opt/cuda.txt

FROM tools AS code
COPY pyproject.toml README.md LICENSE ./
COPY bt_model bt_model
COPY btchat btchat
COPY server server
COPY weights weights
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/tools/bin/pip --python /opt/btchat/bin/python install --no-deps --no-index /wheels/*.whl

FROM ${BASE} AS runtime
RUN useradd --uid 10001 --create-home btchat && install -d -o btchat -g btchat -m 0700 /data /weights
ENV PATH=/opt/btchat/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    BTCHAT_HOST=0.0.0.0 BTCHAT_PORT=8000 BTCHAT_DATA_DIR=/data BTCHAT_WEIGHTS_DIR=/weights
COPY docker/healthcheck.py /opt/healthcheck.py
WORKDIR /data
USER 10001
EXPOSE 8000
VOLUME ["/data", "/weights"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["python", "/opt/healthcheck.py"]
STOPSIGNAL SIGTERM
CMD ["btchat", "serve"]

# A target is a layer with the dependencies, which seldom change, then small ones with the code and the list of parts.
# Stages are copied from, not mounted: buildah 1.28 does not see in its cache that what is mounted has changed.
FROM tools AS dependencies-cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints/cpu.txt ./
COPY --from=requirements /opt/cpu.txt requirements.txt
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/tools/bin/pip --python /opt/btchat/bin/python install -c cpu.txt --extra-index-url "$TORCH_INDEX" -r requirements.txt
FROM dependencies-cpu AS parts-cpu
COPY pyproject.toml ./
COPY --from=code /opt/btchat/lib /opt/btchat/lib
RUN /opt/tools/bin/pip --python /opt/btchat/bin/python check \
 && /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
    -o /opt/sbom.cdx.json /opt/btchat/bin/python
FROM runtime AS cpu
COPY --from=dependencies-cpu /opt/btchat /opt/btchat
COPY --from=code /opt/btchat/lib /opt/btchat/lib
COPY --from=code /opt/btchat/bin/btchat /opt/btchat/bin/btchat
COPY --from=parts-cpu /opt/sbom.cdx.json /opt/btchat/sbom.cdx.json
ENV BTCHAT_DEVICE=cpu

FROM tools AS dependencies-cuda
COPY constraints/cuda.txt ./
COPY --from=requirements /opt/cuda.txt requirements.txt
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/tools/bin/pip --python /opt/btchat/bin/python install -c cuda.txt -r requirements.txt
FROM dependencies-cuda AS parts-cuda
COPY pyproject.toml ./
COPY --from=code /opt/btchat/lib /opt/btchat/lib
RUN /opt/tools/bin/pip --python /opt/btchat/bin/python check \
 && /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
    -o /opt/sbom.cdx.json /opt/btchat/bin/python
FROM runtime AS cuda
COPY --from=dependencies-cuda /opt/btchat /opt/btchat
COPY --from=code /opt/btchat/lib /opt/btchat/lib
COPY --from=code /opt/btchat/bin/btchat /opt/btchat/bin/btchat
COPY --from=parts-cuda /opt/sbom.cdx.json /opt/btchat/sbom.cdx.json
# Triton compiles the decoder's kernels at the start: with a C compiler, into a folder from which code may be loaded.
# Its mode is open, as old runc gives it to the tmpfs that compose mounts there, and root for an owner.
USER root
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/* \
 && install -d -m 1777 /var/cache/triton
USER 10001
ENV TRITON_CACHE_DIR=/var/cache/triton
# a toolkit that does not work is an error here, never a server that answers at a CPU's pace
ENV BTCHAT_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
