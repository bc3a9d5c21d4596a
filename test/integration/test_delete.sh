#!/bin/bash
# An import that is deleted while it downloads: while it has a minute to go, the transfer stops at once, the lease is aborted, scratch is empty, the object gone.
# needs: vsphere kube
# timeout: 600
. "$(dirname "$0")/lib.sh"

jq '.nfc.streamMBps = 2 | .lease.initSeconds = 0.1' "$PEERS/vsphere/inventory.json" >"$WORK/inventory.json"
start_vsphere "$WORK/inventory.json"
start_kube
start_daemon
apply_source
apply_import default web web-off
apply_import default scattered scattered 'forcePowerOff: true'
# What is on scratch tells, not the status, which follows some seconds behind.
downloading() { # downloading LEASES DISKS: so many leases are open, and so many disks have data
	[ "$(admin_state '.openLeases | length')" = "$1" ] && [ "$(find "$SCRATCH" -name 'disk-*.raw' -printf '%b\n' | awk '$1 > 2000' | wc -l)" -ge "$2" ]
}
wait_for 60 downloading 2 3
assert_eq "leases while it downloads" "$(admin_state '.openLeases | length')" 2
[ -n "$(find "$SCRATCH" -name 'disk-*.raw')" ] || fail "no disk on scratch"

before=$(date +%s%N)
kubectl delete virtualmachineimport web --timeout=120s >/dev/null
took=$((($(date +%s%N) - before) / 1000000))
note "gone after $took ms"
[ $took -lt 20000 ] || fail "the deletion took $took ms" # a quiet machine needs less than one second; the download would take more than 60
assert_eq "leases afterwards" "$(admin_state '[.openLeases[].VM] | join(" ")')" "/DC1/vm/scattered"
assert_eq "aborted leases" "$(admin_state .leases.aborted)" 1
assert_eq "directories on scratch" "$(find "$SCRATCH" -mindepth 1 -type d | wc -l)" 1
assert_eq "images" "$(kubectl get vmimage -o name | wc -l)" 0

# SIGTERM in the middle of a transfer gives the lease back and keeps what was fetched for the next start.
stop_daemon 10
assert_eq "leases after SIGTERM" "$(admin_state '.openLeases | length')" 0
assert_eq "sessions after SIGTERM" "$(admin_state '.openSessions | length')" 0
start_daemon
wait_for 60 downloading 1 1
kubectl delete virtualmachineimport scattered --timeout=120s >/dev/null
assert_eq "files on scratch" "$(find "$SCRATCH" -mindepth 1 ! -name .image-key)" ''
assert_source_clean
stop_daemon 10
