#!/usr/bin/env bash
# One machine with four disks, each stream at 30 MB/s: the time of all against that of the largest alone, as another machine's only disk.
#   VIC=PROGRAM      what to measure (default: the release build)
#   BENCH_MIB=1024   size of the largest; the others have three quarters, a half and a quarter
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
vic=${VIC:-$here/build/release/controller/vm-import-controller}
mib=${BENCH_MIB:-1024}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/bench
mkdir -p "$cache"
[ -x "$vic" ] || { echo "disks.sh: build $vic first, or name another in VIC" >&2; exit 2; }

work=$(mktemp -d "$cache/disks.XXXXXX")
export VSPHERE_STATE=$work/vsphere VSPHERE_INVENTORY=$work/inventory.json VSPHERE_LISTEN=127.0.0.1:0 VSPHERE_ADMIN=127.0.0.1:0
trap '"$here/test/peers/vsphere/down.sh"; rm -rf "$work"' EXIT
jq -n --argjson mib "$mib" 'def disk(quarters; seed): {capacityMB: ($mib * quarters / 4), fill: {seed: seed, percent: 50}};
	{user: "bench", password: "bench", lease: {initSeconds: 0.1, timeoutSeconds: 300}, nfc: {streamMBps: 30, maxStreams: 52},
	 datacenters: [{name: "DC1", hosts: [{name: "esx1.test", address: "127.0.0.11:0"}], vms: [
		{name: "four", disks: [disk(1; 71), disk(4; 74), disk(2; 72), disk(3; 73)]}, {name: "one", disks: [disk(4; 74)]}]}]}' >"$VSPHERE_INVENTORY"
eval "$("$here/test/peers/go.sh")"
eval "$("$here/test/peers/vsphere/up.sh")"
manifest() {
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
	---
	apiVersion: migration.harvesterhci.io/v1beta1
	kind: VirtualMachineImport
	metadata: {name: $1}
	spec: {virtualMachineName: $1, sourceCluster: {kind: VmwareSource, name: vcenter}}
	END
}
now() { date +%s%N; }
import() {
	rm -rf "$work/out"
	manifest "$1" | "$vic" import -q -f - -o "$work/out" >/dev/null
}
# The peer compresses a disk when a lease asks for it first, and keeps it: a lease that is cut at once is enough.
warm() {
	curl -fsS -X POST -d '{"kind": "cut", "path": "/nfc/", "afterBytes": 0}' "$VSPHERE_ADMIN_URL/faults" >/dev/null
	curl -fsS -X POST -d '{"kind": "status", "path": "/folder", "code": 404}' "$VSPHERE_ADMIN_URL/faults" >/dev/null
	manifest four | timeout 20 "$vic" import -q -f - -o "$work/out" >/dev/null 2>&1 || true
	curl -fsS -X DELETE "$VSPHERE_ADMIN_URL/faults" >/dev/null
}
warm
begin=$(now)
import one
one=$((($(now) - begin) / 1000000))
begin=$(now)
import four
four=$((($(now) - begin) / 1000000))
state=$(curl -fsS "$VSPHERE_ADMIN_URL/state")
for i in 0 1 2 3; do
	cmp "$(jq -r ".vms[] | select(.Path == \"/DC1/vm/four\") | .Disks[$i].Source" <<<"$state")" "$work/out/four/disk-$i.raw"
done
echo "value largest_disk_alone $one ms"
echo "value four_disks $four ms"
echo "ratio four_disks_vs_largest $(awk -v a=$four -v b=$one 'BEGIN { printf "%.3f", a / b }')"
