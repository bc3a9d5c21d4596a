#!/bin/bash
# Two machines at once, one of three disks, from a vSphere into a Harvester: every byte, every property, every state, and no waiting.
# needs: vsphere kube
# timeout: 600
. "$(dirname "$0")/lib.sh"

cat >"$WORK/inventory.json" <<'END'
{
  "user": "administrator@vsphere.local", "password": "vsphere-Test-1", "lease": {"initSeconds": 0.2, "timeoutSeconds": 300},
  "datacenters": [{
    "name": "DC1",
    "hosts": [{"name": "esx1.test", "address": "127.0.0.11:0"}, {"name": "esx2.test", "address": "127.0.0.12:0"}],
    "datastores": ["datastore1"],
    "networks": [{"name": "VM Network"}, {"name": "Lab LAN"}, {"name": "dvs-prod", "kind": "distributed"}, {"name": "nsx-seg", "kind": "opaque"}],
    "vms": [
      {
        "name": "Three Disks", "folder": "Team/A", "cpus": 6, "coresPerSocket": 3, "memoryMB": 1500, "annotation": "Zeile eins\nline two <&> \"quoted\"",
        "nics": [{"model": "e1000", "mac": "00:50:56:aa:01:01", "network": "dvs-prod"}, {"model": "vmxnet3", "mac": "00:50:56:aa:01:02", "network": "VM Network"},
                 {"model": "e1000e", "mac": "00:50:56:aa:01:03", "network": "nsx-seg"}, {"model": "vmxnet3", "mac": "00:50:56:aa:01:04", "network": "Lab LAN"}],
        "disks": [{"bus": "lsilogic", "capacityMB": 200, "fill": {"seed": 1, "percent": 40}}, {"bus": "sata", "capacityMB": 65, "fill": {"seed": 2, "percent": 60}},
                  {"bus": "nvme", "capacityMB": 33, "fill": {"seed": 3, "percent": 20}}]
      },
      {
        "name": "web-on", "host": "esx2.test", "power": "on", "shutdown": {"seconds": 1}, "cpus": 2, "memoryMB": 1024, "firmware": "efi", "secureBoot": true, "vtpm": true,
        "nics": [{"model": "vmxnet3", "mac": "00:50:56:aa:02:01", "network": "VM Network"}],
        "disks": [{"capacityMB": 300, "fill": {"seed": 4, "percent": 50}}]
      }
    ]
  }]
}
END
export KUBE_HARVESTER_FLAGS='-boot-time 0'
start_vsphere "$WORK/inventory.json"
start_kube
for network in prod lan seg; do apply_network default $network; done
start_daemon
apply_source

record_states default three "$WORK/states-three"
import_manifest default three "Three Disks" 'folder: Team/A' 'networkMapping:' '- {sourceNetwork: VM Network, destinationNetwork: lan}' \
	'- {sourceNetwork: dvs-prod, destinationNetwork: default/prod}' "- {sourceNetwork: nsx-seg, destinationNetwork: default/seg, networkInterfaceModel: ''}" |
	kubectl apply -f - >/dev/null
record_states default web "$WORK/states-web"
import_manifest default web web-on 'targetVirtualMachineName: web-server' 'storageClass: harvester-longhorn' |
	kubectl apply -f - >/dev/null
kubectl wait --for=condition=Ready --timeout=400s virtualmachineimport/three virtualmachineimport/web >/dev/null
note "both are Ready"

# Every byte.
compare_disks() { # compare_disks IMPORT VM
	local n image volume source
	n=$(vm_state "$2" '.Disks | length')
	assert_eq "disks of $1" "$(kubectl get virtualmachineimport "$1" -o json | jq '.status.diskImportStatus | length')" "$n"
	for i in $(seq 0 $((n - 1))); do
		image=$(import_field default "$1" "{.status.diskImportStatus[$i].VirtualMachineImage}")
		volume=$KUBE_STATE/volumes/$(kubectl get pvc "$image" -o 'jsonpath={.spec.volumeName}')
		source=$(vm_state "$2" ".Disks[$i].Source")
		qemu-img compare -f raw -F raw "$volume" "$source" >/dev/null || fail "disk $i of $1 is not the source's"
		assert_eq "size of disk $i" "$(stat -c %s "$volume")" "$(stat -c %s "$source")"
	done
}
compare_disks three "Three Disks"
compare_disks web web-on
note "all disks are equal to the source"

# Every property.
vm() { kubectl get vm "$1" -o json | jq -c "$2"; }
assert_eq cpu "$(vm three-disks .spec.template.spec.domain.cpu)" '{"cores":3,"sockets":2,"threads":1}'
assert_eq memory "$(vm three-disks .spec.template.spec.domain.memory.guest)" '"1500Mi"'
assert_eq buses "$(vm three-disks '[.spec.template.spec.domain.devices.disks[] | [.bootOrder, .disk.bus]]')" '[[1,"scsi"],[2,"sata"],[3,"virtio"]]'
assert_eq claims "$(vm three-disks '[.spec.template.spec.volumes[].persistentVolumeClaim.claimName]')" \
	"$(kubectl get virtualmachineimport three -o json | jq -c '[.status.diskImportStatus[].VirtualMachineImage]')"
assert_eq NICs "$(vm three-disks '[.spec.template.spec.domain.devices.interfaces[] | [.macAddress, .model]]')" \
	'[["00:50:56:aa:01:01","e1000"],["00:50:56:aa:01:02","virtio"],["00:50:56:aa:01:03","e1000e"]]'
assert_eq networks "$(vm three-disks '[.spec.template.spec.networks[].multus.networkName]')" '["default/prod","default/lan","default/seg"]'
assert_eq description "$(vm three-disks '.metadata.annotations["field.cattle.io/description"]')" '"Zeile eins\nline two <&> \"quoted\""'
assert_eq strategy "$(vm three-disks .spec.runStrategy)" '"RerunOnFailure"'
assert_eq "firmware of the EFI machine" "$(vm web-server '[.spec.template.spec.domain.firmware.bootloader, .spec.template.spec.domain.features.smm, .spec.template.spec.domain.devices.tpm]')" \
	'[{"efi":{"secureBoot":true}},{"enabled":true},{}]'
assert_eq "network of the machine without a mapping" "$(vm web-server '.spec.template.spec.networks')" '[{"name":"pod-network","pod":{}}]'
assert_eq labels "$(vm web-server '[.metadata.labels["migration.harvesterhci.io/imported"], .spec.template.metadata.labels["harvesterhci.io/vmName"]]')" '["true","web-server"]'
kubectl get vm three-disks -o json | jq 'del(.metadata, .status) | .metadata.name = "strict"' | kubectl create --dry-run=server --validate=strict -f - >/dev/null
note "the machines are as at the source"

# Every state, in order.
cat >"$WORK/order" <<'END'
virtualMachineImportValid
sourceReady
disksExported
diskImageSubmitted
diskImagesReady
virtualMachineCreated
virtualMachineRunning
END
reasons_of() { # reasons_of NAME: of its Events that tell of no trouble, in order
	kubectl get events.events.k8s.io -o json |
		jq -r --arg name "$1" '[.items[] | select(.regarding.name == $name and .type == "Normal")] | sort_by(.eventTime) | .[].reason'
}
told_all() { reasons_of "$1" | found -x VirtualMachineRunning; }
for name in three web; do
	wait_for 30 told_all $name
	assert_eq "events of $name" "$(reasons_of $name | tr '\n' ' ')" \
		"PreflightPassed SourceReady DisksExported ImagesSubmitted ImagesReady VirtualMachineCreated VirtualMachineRunning "
	wait_for 30 grep -qx virtualMachineRunning "$WORK/states-$name"
	assert_eq "states of $name" "$(cat "$WORK/states-$name")" "$(cat "$WORK/order")"
done

# Nothing is left behind, and the images outlive the import.
assert_source_clean
assert_eq "files on scratch" "$(find "$SCRATCH" -mindepth 1 ! -name .image-key)" ''
assert_eq "owners of images" "$(kubectl get vmimage -o json | jq -c '[.items[].metadata.ownerReferences // [] | length] | add')" 0
assert_eq ledger "$(import_field default web '{.status.sourceLedger}')" ''
assert_eq progress "$(import_field default web '{.status.progress}')" 100
assert_eq "bytes" "$(import_field default web '{.status.diskImportStatus[0].bytesTransferred}')" $((300 << 20))

# No fixed waits: from the last byte to the running machine, less the target's own download; of both imports the shorter, for on a busy machine
# either may have to wait for others.
waited=$(kubectl get events.events.k8s.io -o json | jq '
	def at: (.eventTime | sub("\\.[0-9]+Z$"; "Z") | fromdateiso8601) + (.eventTime | capture("\\.(?<f>[0-9]+)Z$").f | "0." + . | tonumber);
	[.items[] | select(.regarding.name == "three" or .regarding.name == "web")] | group_by(.regarding.name) | map(map({(.reason): at}) | add
	| (.VirtualMachineRunning - .DisksExported) - (.ImagesReady - .ImagesSubmitted) | . * 1000 | floor) | min')
note "from the last byte to the running machine: $waited ms besides the download"
[ "$waited" -lt 5000 ] || fail "$waited ms from the last byte to the running machine"

# An import that is deleted leaves its machine, with its disks.
kubectl delete virtualmachineimport three web --timeout=120s >/dev/null
assert_eq "machines after the deletion" "$(kubectl get vm -o name | sort | tr '\n' ' ')" "virtualmachine.kubevirt.io/three-disks virtualmachine.kubevirt.io/web-server "
assert_eq "images after the deletion" "$(kubectl get vmimage -o name | wc -l)" 4
stop_daemon 10
