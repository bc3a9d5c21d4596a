#!/bin/bash
# What users get wrong: each leaves a message that names the cause and the remedy, and an Event; the daemon goes on with other imports.
# needs: vsphere kube
# timeout: 600
. "$(dirname "$0")/lib.sh"

jq '.datacenters[0].vms += [{name: "monster", power: "on", tools: "notInstalled", nics: [{network: "VM Network"}],
	disks: [{capacityMB: 12000000, thick: true}, {capacityMB: 8, shared: true}]}]' "$PEERS/vsphere/inventory.json" >"$WORK/inventory.json"
start_vsphere "$WORK/inventory.json"
start_kube
apply_network default lan
start_daemon
apply_source

# source NAME: the good source's manifest under another name, changed by sed
bad_source() { # bad_source NAME SED-SCRIPT
	source_manifest default "$1" | sed "$2" | kubectl apply -f - >/dev/null
}
other_ca=$WORK/other.crt
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout "$WORK/other.key" -out "$other_ca" 2>/dev/null
bad_source wrong-password 's/password: .*/password: nonsense/'
bad_source missing-key '/password: /d'
bad_source unknown-dc 's/dc: .*/dc: DC9/'
bad_source no-answer "s#endpoint: .*#endpoint: https://127.0.0.1:$(free_port)/sdk#"
VSPHERE_CA=$other_ca source_manifest default wrong-ca | kubectl apply -f - >/dev/null
bad_source no-ca '/caCert: |/,/END CERT/d'
bad_source no-secret 's/credentials: {name: [^,]*/credentials: {name: nowhere/'

kubectl apply -f - >/dev/null <<'END'
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: taken, namespace: default}
spec:
  runStrategy: Halted
  template: {spec: {domain: {devices: {}}}}
END
apply_import default unknown-vm nobody
apply_import default twin twin
apply_import default no-network web-off 'networkMapping:' '- {sourceNetwork: VM Network, destinationNetwork: default/nowhere}'
apply_import default no-source-network web-off 'networkMapping:' '- {sourceNetwork: Nowhere LAN, destinationNetwork: lan}'
apply_import default twice web-off 'networkMapping:' '- {sourceNetwork: VM Network, destinationNetwork: lan}' '- {sourceNetwork: VM Network, destinationNetwork: lan}'
apply_import default name-taken web-off 'targetVirtualMachineName: taken'
apply_import default no-class web-off 'storageClass: nowhere'
apply_import default no-tools no-tools
apply_import default no-disks no-disks
# Every line of preflight at once.
import_manifest default everything monster 'storageClass: nowhere' 'targetVirtualMachineName: taken' 'networkMapping:' \
	'- {sourceNetwork: VM Network, destinationNetwork: default/nowhere}' '- {sourceNetwork: VM Network, destinationNetwork: lan}' \
	'- {sourceNetwork: Nowhere LAN, destinationNetwork: lan}' '- {sourceNetwork: dvs-prod}' |
	sed "s#sourceCluster: {apiVersion: [^,]*#sourceCluster: {apiVersion: v1#" | kubectl apply -f - >/dev/null
SOURCE_NAME=wrong-password apply_import default waits web-off
SOURCE_NAME=not-there apply_import default waits-too web-off
apply_import default good with-snapshots

source_says() { # source_says NAME PART...
	local name=$1 status message
	shift
	wait_for 60 source_is default "$name" clusterNotReady
	message=$(kubectl get vmwaresource "$name" -o 'jsonpath={.status.message}')
	for part in "$@"; do assert_contains "message of $name" "$message" "$part"; done
	status=$(kubectl get vmwaresource "$name" -o json | jq -r '[.status.conditions[] | select(.type == "ClusterError" or .type == "Ready") | .status] | join(" ")')
	assert_eq "conditions of $name" "$status" "True False"
	event_of "$name"
	note "$name: $message"
}
event_of() { # event_of OBJECT: a Warning that is about it
	wait_for 20 has_warning "$1"
}
has_warning() {
	[ "$(kubectl get events.events.k8s.io -o json | jq "[.items[] | select(.type == \"Warning\" and .regarding.name == \"$1\")] | length")" -ge 1 ]
}
import_says() { # import_says NAME STATE PART...
	local name=$1 message
	wait_status default "$name" "$2" 60
	message=$(import_field default "$name" '{.status.message}')
	shift 2
	for part in "$@"; do assert_contains "message of $name" "$message" "$part"; done
	event_of "$name"
	note "$name: $message"
}
source_says wrong-password "refused the login" "administrator@vsphere.local" "Secret"
source_says missing-key 'no key "password"' "add it"
source_says unknown-dc "no datacenter DC9" "correct spec.dc" "/DC1"
source_says no-answer "cannot connect"
source_says wrong-ca "not trusted" "caCert"
source_says no-secret "default/nowhere" "does not exist" "create it"
import_says unknown-vm virtualMachineImportInvalid "no virtual machine nobody" "correct spec.virtualMachineName"
import_says twin virtualMachineImportInvalid "2 virtual machines" "/DC1/vm/A/twin" "/DC1/vm/B/twin" "spec.folder"
import_says no-network virtualMachineImportInvalid "no NetworkAttachmentDefinition default/nowhere" "create it"
import_says no-source-network virtualMachineImportInvalid '"Nowhere LAN"' "VM Network"
import_says twice virtualMachineImportInvalid '"VM Network" twice'
import_says name-taken virtualMachineImportInvalid "named taken exists" "spec.targetVirtualMachineName"
import_says no-class virtualMachineImportInvalid "no StorageClass nowhere"
import_says no-tools virtualMachineImportInvalid "VMware Tools" "spec.forcePowerOff: true"
import_says no-disks virtualMachineImportInvalid "no disks"
import_says everything virtualMachineImportInvalid 'spec.sourceCluster.apiVersion is "v1"' "no StorageClass nowhere" "no NetworkAttachmentDefinition default/nowhere" \
	'"VM Network" twice' '"Nowhere LAN" does not exist at the source' "spec.networkMapping[3] lacks" "Hard disk 2 of /DC1/vm/monster is shared" "VMware Tools" \
	"spec.forcePowerOff: true" "named taken exists" "scratch"
assert_eq "the machine that was only looked at" "$(vm_state monster .Power)" poweredOn
# Who gave no CA has the first certificate pinned.
wait_for 60 source_is default no-ca clusterReady
assert_eq "what is pinned" "$(kubectl get vmwaresource no-ca -o 'jsonpath={.status.certificate.fingerprint} {.status.certificate.endpoint}')" \
	"$(openssl x509 -in "$VSPHERE_CA" -noout -fingerprint -sha256 | sed 's/.*=//') $VSPHERE_URL"
waits_for_source() { [[ $(import_field default "$1" '{.status.message}') == *"Waiting for the VmwareSource"* ]]; }
for name in waits waits-too; do
	assert_eq "state of $name" "$(import_field default $name '{.status.importStatus}')" ''
	wait_for 30 waits_for_source $name
done
wait_status default good virtualMachineRunning 90
assert_eq "the foreign machine" "$(kubectl get vm taken -o 'jsonpath={.metadata.generation} {.metadata.labels}')" "1 "


# The plan command tells the same beforehand, sources and Secrets from the cluster.
{ SOURCE_NAME=vcenter import_manifest default plan-name web-off 'targetVirtualMachineName: taken' 'storageClass: nowhere'
  import_manifest default plan-network web-off 'networkMapping:' '- {sourceNetwork: VM Network, destinationNetwork: default/nowhere}'
  import_manifest default plan-good web-off 'targetVirtualMachineName: free' 'networkMapping:' '- {sourceNetwork: VM Network, destinationNetwork: lan}'
  SOURCE_NAME=wrong-password import_manifest default plan-source web-off 'targetVirtualMachineName: free'
} >"$WORK/plan.yaml"
assert_fails 3 "$VIC" plan -f "$WORK/plan.yaml" --kubeconfig "$KUBECONFIG" -o json >"$WORK/plan.json"
problems() { jq -r --arg n "$1" '.imports[] | select(.name == $n) | .problems | join("; ")' "$WORK/plan.json"; }
assert_contains "problems of plan-name" "$(problems plan-name)" "named taken exists"
assert_contains "problems of plan-name" "$(problems plan-name)" "no StorageClass nowhere"
assert_contains "problems of plan-network" "$(problems plan-network)" "no NetworkAttachmentDefinition default/nowhere"
assert_contains "problems of plan-source" "$(problems plan-source)" "refused the login"
assert_eq "problems of plan-good" "$(problems plan-good)" ""
assert_eq "what failing imports say" "$(jq -r '"\(.failing) \(.targetChecked)"' "$WORK/plan.json")" "3 true"

# What was wrong is mended, and everything goes on by itself.
source_manifest default wrong-password | kubectl apply -f - >/dev/null
wait_for 90 source_is default wrong-password clusterReady
wait_status default waits virtualMachineRunning 90
kubectl patch virtualmachineimport no-tools --type=merge -p '{"spec":{"forcePowerOff":true}}' >/dev/null
wait_status_after_fix() { [ "$(import_field default no-tools '{.status.importStatus}')" = virtualMachineRunning ]; }
wait_for 90 wait_status_after_fix
passed_with() { # passed_with NAME PART: what preflight noted
	kubectl get events.events.k8s.io -o json | jq -r ".items[] | select(.reason == \"PreflightPassed\" and .regarding.name == \"$1\") | .note" | found -F "$2"
}
wait_for 20 passed_with no-tools "spec.networkMapping names no network that it is on"
wait_for 20 passed_with good "its 2 snapshots stay behind"
stop_daemon 20
assert_source_clean
