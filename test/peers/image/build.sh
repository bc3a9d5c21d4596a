#!/bin/bash
# Builds the image of Dockerfile for real, with buildah in chroot isolation, on a base made by debootstrap, and prints a directory with
#   rootfs/       its root file system         config.json   its configuration (user, entry point, ...)       size   in bytes: all, ours
# It is built anew when what it is made of changed; the directory's name is a digest of that. The base and the layer with the build's
# packages are kept. Needs root, buildah, debootstrap and Debian's packages; all is kept in ~/.cache/vm-import-controller (XDG_CACHE_HOME).
#   build.sh --key   prints the directory only, whether it is there or not
set -euo pipefail
shopt -s inherit_errexit
here=$(cd "$(dirname "$0")" && pwd)
tree=$(cd "$here/../../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller
suite=bookworm

digest() { sha256sum | cut -c1-12; }
inputs() { # of what the build takes from the tree, the names and the contents
	cd "$tree"
	find Dockerfile .dockerignore CMakeLists.txt CMakePresets.json cmake controller crds deploy/packages.sh deploy/rootfs.sh deploy/CMakeLists.txt \
		"$here/build.sh" -type f -print0 | sort -z | xargs -0 sha256sum
}
base_key=$(sed -n '/^make_base()/,/^}/p' "$0" | digest)
image=$cache/image-$(inputs | digest)
if [ "${1:-}" = --key ] || [ -e "$image/done" ]; then
	echo "$image"
	exit 0
fi
[ "$(id -u)" = 0 ] || { echo "image: needs root" >&2; exit 1; }

# A Debian as small as the usual "slim" base: no documents, no translations, no lists of packages.
make_base() { # make_base TAR
	local root mirror
	# Where this machine has its packages from; debootstrap has a default of its own.
	mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' | sed -n "s/^$suite //p" | head -n 1)
	root=$(mktemp -d "$cache/base.XXXXXX")
	debootstrap --variant=minbase $suite "$root" ${mirror:+"$mirror"} >"$1.log" 2>&1 || { tail -n 20 "$1.log" >&2; rm -rf "$root"; return 1; }
	rm -rf "$root"/usr/share/{locale,man,info}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb
	find "$root/usr/share/doc" -type f ! -name copyright -delete
	printf 'path-exclude /usr/share/locale/*\npath-exclude /usr/share/man/*\npath-exclude /usr/share/doc/*\npath-include /usr/share/doc/*/copyright\n' \
		>"$root/etc/dpkg/dpkg.cfg.d/slim"
	tar -C "$root" --numeric-owner -cf "$1.new" .
	rm -rf "$root"
	mv "$1.new" "$1"
}

forget() { # forget STORAGE: what an interrupted build left mounted, too
	awk -v below="$1/" 'index($2, below) == 1 { print $2 }' /proc/mounts | tac | while read -r mounted; do umount "$mounted"; done
	rm -rf "$1"
}

mkdir -p "$cache"
exec 9>"$cache/image.lock"
flock 9
if [ ! -e "$image/done" ]; then
	began=$SECONDS
	base=$cache/base-$suite-$base_key.tar
	if [ ! -e "$base" ]; then
		echo "image: making the base with debootstrap (once)" >&2
		make_base "$base"
	fi
	export BUILDAH_ISOLATION=chroot
	# Layers of other bases and packages are of no use any more.
	storage=$cache/image-storage-$( (echo "$base_key"; cat "$tree/deploy/packages.sh" "$here/build.sh"; sed '/AS build/,$d' "$tree/Dockerfile") | digest)
	for old in "$cache"/image-storage-*; do [ "$old" = "$storage" ] || forget "$old"; done
	work=$(mktemp -d "$cache/image-work.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	buildah() { command buildah --storage-driver vfs --root "$storage" --runroot "$work/run" "$@"; }
	machine=() # how this machine reaches Debian's packages
	[ ! -e /etc/apt/sources.list.d/debian.sources ] && [ ! -e /etc/apt/sources.list ] || machine=(--volume /etc/apt:/etc/apt:ro)

	log=$work/log
	build() { buildah bud "${machine[@]}" "$@" "$tree" >>"$log" 2>&1 || { tail -n 60 "$log" >&2; echo "image: the build failed" >&2; exit 1; }; }
	if ! buildah inspect --type image localhost/base >/dev/null 2>&1; then
		container=$(buildah from scratch)
		buildah add --quiet "$container" "$base" / >/dev/null
		buildah commit --quiet --rm "$container" localhost/base >/dev/null
	fi
	echo "image: buildah bud" >&2
	# The stage with the packages is an image of its own, so that it is there the next time.
	if ! buildah inspect --type image localhost/tools >/dev/null 2>&1; then
		build --build-arg BASE=localhost/base --target tools --tag localhost/tools
	fi
	version=$(git -C "$tree" -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
	# On that as its base the first stage finds all packages there.
	build --build-arg BASE=localhost/tools --build-arg VERSION="0.0.0+$version" --tag localhost/vm-import-controller
	container=$(buildah from localhost/vm-import-controller)
	rm -rf "$image" && mkdir -p "$image"
	cp -a "$(buildah mount "$container")" "$image/rootfs"
	buildah inspect "$container" | jq '.OCIv1.config' >"$image/config.json"
	buildah rm "$container" >/dev/null
	buildah rmi localhost/vm-import-controller >/dev/null
	echo "$(du -sb "$image/rootfs" | cut -f1) $(stat -c %s "$image/rootfs/usr/bin/vm-import-controller")" >"$image/size"
	touch "$image/done"
	find "$cache" -maxdepth 1 -name 'image-*' -type d -mtime +1 ! -name 'image-storage-*' -exec rm -rf {} +
	echo "image: built in $((SECONDS - began)) s" >&2
fi
echo "$image"
