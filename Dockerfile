# Sluice as an image: target `cpu`, and `cuda` for machines with NVIDIA GPUs.
#
#   docker build --target cpu --build-arg REVISION="$(git rev-parse HEAD)" -t sluice:0.1.0-cpu .
#   docker run -p 127.0.0.1:50051:50051 -p 127.0.0.1:8080:8080 sluice:0.1.0-cpu   the embedded model
#   and with -v DIR:/models:ro -e SLUICE_MODEL=/models/NAME                 one of yours
#
# BASE is Debian 12 by whatever name or digest you trust: all stages start from it, so that the
# libraries copied from the one are the other's. LibTorch and its CUDA runtime libraries are pinned by
# hash in scripts/dependencies.txt. docs/operations.md says what is open in the image and why.
ARG BASE=debian:12-slim

# What changes seldom comes first, in stages of its own: the compiler and LibTorch (600 MB), CUDA's compiler
# (100 MB). A change of the sources downloads nothing.
FROM ${BASE} AS tools
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
RUN dpkg-query -W -f='${Package}\n' | sort >/base-packages
COPY scripts/common.sh scripts/setup scripts/dependencies.txt scripts/
RUN scripts/setup

FROM tools AS cuda-tools
COPY scripts/cuda_compiler.txt scripts/
RUN scripts/setup --cuda

FROM tools AS build
COPY CMakeLists.txt ./
COPY cmake cmake
COPY proto proto
COPY include include
COPY models/*.py models/
COPY src src
ARG JOBS=2
ARG CCACHE_DIR=/ccache
RUN --mount=type=cache,target=/ccache \
    cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSLUICE_TESTS=OFF \
      -DSLUICE_BENCHMARKS=OFF && \
    cmake --build build --target sluice --parallel "${JOBS}"

# The kernels of NVIDIA's GPUs, for target cuda alone.
FROM build AS cuda-build
COPY --from=cuda-tools /src/.deps/cuda-13.0 .deps/cuda-13.0
ARG JOBS=2
ARG CCACHE_DIR=/ccache
RUN --mount=type=cache,target=/ccache \
    cmake -S . -B build -DSLUICE_CUDA=ON && \
    cmake --build build --target sluice_cuda --parallel "${JOBS}"

FROM build AS files
COPY scripts/image_files scripts/
COPY deploy/health_check deploy/
COPY LICENSE NOTICE ./
COPY models/llama-tiny models/llama-tiny
COPY models/bloom-tiny models/bloom-tiny
RUN scripts/image_files build/bin/sluice /image

FROM ${BASE} AS cpu
COPY --from=files /image/ /
# 10001 by number: Kubernetes checks runAsNonRoot by it. ldconfig makes /opt/sluice/lib known.
RUN ldconfig && \
    echo 'sluice:x:10001:10001::/nonexistent:/usr/sbin/nologin' >>/etc/passwd && \
    echo 'sluice:x:10001:' >>/etc/group && \
    install -d -o 10001 -g 10001 /models /cache
ENV PATH=/opt/sluice/bin:/usr/local/bin:/usr/bin:/bin \
    HF_HOME=/cache/huggingface \
    SLUICE_MODEL=/opt/sluice/models/llama-tiny \
    SLUICE_GRPC_ADDRESS=0.0.0.0:50051 \
    SLUICE_HTTP_ADDRESS=0.0.0.0:8080 \
    SLUICE_INSECURE=true
USER 10001:10001
WORKDIR /models
VOLUME ["/models", "/cache"]
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["health_check"]
ENTRYPOINT ["sluice"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG BASE
LABEL org.opencontainers.image.title="Sluice" \
      org.opencontainers.image.description="An inference server for language models" \
      org.opencontainers.image.licenses="Apache-2.0 AND CC-BY-SA-4.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"

# The same server with one library more; the container toolkit puts the driver's libraries in. CUDA's
# runtime is in the library, and neither cuBLAS nor cuDNN nor LibTorch's CUDA half is needed.
FROM cpu AS cuda
COPY --from=cuda-build /src/build/bin/libsluice_cuda.so /opt/sluice/lib/
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
