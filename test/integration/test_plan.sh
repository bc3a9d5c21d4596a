#!/bin/bash
# The plan command: the checks of an import, all problems at once and an estimate, and nothing is touched.
# needs: vsphere
# timeout: 600
. "$(dirname "$0")/lib.sh"

mkdir "$WORK/temporary"
export TMPDIR=$WORK/temporary # what others who run beside have there is none of ours
start_vsphere
{
	source_manifest
	import_manifest default good web-off
	import_manifest default running web-on 'networkMapping:' '- {sourceNetwork: VM Network, destinationNetwork: default/lan}'
	import_manifest default bad no-tools 'targetVirtualMachineName: "Not A Label"' 'networkMapping:' \
		'- {sourceNetwork: Nowhere LAN, destinationNetwork: lan}' '- {sourceNetwork: VM Network, destinationNetwork: lan}' \
		'- {sourceNetwork: VM Network, destinationNetwork: lan}'
	import_manifest default twin twin
	SOURCE_NAME=none import_manifest default nowhere web-off 'targetVirtualMachineName: nowhere'
	source_manifest default wrong | sed 's/password: .*/password: nonsense/'
	SOURCE_NAME=wrong import_manifest default refused web-off 'targetVirtualMachineName: refused'
} >"$WORK/plan.yaml"
plan() { "$VIC" plan -f "$WORK/plan.yaml" "$@" >"$WORK/plan" 2>"$WORK/err"; }
of() { jq -r --arg n "$1" ".imports[] | select(.name == \$n) | $2" "$WORK/plan"; }
problems_have() { # problems_have IMPORT COUNT PART...
	local name=$1 count=$2 part
	shift 2
	assert_eq "problems of $name" "$(of "$name" '.problems | length')" "$count"
	for part in "$@"; do assert_contains "problems of $name" "$(of "$name" '.problems | join("; ")')" "$part"; done
}
state() { admin_state -S '[.leases, .openLeases, .openSessions, .snapshots, (.vms | map([.Path, .Power, .Snapshots]) | sort)]'; }

before=$(state)
assert_fails 3 plan -o json
assert_eq "what the source is like" "$(state)" "$before"
assert_eq "calls that change something" \
	"$(admin_state '.calls | keys - ["Login", "Logout", "RetrieveServiceContent", "RetrievePropertiesEx", "ContinueRetrievePropertiesEx", "WaitForUpdatesEx", "HasPrivilegeOnEntities", "FindByUuid", "FindAllByUuid", "CreateContainerView", "DestroyView", "CreateFilter", "CreatePropertyCollector", "DestroyPropertyCollector", "DestroyPropertyFilter"] | join(" ")')" ""
problems_have good 0
assert_eq "bytes of good" "$(of good .bytes)" "$(($(vm_state /DC1/vm/web-off '.Disks[].Source' | xargs stat -c '%b * 512 +' | tr '\n' ' ') 0))"
[ "$(of good '.bytesPerSecond > 1000 and .seconds >= 1')" = true ] || fail "no estimate: $(cat "$WORK/plan")"
problems_have running 0
assert_eq "machine of running" "$(of running '[.machine, .power, (.disks | length), .networks[0].network, .target] | join(" ")')" "/DC1/vm/web-on on 2 VM Network web-on"
problems_have bad 4 "no DNS-1123 label" "VMware Tools" '"Nowhere LAN"' '"VM Network" twice'
problems_have twin 1 "/DC1/vm/A/twin" "/DC1/vm/B/twin"
problems_have nowhere 1 "no VmwareSource default/none"
problems_have refused 1 "refused the login"
assert_eq "failing" "$(jq -r '"\(.failing) \(.imports | length) \(.targetChecked)"' "$WORK/plan")" "4 6 false"
! grep -q "$VSPHERE_PASSWORD" "$WORK/plan" "$WORK/err" || fail "it tells the password"

assert_fails 3 plan
cat "$WORK/plan"
grep -Eq '^default/good +/DC1/vm/web-off +off +2 +117 MiB +[0-9]+ s +ok$' "$WORK/plan" || fail "the table has no such row"
grep -Eq '^default/bad +/DC1/vm/no-tools +on .* 4 problems$' "$WORK/plan" || fail "the table has no such row"
grep -q '^4 of 6 imports would fail' "$WORK/plan" || fail "no last line"
plan --vm good || fail "exit status $? of a plan without problems"
# No room for the disks; nothing that can be read of a machine that is on, and no rate of another.
mkdir "$WORK/small"
mount -t tmpfs -o size=1m none "$WORK/small" && {
	assert_fails 3 plan --vm good --scratch "$WORK/small" -o json
	umount "$WORK/small"
	problems_have good 1 "are missing"
}
plan --vm running
assert_contains "what becomes of a machine that runs" "$(cat "$WORK/plan")" "1 of the machines is on: an import shuts a machine down"
plan --vm good
! grep -q "shuts a machine down" "$WORK/plan" || fail "it is off"
plan --vm running -o json
assert_contains "why there is no estimate" "$(of running .noSample)" "is not off"
assert_eq "seconds without a sample" "$(of running .seconds)" null

assert_fails 1 plan --vm nobody
assert_contains "what is wrong" "$(cat "$WORK/err")" "named nobody"
assert_fails 2 plan -o yaml
assert_fails 2 "$VIC" plan 2>/dev/null
assert_fails 1 "$VIC" plan -f "$WORK/not-there.yaml" 2>/dev/null
# What kubectl would refuse is refused here, too: all of it, and before anything is asked for.
import_manifest default mistaken web-off 'networkMappings: []' 'defaultDiskBusType: nvme' >"$WORK/mistaken.yaml"
assert_fails 1 "$VIC" plan -f "$WORK/mistaken.yaml" 2>"$WORK/err"
assert_contains "what a field is called" "$(cat "$WORK/err")" "spec.networkMappings is not known (is it networkMapping?)"
assert_contains "what a field takes" "$(cat "$WORK/err")" 'spec.defaultDiskBusType is "nvme", not one of virtio'
assert_fails 1 "$VIC" import -f "$WORK/mistaken.yaml" -o "$WORK/mistaken" 2>/dev/null
# A source that does not answer is a problem, and a signal ends the waiting.
fault '{"kind": "slow", "method": "RetrieveServiceContent", "seconds": 50}'
"$VIC" plan -f "$WORK/plan.yaml" --vm good >/dev/null 2>&1 &
pid=$!
background+=($pid)
called() { [ "$(curl -fsS "$VSPHERE_ADMIN_URL/faults" | jq '.[0].hits')" -ge 1 ]; }
wait_for 30 called
kill -INT $pid
assert_fails 130 wait $pid
faults_clear
assert_source_clean
assert_eq "files left" "$(find "$TMPDIR" -name 'vm-import-plan.*')" ""
