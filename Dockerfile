# The environment of `make install` for a CUDA machine: PyPI's torch brings its CUDA libraries and xformers its kernels.
#   docker build -t vlajepa .
#   docker run --gpus all -v /data:/data -v /builds:/builds vlajepa vlajepa preprocess source=ssv2 ...
# The image is also what the nodes of a Ray cluster run: docker run --gpus all --network host vlajepa ray start --head --block
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE Makefile ./
COPY pipeline ./pipeline
COPY model ./model
COPY jobs ./jobs
COPY vlajepa ./vlajepa
COPY manifests ./manifests
COPY tests ./tests

RUN UV_NO_CACHE=1 make install PYTHON=python3 VENV=/opt/venv

# xFormers' kernels are built for CUDA 12, PyTorch brings CUDA 13: they load beside each other once this library is found
RUN /opt/venv/bin/python -m pip install --no-cache-dir --constraint constraints.txt nvidia-cuda-runtime-cu12
ENV LD_LIBRARY_PATH=/opt/venv/lib/python3.11/site-packages/nvidia/cuda_runtime/lib

ENV PATH=/opt/venv/bin:$PATH \
    VENV=/opt/venv \
    PYTHONUNBUFFERED=1

CMD ["vlajepa", "--help"]
