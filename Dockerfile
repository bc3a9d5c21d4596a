# docker build -t vm-import-controller .
FROM debian:bookworm-slim AS build
WORKDIR /src
COPY deploy/packages.sh deploy/packages.sh
RUN deploy/packages.sh build && rm -rf /var/lib/apt/lists/*
COPY . .
RUN cmake --preset release -DVIC_TESTS=OFF \
	&& cmake --build build/release \
	&& DESTDIR=/image cmake --install build/release --prefix /usr --strip

FROM debian:bookworm-slim
RUN apt-get update \
	&& apt-get install -y --no-install-recommends ca-certificates libarchive13 libcurl4 libdeflate0 libjansson4 libssl3 libwebsockets17 libxml2 libyaml-0-2 libzstd1 qemu-utils zlib1g \
	&& rm -rf /var/lib/apt/lists/*
COPY --from=build /image/usr /usr
# The image server. Without arguments the program is the daemon, with its scratch space below /tmp: mount a volume there.
EXPOSE 8080
ENTRYPOINT ["/usr/bin/vm-import-controller"]
