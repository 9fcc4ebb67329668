# edgecar with TensorRT on a Jetson. From the repository's root:
#
#   docker build -f engines/containers/jetson.Dockerfile --build-arg BASE=<image> -t edgecar .
#   docker run --rm --runtime nvidia edgecar doctor
#
# BASE is NVIDIA's development image of your JetPack, with TensorRT, its Python binding and nvcc: of
# L4T r36 for JetPack 6 (TensorRT 10.3), of r38 or r39 for JetPack 7. Plans go with TensorRT and GPU,
# so they are built in a container that runs on the box, not when the image is made.
ARG BASE
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-pip python3-venv python3-dev g++ \
    gstreamer1.0-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /edgecar
COPY . .
# JetPack's own Python packages must be seen: its TensorRT binding is made for its own Python, 3.10
# on JetPack 6 and 3.12 on 7.
RUN python3 -m venv --system-site-packages /venv \
 && CUDA_ROOT=/usr/local/cuda PATH=/usr/local/cuda/bin:$PATH /venv/bin/pip install --no-cache-dir \
    -c constraints.txt . onnxruntime \
 && CUDA_ROOT=/usr/local/cuda PATH=/usr/local/cuda/bin:$PATH /venv/bin/pip install --no-cache-dir pycuda
ENV PATH=/venv/bin:/usr/local/cuda/bin:$PATH
ENTRYPOINT ["edgecar"]
