#!/bin/sh
# Builds govc at the version that go.mod pins (the vSphere peer's) into a cache outside the tree, and prints the program's path. A second
# call is instant.
set -eu
cd "$(dirname "$0")"
eval "$(../go.sh)"
key=$( (go env GOVERSION; cat go.mod go.sum build.sh ./*.go) | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/peers/govc-$key
if [ ! -e "$cache/done" ]; then
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
fi
if [ ! -e "$cache/done" ]; then
	echo "building govc (once) in $cache" >&2
	go build -trimpath -ldflags '-s -w' -o "$cache/govc" . >&2
	touch "$cache/done"
fi
echo "$cache/govc"
