#!/bin/sh
# Builds promtool (Prometheus's linter and unit tester of rules) at the version that go.mod pins into a cache outside the tree, and prints
# the directory. A second call is instant. The service discoveries, which it is not asked about, are left out: they are most of it.
set -eu
cd "$(dirname "$0")"
eval "$(../go.sh)"
key=$( (go env GOVERSION; cat go.mod go.sum build.sh) | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/peers/prometheus-$key
if [ ! -e "$cache/done" ]; then
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
fi
if [ ! -e "$cache/done" ]; then
	echo "building promtool (once; some minutes) in $cache" >&2
	go build -trimpath -tags remove_all_sd -ldflags '-s -w' -o "$cache/promtool" github.com/prometheus/prometheus/cmd/promtool >&2
	touch "$cache/done"
fi
echo "$cache"
