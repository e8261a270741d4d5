# One image for all roles: two binaries and the C library, no shell, no package manager.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --release --locked --bin dkim-operator --bin kubectl-dkim \
 && install -D -t /out/usr/local/bin /target/release/dkim-operator /target/release/kubectl-dkim

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="dkim-operator" \
      org.opencontainers.image.description="DKIM for Kubernetes: two CNAMEs once, keys rolled for ever" \
      org.opencontainers.image.source="https://github.com/dkim-operator/dkim-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/ /
# The authorities that vouch for resolvers asked over TLS or HTTPS; the build image has them.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/dkim-operator"]
