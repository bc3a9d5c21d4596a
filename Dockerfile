# docker build -t vm-import-controller --build-arg VERSION="$(git describe --tags --always)" .       (or: buildah bud ...)
# BASE is any Debian 12. The image holds the program, the libraries it links, qemu-img and the authorities' certificates, and nothing else:
# no shell, no package manager (deploy/rootfs.sh).
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS tools
WORKDIR /src
COPY deploy/packages.sh deploy/packages.sh
RUN deploy/packages.sh build run && rm -rf /var/lib/apt/lists/*

FROM tools AS build
ARG VERSION=
COPY . .
RUN cmake --preset release -DVIC_TESTS=OFF -DVIC_RELEASE="${VERSION}" \
	&& cmake --build build/release \
	&& DESTDIR=/image cmake --install build/release --prefix /usr --strip \
	&& deploy/rootfs.sh /rootfs /image/usr/bin/vm-import-controller /usr/bin/qemu-img

FROM scratch
COPY --from=build /rootfs /
# The root file system may be read-only. Scratch space is below /tmp: mount a volume there.
USER 65532:65532
# The image server.
EXPOSE 8080
ENTRYPOINT ["/usr/bin/vm-import-controller"]
