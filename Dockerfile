# sctseg7t in a container.
#
#   docker build -t sctseg7t .                              # CPU
#   docker build -t sctseg7t:cuda --build-arg BASE=nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04 \
#       --build-arg RUNTIME=onnxruntime-gpu .               # CUDA: run with --gpus all
#   docker run --rm --network none -v "$PWD:/data" -u "$(id -u):$(id -g)" sctseg7t sct7t_deepseg -i t2s.nii.gz -c gm_sc
#
# The networks are in the image: a run needs no network and no cache.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE}
ARG RUNTIME=onnxruntime
# The CUDA image brings no Python; the slim one has it.
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/sctseg7t
ENV PATH=/opt/sctseg7t/bin:$PATH
COPY . /src
# One ONNX Runtime: that of the argument. Both together would hide each other.
RUN pip install --no-cache-dir /src \
    && pip uninstall -y onnxruntime onnxruntime-gpu \
    && pip install --no-cache-dir "${RUNTIME}>=1.20" \
    && rm -rf /src
# Any user may run it: caches go where everybody may write.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib SCT7T_CACHE=/tmp/sctseg7t
WORKDIR /data
RUN sct7t doctor
CMD ["sct7t"]
