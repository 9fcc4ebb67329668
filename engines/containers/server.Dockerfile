# edgecar with TensorRT on an x86 server. From the repository's root:
#
#   docker build -f engines/containers/server.Dockerfile --build-arg BASE=<image> -t edgecar .
#   docker run --rm --gpus all edgecar doctor
#
# BASE is a CUDA 13 development image of Ubuntu 24.04: pycuda and the kernels need nvcc.
ARG BASE
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-pip python3-venv python3-dev g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /edgecar
COPY . .
RUN python3 -m venv /venv \
 && CUDA_ROOT=/usr/local/cuda /venv/bin/pip install --no-cache-dir -c constraints.txt . onnxruntime \
 && CUDA_ROOT=/usr/local/cuda /venv/bin/pip install --no-cache-dir pycuda tensorrt
ENV PATH=/venv/bin:/usr/local/cuda/bin:$PATH
ENTRYPOINT ["edgecar"]
