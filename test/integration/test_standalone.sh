#!/bin/bash
# The import command: the same job without a cluster. What it leaves, its exit codes, and that a second call goes on.
# needs: vsphere
# timeout: 600
. "$(dirname "$0")/lib.sh"

jq '.lease.initSeconds = 0.1 | .nfc.streamMBps = 40' "$PEERS/vsphere/inventory.json" >"$WORK/inventory.json"
start_vsphere "$WORK/inventory.json"
out=$WORK/out
run() { "$VIC" import "$@" 2>"$WORK/err" >"$WORK/printed"; }

{ source_manifest; import_manifest default web web-off; import_manifest default odd "Every Controller" 'folder: Odd'; } >"$WORK/two.yaml"
"$VIC" import -f "$WORK/two.yaml" -o "$out" 2>"$WORK/err" >"$WORK/printed" &
pid=$!
background+=($pid)
peak=$(peak_of $pid)
wait $pid || fail "the import failed: $(<"$WORK/err")"
assert_peak "eight disks at once" "$peak" 48
assert_contains "what it prints" "$(cat "$WORK/err")" "virtualMachineRunning"
[[ $(cat "$WORK/err") != *$'\033'* ]] || fail "escape sequences although it is no terminal"
for i in 0 1; do
	assert_same "$out/web-off/disk-$i.raw" "$(vm_state /DC1/vm/web-off ".Disks[$i].Source")"
	assert_contains "digests" "$(cat "$WORK/printed")" "$out/web-off/disk-$i.raw"
done
for i in $(seq 0 5); do assert_same "$out/every-controller/disk-$i.raw" "$(vm_state "Every Controller" ".Disks[$i].Source")"; done
assert_eq "kinds of what is left" "$(grep -h '^kind:' "$out"/web-off/virtualmachine.yaml "$out"/objects/virtualmachineimport-default-web.yaml | tr '\n' ' ')" \
	"kind: VirtualMachine kind: VirtualMachineImport "
grep -q 'importStatus: virtualMachineRunning' "$out/objects/virtualmachineimport-default-web.yaml" || fail "no status in the object"
! grep -rq "$VSPHERE_PASSWORD" "$out" || fail "the password is in the output directory"
assert_source_clean
note "two machines imported"

# Done is done: a second call fetches nothing.
served=$(admin_state .bytesServed)
run -f "$WORK/two.yaml" -o "$out"
assert_eq "bytes served by a second call" "$(admin_state .bytesServed)" "$served"

# Interrupted, and gone on with.
stop_vsphere
start_vsphere "$WORK/inventory.json"
hold() { fault '{"kind": "stall", "path": "disk-0", "afterBytes": 60000000, "seconds": 3600}'; } # the first disk stops in its middle
hold
{ source_manifest; import_manifest default slow web-off; } >"$WORK/slow.yaml"
"$VIC" import -f "$WORK/slow.yaml" -o "$WORK/slow" 2>"$WORK/err" &
pid=$!
background+=($pid)
one_done() { [ -e "$WORK/slow/web-off/.disk-1.raw.journal" ]; }
wait_for 60 one_done
kill -INT $pid
faults_clear
assert_fails 130 wait $pid
assert_contains "what an interrupted call prints" "$(cat "$WORK/err")" "goes on where it was"
assert_source_clean
served=$(admin_state .bytesServed)
run -f "$WORK/slow.yaml" -o "$WORK/slow"
for i in 0 1; do assert_same "$WORK/slow/web-off/disk-$i.raw" "$(vm_state /DC1/vm/web-off ".Disks[$i].Source")"; done
again=$(($(admin_state .bytesServed) - served))
small=$(du -B1 "$WORK/slow/web-off/disk-1.raw" | cut -f1)
large=$(du -B1 "$WORK/slow/web-off/disk-0.raw" | cut -f1)
note "the second call fetched $again bytes for disks of $large and $small"
[ $again -lt $((large + small / 2)) ] || fail "a finished disk was fetched again"
assert_source_clean

# What is wrong is said in one sentence, with exit code 1.
fails() { # fails PART ARGUMENT...
	local part=$1
	shift
	assert_fails 1 run "$@"
	assert_contains "the reason" "$(cat "$WORK/err")" "$part"
	note "$(tail -n 1 "$WORK/err")"
}
{ source_manifest | sed 's/password: .*/password: wrong/'; import_manifest default web web-off; } >"$WORK/wrong.yaml"
fails "refused the login" -f "$WORK/wrong.yaml" -o "$WORK/wrong"
{ source_manifest; import_manifest default web nobody; } >"$WORK/nobody.yaml"
fails "no virtual machine nobody" -f "$WORK/nobody.yaml" -o "$WORK/nobody"
import_manifest default web web-off >"$WORK/alone.yaml"
fails "no VmwareSource default/vcenter" -f "$WORK/alone.yaml" -o "$WORK/alone"
fails "No such file" -f "$WORK/not-there.yaml" -o "$WORK/x"
printf 'a: [1, 2\nb: 3\n' >"$WORK/broken.yaml"
fails "broken.yaml, line 2" -f "$WORK/broken.yaml" -o "$WORK/x"
# The mended manifest on the same directory starts anew.
{ source_manifest; import_manifest default web no-tools 'forcePowerOff: true'; } >"$WORK/nobody.yaml"
run -f "$WORK/nobody.yaml" -o "$WORK/nobody"

# A directory is one import's, and what lies in it is believed only of the machine it is of.
twin() { vm_state "/DC1/vm/$1/twin" ".Disks[0].Source"; }
{ source_manifest; import_manifest default a twin 'folder: A' 'targetVirtualMachineName: app'; } >"$WORK/a.yaml"
{ source_manifest; import_manifest default b twin 'folder: B' 'targetVirtualMachineName: app'; } >"$WORK/b.yaml"
run -f "$WORK/a.yaml" -o "$WORK/app"
assert_same "$WORK/app/app/disk-0.raw" "$(twin A)"
fails "app/app belongs to the import default/a; choose another -o" -f "$WORK/b.yaml" -o "$WORK/app"
assert_same "$WORK/app/app/disk-0.raw" "$(twin A)"
rm -r "$WORK/app/objects"
sed -i 's/folder: A/folder: B/' "$WORK/a.yaml"
run -f "$WORK/a.yaml" -o "$WORK/app" || fail "$(<"$WORK/err")"
assert_same "$WORK/app/app/disk-0.raw" "$(twin B)"

# Done is believed only of this spec and while the files are there.
rm "$WORK/app/app/disk-0.raw"
run -f "$WORK/a.yaml" -o "$WORK/app" || fail "$(<"$WORK/err")"
assert_contains "the second call" "$(cat "$WORK/err")" "default/a begins anew: $WORK/app/app/disk-0.raw is not there"
assert_same "$WORK/app/app/disk-0.raw" "$(twin B)"
sed -i 's/folder: B/folder: A/' "$WORK/a.yaml"
run -f "$WORK/a.yaml" -o "$WORK/app" || fail "$(<"$WORK/err")"
assert_contains "the second call" "$(cat "$WORK/err")" "default/a begins anew: its spec was changed"
assert_same "$WORK/app/app/disk-0.raw" "$(twin A)"
run -f "$WORK/a.yaml" -o "$WORK/app" || fail "$(<"$WORK/err")"
[[ $(cat "$WORK/err") != *anew* ]] || fail "an import that is done begins anew: $(<"$WORK/err")"

# What is told while it waits: a certificate nobody checked, a source that is away, a status that cannot be written.
{ source_manifest | sed '/caCert:/,/^---/{/^---/!d}'; import_manifest default web web-off; } >"$WORK/notes.yaml"
run -f "$WORK/notes.yaml" -o "$WORK/notes" || fail "$(<"$WORK/err")"
assert_contains "the note" "$(cat "$WORK/err")" "is not verified: SHA-256"
assert_eq "how often it is told" "$(grep -c 'is not verified' "$WORK/err")" 1
"$VIC" plan -f "$WORK/notes.yaml" >"$WORK/printed" 2>&1 || fail "$(<"$WORK/printed")"
assert_contains "the plan" "$(cat "$WORK/printed")" "is not verified: SHA-256"
said() { grep -q "$1" "$WORK/err"; }
sed 's|endpoint: .*|endpoint: https://127.0.0.1:1/sdk|' "$WORK/notes.yaml" >"$WORK/away.yaml"
"$VIC" import -f "$WORK/away.yaml" -o "$WORK/away" 2>"$WORK/err" &
pid=$!
background+=($pid)
wait_for 60 said 'default/web is waiting: .*(giving up in [0-9]* s)'
kill -INT $pid
assert_fails 130 wait $pid
hold
"$VIC" import -f "$WORK/slow.yaml" -o "$WORK/full" 2>"$WORK/err" >/dev/null &
pid=$!
background+=($pid)
in_the_way=$WORK/full/objects/virtualmachineimport-default-slow.yaml.new
under_way() { [ -e "$WORK/full/web-off/disk-0.raw" ]; }
wait_for 60 under_way
assert_fails 1 "$VIC" import -f "$WORK/slow.yaml" -o "$WORK/full" 2>"$WORK/second"
assert_contains "a second import at once" "$(cat "$WORK/second")" "another import, process $pid, works in $WORK/full"
# No room: told in the words of a directory, in a unit that shows how much.
mkdir "$WORK/small"
mount -t tmpfs -o size=2m none "$WORK/small" && {
	status=0
	"$VIC" import -f "$WORK/slow.yaml" -o "$WORK/small" >"$WORK/printed" 2>&1 || status=$?
	umount "$WORK/small"
	assert_eq "exit status without room" $status 1
	grep -Eq "the file system of $WORK/small has [0-9.]+ [KM]iB free, but the disks need [0-9]+ MiB: [0-9]+ MiB are missing; free [0-9]+ MiB there" \
		"$WORK/printed" || fail "no such complaint: $(<"$WORK/printed")"
	! grep -Eqi "helm|scratch" "$WORK/printed" || fail "it speaks of a chart: $(<"$WORK/printed")"
}
wait_for 60 mkdir "$in_the_way" 2>/dev/null
wait_for 60 said 'cannot write .*virtualmachineimport-default-slow.yaml'
rmdir "$in_the_way"
faults_clear
wait $pid || fail "$(<"$WORK/err")"

# Usage.
assert_fails 2 run -f "$WORK/two.yaml"
assert_fails 2 run -o "$WORK/x"
assert_fails 2 run --nonsense
assert_fails 2 "$VIC" nonsense 2>/dev/null
"$VIC" --help | found '^  import ' || fail "--help does not name the import command"
for command in run import convert; do "$VIC" $command --help | found "^Usage: vm-import-controller $command" || fail "$command --help"; done
"$VIC" version | found '^vm-import-controller [0-9]' || fail version
assert_source_clean
