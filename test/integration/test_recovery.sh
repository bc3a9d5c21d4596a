#!/bin/bash
# What goes wrong on the way and is mended: images that the cluster cannot import, an export that fails for good, a second attempt by
# annotation, a machine that was stopped in vain and is started again, scratch space that is full; and machines that are not to run.
# needs: vsphere kube
# timeout: 600
. "$(dirname "$0")/lib.sh"

export KUBE_HARVESTER_FLAGS='-boot-time 0 -retry-after 100ms'
jq '.lease.initSeconds = 0.1' "$PEERS/vsphere/inventory.json" >"$WORK/inventory.json"
start_vsphere "$WORK/inventory.json"
start_kube
# The daemon's scratch space is full from some write on, while there is the file "full".
fault_layer=${FAULT_LAYER:-$SOURCE_DIR/build/dev/test/integration/fault_layer.so}
cat >"$WORK/vic" <<-END
	#!/bin/sh
	export FAULT_FILES=/disk-0.raw FAULT_KIND=ENOSPC FAULT_AT=4 FAULT_WHILE="$WORK/full" LD_PRELOAD="$fault_layer"
	export ASAN_OPTIONS="\${ASAN_OPTIONS:-}:verify_asan_link_order=0"
	exec "$VIC" "\$@"
END
chmod +x "$WORK/vic"
VIC=$WORK/vic
start_daemon
apply_source

# An image whose every try fails is deleted and submitted again.
kubectl create configmap -n kube-system harvester-faults --from-literal=failDownload=5 --from-literal=dropAfter=100000 >/dev/null
record_states default image "$WORK/states"
apply_import default image with-snapshots
wait_status default image virtualMachineRunning 120
wait_for 30 grep -qx virtualMachineRunning "$WORK/states"
grep -qx diskImageFailed "$WORK/states" || fail "diskImageFailed was not seen: $(tr '\n' ' ' <"$WORK/states")"
assert_eq "images" "$(kubectl get vmimage -o name | wc -l)" 1
retried() { kubectl get events.events.k8s.io -o json | jq -e 'any(.items[]; .regarding.name == "image" and .reason == "ImageRetried")'; }
wait_for 30 retried
note "an image that failed was submitted again"

# A stream that breaks is fetched again within the lease; a corrupt one too.
fault '{"kind": "cut", "path": "/nfc/", "afterBytes": 3000000, "count": 1}'
fault '{"kind": "corrupt", "path": "/nfc/", "grain": 5, "count": 1}'
apply_import default cut web-off 'targetPowerState: "off"'
wait_status default cut virtualMachineRunning 90
for i in 0 1; do
	volume=$KUBE_STATE/volumes/$(kubectl get pvc "$(import_field default cut "{.status.diskImportStatus[$i].VirtualMachineImage}")" -o 'jsonpath={.spec.volumeName}')
	qemu-img compare -f raw -F raw "$volume" "$(vm_state /DC1/vm/web-off ".Disks[$i].Source")" >/dev/null || fail "disk $i is not the source's"
done
assert_eq "the state of a machine that is not to run" "$(kubectl get vm web-off -o 'jsonpath={.spec.runStrategy} {.status.printableStatus}')" "Halted Stopped"
assert_eq "what the faults hit" "$(curl -fsS "$VSPHERE_ADMIN_URL/faults" | jq -c '[.[].hits]')" '[1,1]'
faults_clear
note "broken streams were fetched again"

# Scratch space that is full: the import says which file, how many bytes and how much there still is to come, and waits for room; then it
# goes on, by itself, with what was there already.
fault '{"kind": "stall", "path": "/nfc/", "afterBytes": 30000000, "seconds": 3600, "count": 1}'
apply_import default full scattered 'forcePowerOff: true' 'targetPowerState: "off"'
some_is_there() { [ "$(find "$SCRATCH" -name disk-0.raw -exec du -m {} + | cut -f1)" -ge 8 ]; }
wait_for 60 some_is_there
touch "$WORK/full"
faults_clear # the transfer goes on
no_room() { message=$(import_field default full '{.status.message}') && [[ $message == *"Waiting for room"* ]]; }
wait_for 60 no_room
assert_contains "the message" "$message" "still to be written"
[[ $message =~ "cannot write "[0-9]+" bytes at "[0-9]+" of $SCRATCH"[^\ ]*"/disk-0.raw: No space left on device; make room there" ]] ||
	fail "the message does not say what cannot be written: $message"
assert_eq "the state meanwhile" "$(import_field default full '{.status.importStatus}')" sourceReady
some_is_there || fail "what was there was thrown away"
rm "$WORK/full"
wait_status default full virtualMachineRunning 120
volume=$KUBE_STATE/volumes/$(kubectl get pvc "$(import_field default full '{.status.diskImportStatus[0].VirtualMachineImage}')" -o 'jsonpath={.spec.volumeName}')
qemu-img compare -f raw -F raw "$volume" "$(vm_state scattered '.Disks[0].Source')" >/dev/null || fail "the disk is not the source's"
faults_clear
note "an import waited for room"

# An export that is refused for good: the import fails, and the machine, which was on, is started again.
fault '{"kind": "soap", "method": "ExportVm", "fault": "NotSupported"}'
fault '{"kind": "status", "path": "/folder", "code": 404}'
fault '{"kind": "soap", "method": "PowerOnVM_Task", "fault": "HostCommunication", "count": 1}' # and once more, after a while
apply_import default refused web-on 'sourceRecovery: PowerOn' 'targetPowerState: auto'
wait_status default refused VMMigrationFailed 60
assert_contains "the reason" "$(import_field default refused '{.status.message}')" "The export failed"
assert_contains "the reason" "$(import_field default refused '{.status.message}')" "NotSupported"
assert_contains "the reason" "$(import_field default refused '{.status.message}')" "datastore browser"
kubectl wait --for=condition=Stalled --timeout=180s virtualmachineimport/refused >/dev/null
assert_eq "the source after the failure" "$(vm_state web-on .Power)" poweredOn
assert_contains "the reason, still" "$(import_field default refused '{.status.message}')" "The export failed"
assert_eq "the ledger" "$(import_field default refused '{.status.sourceLedger}')" ''
assert_eq "files on scratch" "$(find "$SCRATCH" -mindepth 1 ! -name .image-key)" ''
faults_clear
kubectl annotate virtualmachineimport refused migration.harvesterhci.io/retry=true >/dev/null
done_now() { [ "$(import_field default refused '{.status.importStatus}')" = virtualMachineRunning ]; }
wait_for 90 done_now
assert_eq "the annotation" "$(kubectl get virtualmachineimport refused -o json | jq -r '.metadata.annotations["migration.harvesterhci.io/retry"]')" null
assert_eq "a machine as it was at the source" "$(kubectl get vm web-on -o 'jsonpath={.spec.runStrategy}')" RerunOnFailure
assert_eq "the source after the import" "$(vm_state web-on .Power)" poweredOff
note "a second attempt succeeded"

# A guest that does not obey is powered off when its time is up; a session that is lost on the way is made anew.
apply_import default stubborn never-stops 'gracefulShutdownTimeoutSeconds: 3'
asked() { [ -n "$(import_field default stubborn '{.status.importConditions[?(@.type=="VMShutdownGuest")].status}')" ]; }
wait_for 30 asked
curl -fsS -X POST "$VSPHERE_ADMIN_URL/sessions/drop" >/dev/null
# The vCenter is away when it is to power the machine off, longer than a few tries take.
fault '{"kind": "status", "path": "/sdk", "code": 503, "seconds": 14}' # of its own clock, however long anything takes here
wait_status default stubborn virtualMachineRunning 120
faults_clear
assert_eq "conditions" "$(kubectl get virtualmachineimport stubborn -o json | jq -c '[.status.importConditions[] | select(.status == "True") | .type]')" \
	'["VMShutdownGuest","VMPoweringOff","VMPoweredOff","VMExported"]'

# The API server goes away in the middle, and comes back. The transfer stalls so long that there is a middle.
fault '{"kind": "stall", "path": "/nfc/", "afterBytes": 1000000, "seconds": 3600, "count": 1}'
apply_import default outage scattered 'forcePowerOff: true' 'targetVirtualMachineName: outage'
wait_status default outage sourceReady 30
stop_kube apiserver
faults_clear
sleep 3 # the transfer goes on, and nothing can be written down
start_kube
wait_status default outage virtualMachineRunning 90
assert_source_clean
stop_daemon 20
