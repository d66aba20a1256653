# Scanwarden as a container: one image for every role.
#
#   docker build -t scanwarden .
#   docker run -p 11112:11112 -v scanwarden-data:/var/lib/scanwarden -v /etc/scanwarden:/etc/scanwarden:ro scanwarden
#
# PyTorch brings its own CUDA libraries, so any base with glibc can use a GPU once the host hands it in (`--gpus all` with
# NVIDIA's container toolkit). BASE is for a site that wants another one: a CUDA image, or one from its own registry. A
# Debian or Ubuntu base without Python gets the distribution's, which has to be 3.11 or newer.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
RUN command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/scanwarden
WORKDIR /source
# The dependencies first: they change seldom and are nearly all of the image.
COPY pyproject.toml constraints.txt ./
RUN /opt/scanwarden/bin/python -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]))' \
        > requirements.txt \
    && /opt/scanwarden/bin/pip install --no-cache-dir -c constraints.txt -r requirements.txt
COPY LICENSE README.md ./
COPY config config
COPY storage storage
COPY models models
COPY inference inference
COPY gateway gateway
RUN /opt/scanwarden/bin/pip install --no-cache-dir -c constraints.txt .

FROM ${BASE}
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/*)
# A fixed number, so that the owner of a mounted volume can be set from outside.
RUN groupadd --gid 10104 scanwarden \
    && useradd --uid 10104 --gid scanwarden --no-create-home --home-dir /var/lib/scanwarden --shell /usr/sbin/nologin scanwarden \
    && install -d -o scanwarden -g scanwarden -m 0750 /var/lib/scanwarden \
    && install -d -m 0755 /etc/scanwarden
COPY --from=build /opt/scanwarden /opt/scanwarden
ENV PATH=/opt/scanwarden/bin:$PATH \
    PYTHONUNBUFFERED=1
USER scanwarden
# No setting stands in ENV: it would win over the file. `store.root` is `var` unless set, and so lies in this volume.
WORKDIR /var/lib/scanwarden
# /etc/scanwarden holds the configuration; name it with SCANWARDEN_CONFIG=/etc/scanwarden/scanwarden.yaml. Without it the
# defaults are in effect, and they let nobody but the container itself send.
VOLUME ["/var/lib/scanwarden", "/etc/scanwarden"]
# 11112: DICOM. 8080: health, metrics and STOW-RS, which listen on the container's own loopback until `web.host` and a
# login are set (docs/operation.md).
EXPOSE 11112 8080
# The supervisor lets every role finish what it holds, 35 s at most: docker stop --time 45.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["scanwarden", "status", "--check"]
ENTRYPOINT ["scanwarden"]
CMD ["serve"]
