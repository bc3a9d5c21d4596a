#!/usr/bin/env bash
# A whole import without a cluster: login, lease, a streamOptimized VMDK over TLS from the vSphere peer, conversion, sync. Against the floor:
# copying the disk's allocated bytes to the same file system and syncing it.
#   VIC=PROGRAM      what to measure (default: the release build)
#   BENCH_GIB=8      size of the disk; convert.sh makes it
set -euo pipefail

. "$(dirname "$0")/vsphere.sh"
gib=${BENCH_GIB:-8}
raw=$cache/disk-$gib.raw
[ -e "$raw" ] || { echo "$bench: run convert.sh first, it makes the disk" >&2; exit 2; }

vsphere_up <<END
{"user": "bench", "password": "bench", "lease": {"initSeconds": 0.1, "timeoutSeconds": 3600},
 "datacenters": [{"name": "DC1", "hosts": [{"name": "esx1.test", "address": "127.0.0.11:0"}],
 "vms": [{"name": "bench", "disks": [{"file": "$raw"}]}]}]}
END
manifests bench >"$work/manifests.yaml"

run() { "$vic" import --quiet -f "$work/manifests.yaml" -o "$work/out" >"$work/said"; }
run # the peer compresses the disk once, and keeps it
rm -rf "$work/out"

sync
start=$(now)
cp --sparse=always "$raw" "$work/floor.raw"
sync "$work/floor.raw"
floor=$((($(now) - start) / 1000))
rm "$work/floor.raw"

sync
start=$(now)
"$vic" import --quiet -f "$work/manifests.yaml" -o "$work/out" >"$work/said" &
pid=$!
while sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' /proc/$pid/status 2>/dev/null; do sleep 0.1; done >"$work/rss"
wait $pid
ours=$((($(now) - start) / 1000))
qemu-img compare -q -f raw -F raw "$raw" "$work/out/bench/disk-0.raw" || { echo "$bench: the disk is not the same" >&2; exit 1; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'; }
echo "ratio import_vs_floor $(ratio $ours $floor)"
echo "value import_seconds $(ratio $ours 1000000) s"
echo "value floor_seconds $(ratio $floor 1000000) s"
echo "value import_peak_rss $(sort -n "$work/rss" | tail -1) KiB"
echo "ratio import_scratch_bytes_vs_allocated $(ratio "$(stat -c '%b' "$work/out/bench/disk-0.raw")" "$(stat -c '%b' "$raw")")"
