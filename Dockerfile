# What runs, and nothing that only checks or builds it: PyPI's torch brings its CUDA libraries, xformers its kernels.
#   docker build -t vlajepa .
#   docker run --gpus all -v /data:/data:ro -v /builds:/builds vlajepa vlajepa preprocess source=ssv2 ...
# The user is 1000, who must be allowed to write to /builds; --user "$(id -u):$(id -g)" -e HOME=/tmp makes it yours.
# The image is also what the nodes of a Ray cluster run: docker run --gpus all --network host vlajepa ray start --head --block
FROM python:3.11-slim-bookworm AS libraries

RUN python3 -m venv /opt/venv
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
# Without the project's own code, so that a change of it leaves the largest layer as it is.
# xFormers' kernels are built for CUDA 12, PyTorch brings CUDA 13: they load beside each other once the runtime is found
ARG EXTRAS=rlds,mcap
RUN /opt/venv/bin/python -m pip install --no-cache-dir --no-compile --constraint constraints.txt \
        ".[$EXTRAS]" nvidia-cuda-runtime-cu12 \
    && /opt/venv/bin/python -m pip uninstall --yes vlajepa
# Not by time stamps, which a layer rounds: half of the bytecode would be out of date. Some templates are no Python
RUN /opt/venv/bin/python -m compileall -f -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib >/dev/null || true

FROM python:3.11-slim-bookworm AS project

RUN python3 -m venv /opt/venv
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY pipeline ./pipeline
COPY model ./model
COPY jobs ./jobs
COPY vlajepa ./vlajepa
COPY manifests ./manifests
RUN /opt/venv/bin/python -m pip install --no-cache-dir --no-compile --no-deps --prefix /opt/project . \
    && /opt/venv/bin/python -m compileall -f -q --invalidation-mode unchecked-hash /opt/project/lib

FROM python:3.11-slim-bookworm

# KubeRay asks Ray for its health with wget
RUN apt-get update \
    && apt-get install -y --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home vlajepa

COPY --from=libraries /opt/venv /opt/venv
COPY --from=project /opt/project /opt/venv

ENV LD_LIBRARY_PATH=/opt/venv/lib/python3.11/site-packages/nvidia/cuda_runtime/lib \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1

USER 1000:1000
WORKDIR /home/vlajepa

# A policy server answers for its policy, a node for its Ray; any other command is well while it runs
HEALTHCHECK --interval=60s --timeout=30s --start-period=300s \
    CMD if grep -qzx serve /proc/1/cmdline; then wget -q -O /dev/null "http://127.0.0.1:${HEALTH_PORT:-8000}/healthz"; \
        elif [ -e /tmp/ray/ray_current_cluster ]; then ray health-check; fi

CMD ["vlajepa", "--help"]
