#!/bin/bash
# Each fault of the vSphere peer at each stage of an import: it ends right, or says why it cannot; and nothing is left at the source.
# FAULT_MATRIX=all takes all of them (some minutes), another text those whose fault or stage has it; without it, a choice that has each
# fault and each stage.
# needs: vsphere
# timeout: 800
. "$(dirname "$0")/lib.sh"

shards=3
rows=$WORK/rows
mkdir "$rows"
all=${FAULT_MATRIX:-some}

# Small machines: one that is off, one with a snapshot to which nothing was added, and running ones, one for each time one is needed.
jq '.lease = {initSeconds: 0.05, timeoutSeconds: 300} | .sessionIdleSeconds = 600 | .datacenters = [.datacenters[0]] | .datacenters[0].hosts = [
		{name: "esx1.test", address: "127.0.0.11:0"}, {name: "esx2.test", address: "127.0.0.12:0"}]
	| .datacenters[0].vms = [
		{name: "off", disks: [{capacityMB: 24, fill: {seed: 61, percent: 50}}, {bus: "sata", capacityMB: 9, fill: {seed: 62, percent: 50}}]},
		{name: "snap", changeTracking: true, snapshots: ["before"], disks: [{capacityMB: 16, fill: {seed: 63, percent: 50}}]},
		(range(40) | {name: "on-\(.)", host: "esx2.test", power: "on", shutdown: {seconds: 0.2}, disks: [{capacityMB: 9, fill: {seed: 64, percent: 50}}]}),
		(range(4) | {name: "stubborn-\(.)", power: "on", shutdown: {mode: "ignore"}, disks: [{capacityMB: 9, fill: {seed: 64, percent: 50}}]})]' \
	"$PEERS/vsphere/inventory.json" >"$WORK/inventory.json"

# --- the cells -------------------------------------------------------------------------------------------------------------
#
# cell FAULT STAGE MACHINE OUTCOME SPEC FAULT-JSON...   in all runs; more: only when all are wanted
# OUTCOME: "right"; "right: PART", when what the status says of the export must have PART; "says: PART", when it must fail with that message.
cells=()
cell() {
	local IFS=$'\x1f'
	[[ $all == all || $all == some || "$1 at $2" == *"$all"* ]] || return 0
	cells+=("$*")
}
more() { [ "$all" = some ] || cell "$@"; }

s503='"kind": "status", "code": 503'
cut='"kind": "cut"'
stall='"kind": "stall", "seconds": 2'
# Login and what comes before.
cell "503" login off right '' "{$s503, \"path\": \"/sdk\", \"count\": 2}"
more "slow" login off right '' '{"kind": "slow", "method": "Login", "seconds": 3, "count": 1}'
more "slow" login off right '' '{"kind": "slow", "method": "RetrieveServiceContent", "seconds": 3, "count": 1}'
cell "clock skew" "all stages" on right '' '{"kind": "skew", "seconds": -86400}'
more "clock skew" "all stages" on right '' '{"kind": "skew", "seconds": 864000}'
# What is found.
more "503" preflight off right '' "{$s503, \"method\": \"RetrievePropertiesEx\", \"skip\": 2, \"count\": 2}"
cell "session dropped" preflight off right '' '{"kind": "drop", "method": "RetrievePropertiesEx", "skip": 2, "count": 1}'
# Shutdown.
cell "session dropped" shutdown on right '' '{"kind": "drop", "method": "ShutdownGuest", "count": 1}'
cell "refused shutdown" shutdown on "says: spec.forcePowerOff" 'sourceRecovery: PowerOn' '{"kind": "soap", "method": "ShutdownGuest", "fault": "ToolsUnavailable"}'
more "refused shutdown" shutdown on "says: NoPermission" '' '{"kind": "soap", "method": "ShutdownGuest", "fault": "NoPermission"}'
cell "ignored shutdown" shutdown stubborn right 'gracefulShutdownTimeoutSeconds: 2' '{"kind": "slow", "method": "PowerOffVM_Task", "seconds": 0.1}'
more "refused power-off" shutdown stubborn "says: NoPermission" 'forcePowerOff: true' '{"kind": "soap", "method": "PowerOffVM_Task", "fault": "NoPermission"}'
# The lease.
cell "slow lease" lease off right '' '{"kind": "lease", "seconds": 3, "count": 1}'
more "slow" lease off right '' '{"kind": "slow", "method": "ExportVm", "seconds": 3, "count": 1}'
cell "lease fails" lease off right '' '{"kind": "lease", "fault": "FileLocked", "count": 1}'
more "lease fails always" lease off "right: datastore browser" '' '{"kind": "lease", "fault": "FileLocked"}'
cell "lease refused" lease off "right: datastore browser" '' '{"kind": "soap", "method": "ExportVm", "fault": "NotSupported"}'
cell "lease refused" lease snap "right: snapshot \"before\"" '' '{"kind": "soap", "method": "ExportVm", "fault": "NotSupported"}'
more "lease refused" lease snap "right: datastore browser" '' '{"kind": "soap", "method": "ExportVm", "fault": "NotSupported"}' \
	'{"kind": "soap", "method": "ExportSnapshot", "fault": "NotSupported"}'
cell "no way at all" lease on "says: datastore browser" 'sourceRecovery: PowerOn' '{"kind": "soap", "method": "ExportVm", "fault": "NotSupported"}' \
	'{"kind": "status", "path": "/folder", "code": 404}'
more "session dropped" lease off right '' '{"kind": "drop", "method": "ExportVm", "count": 1}'
more "503" shutdown on right '' "{$s503, \"method\": \"ShutdownGuest\", \"count\": 1}"
more "503" lease off right '' "{$s503, \"method\": \"ExportVm\", \"count\": 2}"
more "lease expired" lease off right '' '{"kind": "expire", "method": "RetrievePropertiesEx", "skip": 9, "count": 1}'
# The streams.
cell "cut" stream off right '' "{$cut, \"path\": \"/nfc/\", \"afterBytes\": 3000000, \"count\": 2}"
more "cut at 0" stream off right '' "{$cut, \"path\": \"/nfc/\", \"afterBytes\": 0, \"count\": 2}"
more "cut at 70000" stream off right '' "{$cut, \"path\": \"/nfc/\", \"afterBytes\": 70000, \"count\": 2}"
cell "cut always" stream off "right: datastore browser" '' "{$cut, \"path\": \"disk-1\", \"afterBytes\": 70000}"
cell "stall" stream off right '' "{$stall, \"path\": \"/nfc/\", \"afterBytes\": 1000000, \"count\": 2}"
cell "503" stream off right '' "{$s503, \"path\": \"/nfc/\", \"count\": 3}"
cell "corrupt grain" stream off right '' '{"kind": "corrupt", "path": "/nfc/", "grain": 40, "count": 1}'
more "corrupt grain always" stream off "right: datastore browser" '' '{"kind": "corrupt", "path": "disk-0", "grain": 40}'
cell "session dropped" stream off right '' '{"kind": "drop", "path": "/nfc/", "afterBytes": 1000000, "count": 1}'
cell "lease expired" stream off right '' '{"kind": "expire", "path": "/nfc/", "afterBytes": 1000000, "count": 1}'
more "lease expired, more than once" stream off right '' '{"kind": "expire", "path": "/nfc/", "afterBytes": 1000000, "count": 3}'
more "wrong thumbprint, once" stream off right '' '{"kind": "thumbprint", "count": 1}'
cell "wrong thumbprint" stream off "right: certificate 00:00" '' '{"kind": "thumbprint"}'
cell "wrong thumbprint, no way" stream off "says: certificate 00:00" '' '{"kind": "thumbprint"}' '{"kind": "status", "path": "/folder", "code": 404}'
more "404" stream off "right: datastore browser" '' '{"kind": "status", "path": "/nfc/", "code": 404}'
# The end of the lease.
more "lease expired" end off right '' '{"kind": "expire", "method": "HttpNfcLeaseComplete", "count": 1}'
cell "session dropped" end off right '' '{"kind": "drop", "method": "HttpNfcLeaseComplete", "count": 1}'
more "slow" end off right '' '{"kind": "slow", "method": "HttpNfcLeaseComplete", "seconds": 3, "count": 1}'
more "503" end off right '' "{$s503, \"method\": \"HttpNfcLeaseComplete\", \"count\": 1}"
# The other way.
refused='{"kind": "soap", "method": "ExportVm", "fault": "NotSupported"}'
cell "cut" "datastore browser" off "right: datastore browser" '' "$refused" "{$cut, \"path\": \"-flat\", \"afterBytes\": 5000000, \"count\": 3}"
more "stall" "datastore browser" off "right: datastore browser" '' "$refused" "{$stall, \"path\": \"-flat\", \"afterBytes\": 5000000, \"count\": 1}"
more "503" "datastore browser" off "right: datastore browser" '' "$refused" "{$s503, \"path\": \"-flat\", \"count\": 3}"
cell "session dropped" "datastore browser" off "right: datastore browser" '' "$refused" \
	'{"kind": "drop", "path": "-flat", "afterBytes": 1000000, "count": 1}' "{$cut, \"path\": \"-flat\", \"afterBytes\": 2000000, \"count\": 2}"
# A process that is killed, and the next one.
cell "kill -9" shutdown stubborn right 'gracefulShutdownTimeoutSeconds: 3' kill '{"kind": "slow", "method": "PowerOffVM_Task", "seconds": 600}'
more "kill -9" lease off right '' kill '{"kind": "lease", "seconds": 4, "count": 1}'
cell "kill -9" stream off right '' kill '{"kind": "stall", "path": "/nfc/", "afterBytes": 1000000, "seconds": 600, "count": 2}'
more "kill -9" "datastore browser" off "right: datastore browser" '' kill "$refused" \
	'{"kind": "stall", "path": "-flat", "afterBytes": 9000000, "seconds": 600, "skip": 1, "count": 1}' # not the sample's
more "stall" sample off right '' '{"kind": "stall", "path": "-flat", "afterBytes": 10000, "seconds": 60, "count": 1}'
# Each method that an import calls, a fault once that may pass, and the session lost.
once() { # once METHOD MACHINE SPEC [FAULT-JSON...]
	local method=$1 machine=$2 spec=$3
	shift 3
	more "SystemError once" "$method" "$machine" right "$spec" "{\"kind\": \"soap\", \"method\": \"$method\", \"fault\": \"SystemError\", \"count\": 1}" "$@"
	more "NotAuthenticated" "$method" "$machine" right "$spec" "{\"kind\": \"soap\", \"method\": \"$method\", \"fault\": \"NotAuthenticated\", \"count\": 1}" "$@"
}
cell "SystemError once" "every method" on right '' '{"kind": "soap", "method": "Login", "fault": "SystemError", "count": 1}' \
	'{"kind": "soap", "method": "RetrievePropertiesEx", "fault": "SystemError", "skip": 4, "count": 1}' \
	'{"kind": "soap", "method": "ShutdownGuest", "fault": "SystemError", "count": 1}' \
	'{"kind": "soap", "method": "ExportVm", "fault": "SystemError", "count": 1}' \
	'{"kind": "soap", "method": "HttpNfcLeaseProgress", "fault": "SystemError", "count": 1}' \
	'{"kind": "soap", "method": "HttpNfcLeaseComplete", "fault": "SystemError", "count": 1}'
for method in RetrieveServiceContent Login ExportVm HttpNfcLeaseProgress HttpNfcLeaseComplete; do once $method off ''; done
for skip in 0 1 2 4 6 8 10 12; do
	for f in SystemError NotAuthenticated; do
		more "$f" "RetrievePropertiesEx $skip" off right '' "{\"kind\": \"soap\", \"method\": \"RetrievePropertiesEx\", \"fault\": \"$f\", \"skip\": $skip, \"count\": 1}"
	done
done
once ShutdownGuest on ''
once PowerOffVM_Task on 'forcePowerOff: true'
once QueryChangedDiskAreas snap '' "$refused"
once ExportSnapshot snap '' "$refused"
once HttpNfcLeaseAbort off '' '{"kind": "soap", "method": "HttpNfcLeaseComplete", "fault": "SystemError"}'
more "SystemError once" PowerOnVM_Task on "says: datastore browser" 'sourceRecovery: PowerOn' "$refused" '{"kind": "status", "path": "/folder", "code": 404}' \
	'{"kind": "soap", "method": "PowerOnVM_Task", "fault": "SystemError", "count": 1}'

# --- running them ----------------------------------------------------------------------------------------------------------

used=0
open_leases() { [ "$(admin_state '.openLeases | length')" -gt 0 ]; }
stage_reached() { # stage_reached STAGE OBJECT: for the kill
	case $1 in
	shutdown) grep -q VMShutdownGuest "$2" ;;
	lease) open_leases ;;
	*) [ "$(curl -fsS "$VSPHERE_ADMIN_URL/faults" | jq '[.[] | select(.kind == "stall") | .hits] | add')" -gt 0 ] ;;
	esac
}
run_import() { timeout 300 "$VIC" import -q -f "$here/manifests.yaml" -o "$here/out" >"$here/printed" 2>"$here/said"; }
run_killed() { # run_killed STAGE
	local pid
	"$VIC" import -q -f "$here/manifests.yaml" -o "$here/out" >/dev/null 2>&1 &
	pid=$!
	for _ in $(seq 600); do
		stage_reached "$1" "$here/out/objects/virtualmachineimport-default-m.yaml" 2>/dev/null && break
		sleep 0.1
	done
	sleep 0.3 # all of the stages above last: this is for another moment of them
	kill -KILL $pid
	wait $pid 2>/dev/null || true
	faults_clear
}
judge() { # judge STATUS MACHINE OUTCOME POWER KILLED: prints what is wrong
	local i n object=$here/out/objects/virtualmachineimport-default-m.yaml part=${3#*: } hits
	hits=$(curl -fsS "$VSPHERE_ADMIN_URL/faults" | jq '[.[].hits] | (length == 0) or any(. > 0)')
	[ "$hits" = true ] || [ "$5" = yes ] || echo "the fault was not met"
	faults_clear
	case $3 in
	right*)
		[ "$1" = 0 ] || echo "exit status $1: $(tail -n 1 "$here/said")"
		n=$(vm_state "$2" '.Disks | length')
		for ((i = 0; i < n; i++)); do
			cmp -s "$here/out/$2/disk-$i.raw" "$(vm_state "$2" ".Disks[$i].Source")" || echo "disk $i is not the source's"
		done
		[ "$3" = right ] || grep -qF "$part" <(tr -s '\n ' ' ' <"$object") || echo "\"$part\" is not said: $(grep -h 'message' "$object")"
		;;
	says*)
		[ "$1" = 1 ] || echo "exit status $1, wanted 1"
		grep -qF "$part" "$here/said" || echo "\"$part\" is not in \"$(tail -n 1 "$here/said")\""
		;;
	esac
	[ -z "$4" ] || [ "$(vm_state "$2" .Power)" = "$4" ] || echo "the machine is $(vm_state "$2" .Power)"
	for _ in $(seq 600); do
		[ "$(admin_state '(.openLeases | length) + (.openSessions | length) + .snapshots')" != 1 ] || break
		sleep 0.1
	done
	[ "$(admin_state '(.openLeases | length) + (.openSessions | length) + .snapshots')" = 1 ] ||
		echo "left at the source: $(admin_state -c '[.openLeases, .openSessions, .snapshots]')"
}
run_cell() { # run_cell NUMBER FAULT STAGE MACHINE OUTCOME SPEC FAULT-JSON...
	local number=$1 name=$2 stage=$3 machine=$4 outcome=$5 spec=$6 status=0 start wrong power='' killed=no f
	shift 6
	if [ "$machine" != off ] && [ "$machine" != snap ]; then
		machine=$machine-$used
		used=$((used + 1))
	fi
	rm -rf "$here/out"
	{ source_manifest; import_manifest default m "$machine" ${spec:+"$spec"}; } >"$here/manifests.yaml"
	for f; do [ "$f" = kill ] || fault "$f"; done
	start=$(date +%s%N)
	if [ "${1:-}" = kill ]; then
		killed=yes
		run_killed "$stage"
		[ "$outcome" = right ] || for f; do [[ $f == kill || $f == *stall* ]] || fault "$f"; done
	fi
	run_import || status=$?
	[[ $spec != *PowerOn* ]] || power=poweredOn
	wrong=$(judge $status "$machine" "$outcome" "$power" $killed)
	printf '%-30s %-22s %-24s %6.1f s  %s\n' "$name" "$stage" "${outcome%%:*}${outcome#"${outcome%%:*}"}" \
		"$((($(date +%s%N) - start) / 1000000))e-3" "${wrong:-ok}" >"$rows/$number"
	[ -n "$wrong" ] || return 0
	{ echo "--- $name at $stage"; cat "$here/said"; } >>"$WORK/wrong"
	mv "$here/out" "$here/failed-$number"
	curl -fsS -X POST "$VSPHERE_ADMIN_URL/sessions/drop" >/dev/null # the next one begins with nothing
}
run_shard() { # run_shard SHARD: every so many-th cell
	local i here=$WORK/shard$1 fields
	mkdir "$here"
	eval "$(<"$WORK/vsphere$1/env")"
	for ((i = $1; i < ${#cells[@]}; i += shards)); do
		IFS=$'\x1f' read -r -d '' -a fields <<<"${cells[i]}"$'\x1f' || true
		unset 'fields[-1]'
		run_cell "$(printf %03d "$i")" "${fields[@]}"
	done
}

for ((shard = 0; shard < shards; shard++)); do start_vsphere "$WORK/inventory.json" vsphere$shard; done
pids=()
for ((shard = 0; shard < shards; shard++)); do
	(trap - EXIT ERR; run_shard $shard) &
	pids+=($!)
done
background+=("${pids[@]}")
broken=0
for pid in "${pids[@]}"; do wait "$pid" || broken=1; done

printf '%-30s %-22s %-24s %8s  %s\n' FAULT STAGE EXPECTED TIME RESULT
cat "$rows"/*
note "${#cells[@]} cells"
[ ! -e "$WORK/wrong" ] || cat "$WORK/wrong" >&2
[ $broken = 0 ] || fail "a part of the cells did not run"
assert_eq "rows" "$(cat "$rows"/* | wc -l)" "${#cells[@]}"
[ "$(grep -vc '  ok$' <(cat "$rows"/*) || true)" = 0 ] || fail "not all ended right"
