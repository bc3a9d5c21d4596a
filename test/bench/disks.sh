#!/usr/bin/env bash
# One machine with four disks, each stream at 30 MB/s: the time of all against that of the largest alone, as another machine's only disk.
#   VIC=PROGRAM      what to measure (default: the release build)
#   BENCH_MIB=1024   size of the largest; the others have three quarters, a half and a quarter
set -euo pipefail

. "$(dirname "$0")/vsphere.sh"
mib=${BENCH_MIB:-1024}
vsphere_up < <(jq -n --argjson mib "$mib" 'def disk(quarters; seed): {capacityMB: ($mib * quarters / 4), fill: {seed: seed, percent: 50}};
	{user: "bench", password: "bench", lease: {initSeconds: 0.1, timeoutSeconds: 300}, nfc: {streamMBps: 30, maxStreams: 52},
	 datacenters: [{name: "DC1", hosts: [{name: "esx1.test", address: "127.0.0.11:0"}], vms: [
		{name: "four", disks: [disk(1; 71), disk(4; 74), disk(2; 72), disk(3; 73)]}, {name: "one", disks: [disk(4; 74)]}]}]}')
import() {
	rm -rf "$work/out"
	manifests "$1" | "$vic" import -q -f - -o "$work/out" >/dev/null
}
# The peer compresses a disk when a lease asks for it first, and keeps it: a lease that is cut at once is enough.
warm() {
	curl -fsS -X POST -d '{"kind": "cut", "path": "/nfc/", "afterBytes": 0}' "$VSPHERE_ADMIN_URL/faults" >/dev/null
	curl -fsS -X POST -d '{"kind": "status", "path": "/folder", "code": 404}' "$VSPHERE_ADMIN_URL/faults" >/dev/null
	manifests four | timeout 20 "$vic" import -q -f - -o "$work/out" >/dev/null 2>&1 || true
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
