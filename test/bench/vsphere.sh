# What the benches against the vSphere peer share; sourced by them. Sets here, vic, cache and work, which is gone at the end.

here=$(cd "$(dirname "$0")/../.." && pwd)
bench=$(basename "$0")
vic=${VIC:-$here/build/release/controller/vm-import-controller}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/bench
mkdir -p "$cache"
[ -x "$vic" ] || { echo "$bench: build $vic first, or name another in VIC" >&2; exit 2; }

# Starts the peer with the inventory of its standard input, whose user is "bench".
vsphere_up() {
	work=$(mktemp -d "$cache/${bench%.sh}.XXXXXX")
	export VSPHERE_STATE=$work/vsphere VSPHERE_INVENTORY=$work/inventory.json VSPHERE_LISTEN=127.0.0.1:0 VSPHERE_ADMIN=127.0.0.1:0
	trap '"$here/test/peers/vsphere/down.sh"; rm -rf "$work"' EXIT
	cat >"$VSPHERE_INVENTORY"
	eval "$("$here/test/peers/go.sh")"
	eval "$("$here/test/peers/vsphere/up.sh")"
}

manifests() { # manifests MACHINE...: an import of each
	cat <<-END
	apiVersion: v1
	kind: Secret
	metadata: {name: vcenter}
	stringData: {username: bench, password: bench, thumbprint: "$VSPHERE_THUMBPRINT"}
	---
	apiVersion: migration.harvesterhci.io/v1beta1
	kind: VmwareSource
	metadata: {name: vcenter}
	spec: {endpoint: "$VSPHERE_URL", dc: DC1, credentials: {name: vcenter}}
	END
	for machine; do
		cat <<-END
		---
		apiVersion: migration.harvesterhci.io/v1beta1
		kind: VirtualMachineImport
		metadata: {name: $machine}
		spec: {virtualMachineName: $machine, sourceCluster: {kind: VmwareSource, name: vcenter}}
		END
	done
}

now() { date +%s%N; }
