#!/bin/bash
# kill -9 in each state: an admission policy holds an import in a state, when all that the state's step does outside is done but not
# written down. The restarted daemon finishes, with one image a disk and one machine an import.
# needs: vsphere kube
# timeout: 800
. "$(dirname "$0")/lib.sh"

states='new virtualMachineImportValid sourceReady disksExported diskImageSubmitted diskImagesReady virtualMachineCreated virtualMachineRunning'
{
	echo '{"user": "u", "password": "p", "lease": {"initSeconds": 0.2, "timeoutSeconds": 300}, "nfc": {"streamMBps": 20, "maxStreams": 52},'
	echo '"datacenters": [{"name": "DC1", "hosts": [{"name": "esx1.test", "address": "127.0.0.11:0"}], "networks": [{"name": "VM Network"}], "vms": ['
	for state in $states; do
		echo "{\"name\": \"vm-at-${state,,}\", \"nics\": [{\"network\": \"VM Network\"}], \"disks\": [{\"capacityMB\": 16, \"fill\": {\"seed\": ${#state}, \"percent\": 50}}, {\"capacityMB\": 8}]},"
	done
	echo '{"name": "big", "power": "on", "shutdown": {"seconds": 0.2}, "nics": [{"network": "VM Network"}], "disks": [{"capacityMB": 256, "fill": {"seed": 99, "percent": 60}}]}]}]}'
} >"$WORK/inventory.json"
export KUBE_HARVESTER_FLAGS='-boot-time 0'
start_vsphere "$WORK/inventory.json"
start_kube
kubectl apply -f - >/dev/null <<'END'
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: hold.test}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [migration.harvesterhci.io], apiVersions: [v1beta1], operations: [UPDATE], resources: [virtualmachineimports/status]}
  variables:
  - name: before
    expression: "has(oldObject.status) && has(oldObject.status.importStatus) ? oldObject.status.importStatus : 'new'"
  - name: after
    expression: "has(object.status) && has(object.status.importStatus) ? object.status.importStatus : 'new'"
  - name: hold
    expression: "has(object.metadata.labels) && 'hold' in object.metadata.labels ? object.metadata.labels['hold'] : ''"
  - name: settled
    expression: "has(object.status) && has(object.status.conditions) && object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')"
  validations:
  - expression: "variables.hold != variables.before || (variables.before == variables.after && !variables.settled)"
    message: held by the test
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: hold.test}
spec: {policyName: hold.test, validationActions: [Deny]}
END
# The big one stops in its middle.
fault '{"kind": "stall", "path": "/nfc/", "afterBytes": 20000000, "seconds": 3600}'
start_daemon
apply_source
held_works() { # the policy takes effect some seconds after it is there
	kubectl delete virtualmachineimport probe --ignore-not-found --timeout=120s >/dev/null
	import_manifest default probe no-such-vm | sed 's/name: probe/name: probe, labels: {hold: new}/' | kubectl apply -f - >/dev/null
	! kubectl patch virtualmachineimport probe --subresource=status --type=merge -p '{"status":{"importStatus":"sourceReady"}}' >"$WORK/probe" 2>&1 &&
		grep -q 'held by the test' "$WORK/probe"
}
wait_for 60 held_works
kubectl delete virtualmachineimport probe --timeout=120s >/dev/null

for state in $states; do
	import_manifest default "at-${state,,}" "vm-at-${state,,}" | sed "s/metadata: {name: [^,]*/&, labels: {hold: $state}/" | kubectl apply -f - >/dev/null
done
apply_import default big big 'gracefulShutdownTimeoutSeconds: 20'
all_held() {
	for state in $states; do
		local now
		now=$(import_field default "at-${state,,}" '{.status.importStatus}')
		[ "${now:-new}" = "$state" ] || return 1
	done
}
wait_for 120 all_held
all_tried() { # what the held steps do outside is done, for the daemon was refused to write it down; perhaps more than once
	local state
	for state in $states; do grep -q "object=default/at-${state,,} .*held by the test" "$DAEMON_LOG" || return 1; done
}
wait_for 120 all_tried
wait_for 60 fetched "$SCRATCH" default big 10000000
shown() { [ "$(import_field default big '{.status.diskImportStatus[0].bytesTransferred}')" -gt 10000000 ]; }
wait_for 60 shown
note "big is $(import_field default big '{.status.importStatus}'), $(import_field default big '{.status.diskImportStatus[0].bytesTransferred}') bytes; leases open: $(admin_state '.openLeases | length')"
kill_daemon
faults_clear
note "killed"
all_held || fail "an import was not held"
kubectl label virtualmachineimport --all hold- >/dev/null
start_daemon
kubectl wait --for=condition=Ready --timeout=450s virtualmachineimport --all >/dev/null
note "all are Ready"

for state in $states; do
	name=vm-at-${state,,}
	assert_eq "images of $state" "$(kubectl get vmimage -o json | jq "[.items[] | select(.spec.displayName | startswith(\"vm-import-at-${state,,}-disk\"))] | length")" 2
	for i in 0 1; do
		volume=$KUBE_STATE/volumes/$(kubectl get pvc "$(import_field default "at-${state,,}" "{.status.diskImportStatus[$i].VirtualMachineImage}")" -o 'jsonpath={.spec.volumeName}')
		qemu-img compare -f raw -F raw "$volume" "$(vm_state "$name" ".Disks[$i].Source")" >/dev/null || fail "disk $i of $name is not the source's"
	done
done
n=$(($(wc -w <<<"$states") + 1))
assert_eq machines "$(kubectl get vm -o name | wc -l)" $n
assert_eq "images in all" "$(kubectl get vmimage -o name | wc -l)" $((2 * n - 1))
assert_eq "claims in all" "$(kubectl get pvc -o name | wc -l)" $((2 * n - 1))
assert_eq "files on scratch" "$(find "$SCRATCH" -mindepth 1 ! -name .image-key)" ''
stop_daemon 10
# The killed daemon's session is not in our hands for those imports that had no lease; vSphere ends it. Leases are.
assert_eq "open leases" "$(admin_state '.openLeases | length')" 0
assert_eq "restarts of exports: leases that were completed" "$(admin_state '.leases.completed')" $n
