#!/bin/bash
# The VMware source by itself: trust and login, what it finds and how it tells it, power, exports that end well, are cut, cancelled, left behind.
# needs: vsphere
# timeout: 600
. "$(dirname "$0")/lib.sh"

VMWARE_PROBE=${VMWARE_PROBE:-$SOURCE_DIR/build/dev/test/integration/vmware_probe}
[ -x "$VMWARE_PROBE" ] || fail "there is no program $VMWARE_PROBE"
declare -A probe_in probe_out probe_pid
ANSWER=''

# open_probe NAME DATACENTER [SECRET]: logs in; ANSWER is ok or the error
open_probe() {
	local fd
	rm -f "$WORK/$1.in" "$WORK/$1.out"
	mkfifo "$WORK/$1.in" "$WORK/$1.out"
	VSPHERE_DC=$2 SECRET=${3:-$(secret)} "$VMWARE_PROBE" <"$WORK/$1.in" >"$WORK/$1.out" 2>"$WORK/$1.err" &
	probe_pid[$1]=$!
	exec {fd}>"$WORK/$1.in"
	probe_in[$1]=$fd
	exec {fd}<"$WORK/$1.out"
	probe_out[$1]=$fd
	read_answer "$1"
}
read_answer() {
	local line
	ANSWER=''
	while :; do
		read -r -t 180 -u "${probe_out[$1]}" line || fail "the probe $1 gave no answer: $(tail -n 40 "$WORK/$1.err")"
		ANSWER+=${ANSWER:+$'\n'}$line
		[[ $line != ok && $line != "error "* ]] || break
	done
}
ask() { # ask NAME WORD...: ANSWER are the lines of its answer
	local name=$1
	shift
	(IFS=$'\t'; echo "$*") >&"${probe_in[$name]}"
	read_answer "$name"
}
ok() { # ok NAME WORD...: that must go well
	ask "$@"
	[[ $ANSWER == *ok ]] || fail "$*: $ANSWER"
}
says() { # says PART... -- NAME WORD...: that must fail, and say so
	local parts=()
	while [ "$1" != -- ]; do parts+=("$1"); shift; done
	shift
	ask "$@"
	said "$*" "${parts[@]}"
}
said() { # said WHAT PART...
	local what=$1 part
	shift
	[[ $ANSWER == *"error "* ]] || fail "$what went well: $ANSWER"
	for part in "$@"; do assert_contains "$what" "$ANSWER" "$part"; done
	note "${ANSWER##*$'\n'}"
}
close_probe() { # it must end by itself, without a leak
	local fd=${probe_in[$1]} pid=${probe_pid[$1]}
	exec {fd}>&-
	wait "$pid" || [ "${2:-0}" != 0 ] || fail "the probe $1 ended with status $?: $(tail -n 40 "$WORK/$1.err")"
	fd=${probe_out[$1]}
	exec {fd}<&-
}
secret() { # secret [JQ-EXPRESSION]: what the Secret holds, changed by it
	jq -cn --arg u "$VSPHERE_USER" --arg p "$VSPHERE_PASSWORD" --rawfile ca "$VSPHERE_CA" '{username: $u, password: $p, caCert: $ca}'" | ${1:-.}"
}
login_says() { # login_says SECRET-EXPRESSION PART...
	local expression=$1
	shift
	open_probe login DC1 "$(secret "$expression")"
	if [ $# = 0 ]; then
		assert_eq "login with $expression" "$ANSWER" ok
	else
		said "login with $expression" "$@"
		[[ $ANSWER != *"$VSPHERE_PASSWORD"* ]] || fail "the message tells the password: $ANSWER"
	fi
	close_probe login 1
}
field() { # field NAME VM JQ-EXPRESSION [FOLDER]: of what describe tells
	ok "$1" describe "$2" ${4:+"$4"}
	jq -rc "$3" <<<"${ANSWER%$'\n'ok}"
}
check() { # check VM JQ-EXPRESSION WANTED [FOLDER]
	assert_eq "$2 of $1" "$(field main "$1" "$2" "${4:-}")" "$3"
}
ends() { admin_state ".leases.$1"; }

start_vsphere
note "--- trust and login"
login_says .
login_says 'del(.caCert) | .thumbprint = "'"$VSPHERE_THUMBPRINT"'"'
login_says 'del(.caCert) | .thumbprint = "'"$(openssl x509 -in "$VSPHERE_CA" -noout -fingerprint -sha256 | sed 's/.*=//')"'"'
login_says 'del(.caCert) | .insecure = "true"'
# Without a word in the Secret: the first certificate is kept, another one is refused with both told.
sha256=$(openssl x509 -in "$VSPHERE_CA" -noout -fingerprint -sha256 | sed 's/.*=//') other=${VSPHERE_THUMBPRINT//[0-8]/9}:$(printf '00:%.0s' {1..11})00
open_probe first DC1 "$(secret 'del(.caCert)')"
assert_eq "login at first use" "$ANSWER" ok
ok first certificate
assert_contains "what is pinned" "$ANSWER" "certificate $sha256"
close_probe first
VSPHERE_PIN=$sha256 login_says 'del(.caCert)'
VSPHERE_PIN=$other login_says 'del(.caCert)' "Permanent TLSFailed" "pinned on first use" "$other" "$sha256" "vsphere test peer" caCert thumbprint
VSPHERE_PIN=$other login_says . # the Secret counts
login_says 'del(.caCert) | .thumbprint = "'"${VSPHERE_THUMBPRINT//[0-8]/9}"'"' "Permanent TLSFailed" fingerprint "$VSPHERE_THUMBPRINT"
login_says 'del(.caCert) | .thumbprint = "AB:CD"' "Permanent InvalidFingerprint" "key thumbprint of the Secret"
login_says '.caCert = "nonsense"' "Permanent InvalidCertificate" "key caCert of the Secret"
login_says '.password = "nonsense"' "Permanent InvalidLogin" "$VSPHERE_USER" "Secret"
login_says '.username = "a<b>&\"c"' "Permanent InvalidLogin" 'a<b>&"c'
login_says 'del(.password)' "Permanent SecretKeyMissing" 'no key "password"'
login_says '.username = ""' "Permanent SecretKeyMissing" 'no key "username"'
sdk=$VSPHERE_URL
VSPHERE_URL=https://127.0.0.1:$(free_port)/sdk login_says . "Transient ConnectionFailed" "cannot connect to 127.0.0.1:" ": Connection refused"
VSPHERE_URL=vcenter.example.com login_says . "Permanent InvalidEndpoint" "https://vcenter.example.com/sdk"
VSPHERE_URL=${sdk%/sdk} login_says .
VSPHERE_URL=${sdk%/sdk}/sdk/ login_says .
VSPHERE_URL=${sdk/:\/\//:\/\/me:secret@} login_says .
VSPHERE_URL=${sdk%/sdk}/nowhere login_says . "Permanent HTTPStatus" "/nowhere" "spec.endpoint"
fault '{"kind": "status", "path": "/sdk", "code": 503, "seconds": 30}'
login_says . "Transient HTTPStatus" 503
faults_clear
assert_source_clean

note "--- what is found"
open_probe main DC9
assert_eq "login" "$ANSWER" ok
says "Permanent DatacenterNotFound" "no datacenter DC9" "/DC1" "/Branch Offices/DC2" "spec.dc" -- main verify
close_probe main
for dc in DC2 "Branch Offices/DC2" "/Branch Offices/DC2" "/Branch Offices/DC2/"; do
	open_probe main "$dc"
	ok main verify
	check web-off .path "/Branch Offices/DC2/vm/web-off"
	close_probe main
done
open_probe main DC1
ok main verify
check web-off '[.vcpus, .coresPerSocket, .memory / 1048576, .guestOs, .power, .efi, .tpm]' '[4,2,2048,"debian12_64Guest",1,false,false]'
check web-off '[.disks[] | .capacity / 1048576, .bootOrder]' '[256,1,64,2]'
check web-off '[.nics[] | [.network, .mac, .model]]' '[["VM Network","00:50:56:aa:00:01","vmxnet3"],["dvs-prod","00:50:56:aa:00:02","e1000"]]'
check web-on '[.power, .guestTools, (.disks | length)]' '[2,true,2]'
check no-tools '[.power, .guestTools]' '[2,false]'
windows="Windows Server 2022 (EFI)"
check "$windows" '[.efi, .secureBoot, .tpm, .nics[0].network, .nics[0].model]' '[true,true,true,"nsx-seg","e1000e"]'
check "$windows" .description "$(printf 'Zeile eins\nline two <&> "quoted" ünïcode')"
check "$windows" .path "/DC1/vm/Windows/Secure/$windows" "Windows/Secure"
check "Every Controller" '[.disks[] | .id | split(" ")[1]]' \
	'["VirtualIDEController0:0","VirtualAHCIController0:0","VirtualLsiLogicSASController0:0","ParaVirtualSCSIController1:0","VirtualNVMEController0:0","VirtualUSBController0:0"]'
check "Every Controller" '[.nics[].model]' '["e1000","e1000e","vmxnet2","vmxnet3","pcnet32"]'
check "MÜLLER_DB 本番 #1" .path "/DC1/vm/Odd/Ünïcode ファイル/MÜLLER_DB 本番 #1"
check "$(admin_state '[.vms[].Path | select(contains("/long-"))][0] | split("/")[-1]')" '.disks | length' 1
says "Permanent VirtualMachineAmbiguous" "/DC1/vm/A/twin" "/DC1/vm/B/twin" "spec.folder" -- main describe twin
for folder in B B/ /B /DC1/vm/B; do check twin .path /DC1/vm/B/twin "$folder"; done
check B/twin .path /DC1/vm/B/twin
says "NotFound VirtualMachineNotFound" "folder C of /DC1" -- main describe twin C
says "NotFound VirtualMachineNotFound" "nobody" "/DC1" -- main describe nobody
# A folder below is another folder.
says "NotFound VirtualMachineNotFound" "folder Windows" -- main describe "$windows" Windows
check "$(vm_state web-on .Ref)" .name web-on
for vm in no-disks never-stops; do ok main preflight "$vm"; done
ok main preflight no-disks
assert_contains "preflight" "$ANSWER" "/DC1/vm/no-disks has no disks"
ok main preflight web-off
assert_eq "preflight of web-off" "$ANSWER" ok

note "--- a session that is lost"
curl -fsS -X POST "$VSPHERE_ADMIN_URL/sessions/drop" >/dev/null
check web-off .name web-off
assert_eq "sessions" "$(admin_state '.openSessions | length')" 1
fault '{"kind": "soap", "method": "RetrievePropertiesEx", "fault": "NotAuthenticated", "skip": 1, "count": 1}'
check with-snapshots .name with-snapshots
faults_clear

note "--- power"
ok main watch never-stops 300
assert_contains "patience" "$ANSWER" "state on"
# Two who wait at once, one of them through a session that is lost.
ok main watch never-stops 600000 leave
ok main shutdown web-on
assert_contains "shutdown" "$ANSWER" "state off"
ok main off web-on
ok main on web-on
ok main ask web-on
curl -fsS -X POST "$VSPHERE_ADMIN_URL/sessions/drop" >/dev/null
ok main watch web-on 600000
assert_contains "what was waited for" "$ANSWER" "state off"
says "Permanent ToolsUnavailable" "spec.forcePowerOff" -- main shutdown no-tools
ok main off no-tools
ok main state no-tools
assert_contains "power" "$ANSWER" "state off"
ok main on no-tools
ok main on no-tools
ok main state no-tools
assert_contains "power" "$ANSWER" "state on"
fault '{"kind": "soap", "method": "PowerOffVM_Task", "fault": "NoPermission", "count": 1}'
says "Permanent NoPermission" -- main off no-tools

note "--- exports"
export_vm() { # export_vm VM [FOLDER/]: the copies must be what the source has
	local i dir=$WORK/export n
	rm -rf "$dir" && mkdir "$dir"
	ok main export "$1" "$dir"
	n=$(vm_state "DC1/vm/${2:-}$1" '.Disks | length')
	for ((i = 0; i < n; i++)); do assert_same "$dir/$i.raw" "$(vm_state "DC1/vm/${2:-}$1" ".Disks[$i].Source")"; done
	note "$1: $n disks"
}
for vm in web-off web-on with-snapshots; do export_vm "$vm"; done
export_vm "$windows" Windows/Secure/
export_vm "MÜLLER_DB 本番 #1" "Odd/Ünïcode ファイル/"
export_vm "Every Controller" Odd/
assert_contains "ledger" "$ANSWER" "ledger + ExportLease session["
assert_contains "ledger" "$ANSWER" "ledger - ExportLease session["
assert_eq "leases that were completed" "$(ends completed)" 6
assert_eq "open leases" "$(admin_state '.openLeases | length')" 0
says "Transient NotPoweredOff" -- main hold never-stops

mkdir -p "$WORK/export"
fault '{"kind": "slow", "method": "HttpNfcLeaseProgress", "seconds": 20}'
says "Cancelled" "stopped after less than 10 s" -- main export web-off "$WORK/export" cancel
faults_clear
fault '{"kind": "cut", "path": "disk-1", "afterBytes": 100000}'
says "Transient ConnectionLost" -- main export web-off "$WORK/export"
faults_clear
fault '{"kind": "status", "path": "/nfc/", "code": 404, "seconds": 30}'
says "Transient HTTPStatus" "404" "web-off" -- main export web-off "$WORK/export"
faults_clear
assert_eq "leases that were aborted" "$(ends aborted)" 3
# What ends a lease is tried again.
fault '{"kind": "soap", "method": "HttpNfcLeaseComplete", "fault": "SystemError", "count": 1}'
ok main export web-off "$WORK/export"
faults_clear
assert_eq "open leases" "$(admin_state '.openLeases | length')" 0

note "--- a lease that dies, and one that is left behind"
ok main hold web-off
curl -fsS -X POST "$VSPHERE_ADMIN_URL/sessions/drop" >/dev/null
ok main abort
ok main hold web-off
curl -fsS -X POST "$VSPHERE_ADMIN_URL/leases/expire" >/dev/null
ok main abort
open_probe second DC1
ok second hold web-off
entry=$(sed -n 's/^ledger + ExportLease //p' <<<"$ANSWER")
kill -KILL "${probe_pid[second]}"
close_probe second 1 2>/dev/null
says "Transient ExportBusy" "web-off" "lease" -- main export web-off "$WORK/export"
fault '{"kind": "soap", "method": "TerminateSession", "fault": "NoPermission"}'
ask main cleanup "$entry" # what it says depends on what tasks the source shows
faults_clear
assert_eq "open leases" "$(admin_state '.openLeases | length')" 1
ok main cleanup "$entry"
ok main cleanup "$entry"
ok main cleanup nonsense
ok main cleanup "session[of-nobody]vm-1"
assert_eq "open leases" "$(admin_state '.openLeases | length')" 0
ok main export web-off "$WORK/export"
# Our own session is not ended.
ok main hold web-off
ok main cleanup "$(sed -n 's/^ledger + ExportLease //p' <<<"$ANSWER")"
ok main release
close_probe main
assert_source_clean
stop_vsphere

note "--- leases that must be kept alive, URLs with a star, pages"
jq '.lease = {initSeconds: 0.2, timeoutSeconds: 5, star: true} | .nfc.streamMBps = 12 | .sessionIdleSeconds = 3
	| .datacenters[0].hosts = [] | .datacenters[0].vms |= map(select(.name == "web-off") | del(.host))
	| .datacenters = .datacenters[:1] | .model = {Datacenters: 1, Hosts: 1, Machines: 1010}' "$PEERS/vsphere/inventory.json" >"$WORK/slow.json"
start_vsphere "$WORK/slow.json" slow
open_probe main DC1
export_vm web-off
assert_eq "completed" "$(ends completed) $(ends expired)" "1 0"
sleep 4 # the session idles out
check web-off .name web-off
close_probe main
open_probe main DC0
ok main verify
fault '{"kind": "soap", "method": "ContinueRetrievePropertiesEx", "fault": "NotAuthenticated", "count": 1}'
says "NotFound VirtualMachineNotFound" -- main describe nobody
assert_eq "the fault's hits" "$(curl -fsS "$VSPHERE_ADMIN_URL/faults" | jq '.[0].hits')" 1
faults_clear
ok main describe DC0_H0_VM1009
close_probe main
assert_source_clean
stop_vsphere slow

note "--- one ESXi host of an older version: one datacenter, plain numbers as ids"
jq '.api = {version: "6.5.0", apiVersion: "6.5", esxi: true} | .denied = ["VApp.Export", "VirtualMachine.Interact.PowerOff"] | .datacenters = [.datacenters[0] | .hosts = [{name: "localhost.localdomain"}] | .datastores = ["datastore1"] | .networks = []
	| .vms = [{name: "web-on", power: "on", nics: [{network: "VM Network"}], disks: [{capacityMB: 16, fill: {seed: 1, percent: 50}}]}]]' \
	"$PEERS/vsphere/inventory.json" >"$WORK/esxi.json"
start_vsphere "$WORK/esxi.json" esxi
for dc in '' ha-datacenter; do
	open_probe main "$dc"
	assert_eq "login at an ESXi host" "$ANSWER" ok
	ok main verify
	check web-on '[.path, .nics[0].network]' '["/ha-datacenter/vm/web-on","VM Network"]'
	close_probe main
done
open_probe main ''
check "$(vm_state web-on .Ref)" .name web-on
ok main preflight web-on
for privilege in VApp.Export VirtualMachine.Interact.PowerOff; do
	assert_contains "what the user may not do" "$ANSWER" "problem the user lacks the privilege $privilege on /ha-datacenter/vm/web-on; give it"
done
ok main shutdown web-on
ok main off web-on
ok main export web-on "$WORK/export"
assert_same "$WORK/export/0.raw" "$(vm_state web-on '.Disks[0].Source')"
close_probe main
assert_source_clean
