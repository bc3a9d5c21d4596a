#!/bin/sh
# Builds helm at the version that go.mod pins into a cache outside the tree, and prints the directory. A second call is instant.
# Beside it, crds/ has the definitions of the Prometheus operator that the chart's objects are checked against.
# Its Kubernetes modules are those of ../kube, built with the same flags: after that peer it is a matter of seconds.
set -eu
cd "$(dirname "$0")"
operator=v0.85.0
eval "$(../go.sh)"
key=$( (go env GOVERSION; cat go.mod go.sum build.sh) | sha256sum | cut -c1-12)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/peers/helm-$key
if [ ! -e "$cache/done" ]; then
	mkdir -p "$cache"
	exec 9>"$cache/lock"
	flock 9
fi
if [ ! -e "$cache/done" ]; then
	echo "building helm (once) in $cache" >&2
	# What helm takes a cluster for when it has none (helm template, helm lint): a plain build says 1.20.
	minor=$(go list -m -f '{{.Version}}' k8s.io/client-go | cut -d. -f2)
	stamp=''
	for package in pkg/lint/rules pkg/chartutil; do
		stamp="$stamp -X helm.sh/helm/v3/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/$package.k8sVersionMinor=$minor"
	done
	stamp="$stamp -X helm.sh/helm/v3/internal/version.version=$(go list -m -f '{{.Version}}' helm.sh/helm/v3)"
	go build -trimpath -ldflags "-s -w $stamp" -o "$cache/helm" helm.sh/helm/v3/cmd/helm >&2
	operator=$(go mod download -json "github.com/prometheus-operator/prometheus-operator@$operator" | sed -n 's/^\t"Dir": "\(.*\)".*/\1/p')
	mkdir -p "$cache/crds"
	cp "$operator/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml" \
		"$operator/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml" "$cache/crds/"
	chmod -R u+w "$cache/crds"
	touch "$cache/done"
fi
echo "$cache"
