# paring alone: a static program on an empty image.
#
#     docker build -t paring .
#     docker run --rm -v "$PWD:/work" paring quantize demo --wbits 4 --sym --groupsize 32 --out demo-4bit
#
# Models of the hub are kept in /cache; -v "$HOME/.cache/huggingface:/cache" shares those of the host. Add --user "$(id -u):$(id -g)"
# to own what it writes.

FROM rust:1-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /paring
COPY . .
RUN rustup target add "$(uname -m)-unknown-linux-musl" \
    && scripts/archive "$(uname -m)-unknown-linux-musl" \
    && mkdir -p /image/usr/local /image/cache /image/work /image/tmp \
    && chmod 1777 /image/cache /image/work /image/tmp \
    && tar -xzf dist/paring-*.tar.gz --strip-components 1 -C /image/usr/local

FROM scratch
COPY --from=build /image /
ENV HF_HOME=/cache
WORKDIR /work
ENTRYPOINT ["/usr/local/bin/paring"]
CMD ["--help"]
