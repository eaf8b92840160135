# ducseg in a container, on a processor or on NVIDIA GPUs (torch's own wheels bring CUDA; the host needs a driver and the container toolkit).
#
#   docker build -t ducseg .
#   docker build -t ducseg:cuda --build-arg DEVICE=cuda .
#   docker run --rm -v "$PWD:/data" ducseg predict RUN photos/ --out predictions
#   docker run --rm --gpus all --shm-size 8g -v "$PWD:/data" ducseg:cuda train DIR --minutes 60
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD:/data" ducseg serve RUN --host 0.0.0.0
ARG DEVICE=cpu

FROM python:3.12-slim AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
COPY constraints.txt /build/
WORKDIR /build

# torchvision, which timm needs, is of the same build as torch
FROM base AS cpu
RUN pip install --no-cache-dir --constraint constraints.txt --index-url https://download.pytorch.org/whl/cpu torch torchvision

FROM base AS cuda
RUN pip install --no-cache-dir --constraint constraints.txt torch torchvision

FROM ${DEVICE} AS ducseg
WORKDIR /build
ARG EXTRAS=export,fast,geo,serve,timm,video
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]" && useradd --create-home --uid 1000 ducseg
USER 1000
WORKDIR /data
ENTRYPOINT ["ducseg"]
CMD ["--help"]
