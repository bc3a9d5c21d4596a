#!/bin/bash
# Installs what is missing of the Debian packages for a purpose, and nothing when all are there:
#   deploy/packages.sh build    to build the program
#   deploy/packages.sh run      what runs beside it: authorities' certificates, qemu-img
#   deploy/packages.sh test     its unit tests, sanitizers, fuzz targets
#   deploy/packages.sh peers    the programs it is tried against (test/peers): vSphere, Kubernetes, OpenStack, a guest in QEMU; the image's builder
# Several can be named. Go comes from test/peers/go.sh, for Debian 12 has none that is new enough.
set -euo pipefail

build='build-essential cmake ninja-build pkg-config git ca-certificates libcurl4-openssl-dev libjansson-dev libyaml-dev
	libwebsockets-dev libssl-dev libxml2-dev libdeflate-dev libarchive-dev libzstd-dev zlib1g-dev'
run='ca-certificates qemu-utils'
test='clang-14 libclang-rt-14-dev llvm-14 lld-14 libcmocka-dev python3 python3-venv curl jq openssl qemu-utils nginx-light
	mandoc zsh fish'
peers='ca-certificates curl jq openssl procps python3 python3-venv qemu-system-x86 qemu-utils libnbd-bin util-linux
	buildah debootstrap binutils'

want=()
for purpose in "$@"; do
	case $purpose in
	build | run | test | peers)
		read -r -d '' -a list <<<"${!purpose}" || true
		want+=("${list[@]}")
		;;
	*) sed -n '2,7s/^# \?//p' "$0" >&2; exit 2 ;;
	esac
done

missing=()
for package in "${want[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} != 0 ] || exit 0

sudo=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || { echo "packages.sh: these are missing, and there is neither root nor sudo: ${missing[*]}" >&2; exit 1; }
	sudo=(sudo)
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null
