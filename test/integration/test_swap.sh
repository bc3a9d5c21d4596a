#!/bin/bash
# Only the image is swapped: the objects of Harvester's chart as they are (its role, user, volume, limits; no arguments, environment, ports,
# probes), with our image in them. Imports that Harvester's controller left in each of its states, with the status as it writes it, are
# taken over and finished; what it had finished stays.
# needs: vsphere kube
# lock: port-8080
# timeout: 1750
. "$(dirname "$0")/lib.sh"
KUBE_CRDS=no
[ "$(id -u)" = 0 ] || skip "the Kubernetes peer needs root"
need python3 jq qemu-img
build_image
! (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null || skip "something listens on port 8080, which Harvester's chart has for the image server"

states=(new valid ready stopping exported submitted imagefailed imagesready created)
python3 - "${states[@]}" >"$WORK/inventory.json" <<'PY'
import json, sys
vms = [{"name": "vm-" + s, "cpus": 1, "memoryMB": 256, "nics": [{"network": "VM Network"}],
        "power": "on" if s in ("new", "valid", "ready", "stopping") else "off", "shutdown": {"seconds": 0.2},
        "disks": [{"capacityMB": 16, "fill": {"seed": i, "percent": 50}}]} for i, s in enumerate(sys.argv[1:], 1)]
print(json.dumps({"user": "u", "password": "p", "lease": {"initSeconds": 0.1, "timeoutSeconds": 300},
    "datacenters": [{"name": "DC1", "hosts": [{"name": "esx1.test", "address": "127.0.0.11:0"}], "networks": [{"name": "VM Network"}], "vms": vms}]}))
PY
start_vsphere "$WORK/inventory.json"
export KUBE_HARVESTER_FLAGS='-boot-time 0 -retry-after 1s'
KUBE_IMAGES="example.com/vm-import-controller:ours=$IMAGE" start_kube controller-manager harvester node
imports=virtualmachineimports.migration.harvesterhci.io

# --- Harvester's chart ---------------------------------------------------------------------------------------------------

chart_objects() {
	cat <<-'YAML'
	apiVersion: v1
	kind: ServiceAccount
	metadata: {name: harvester-vm-import-controller, namespace: harvester-system}
	---
	apiVersion: rbac.authorization.k8s.io/v1
	kind: ClusterRole
	metadata: {name: harvester-vm-import-controller-role}
	rules:
	- {apiGroups: [migration.harvesterhci.io], resources: ["*"], verbs: ["*"]}
	- {apiGroups: [kubevirt.io], resources: [virtualmachines], verbs: ["*"]}
	- {apiGroups: [harvesterhci.io], resources: [virtualmachineimages], verbs: ["*"]}
	- {apiGroups: [apiextensions.k8s.io], resources: [customresourcedefinitions], verbs: ["*"]}
	- {apiGroups: [k8s.cni.cncf.io], resources: [network-attachment-definitions], verbs: [list, watch]}
	- {apiGroups: [""], resources: [secrets, persistentvolumeclaims], verbs: ["*"]}
	- {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [get, list, watch]}
	---
	apiVersion: rbac.authorization.k8s.io/v1
	kind: ClusterRoleBinding
	metadata: {name: harvester-vm-import-controller-role}
	roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: harvester-vm-import-controller-role}
	subjects: [{kind: ServiceAccount, name: harvester-vm-import-controller, namespace: harvester-system}]
	---
	apiVersion: v1
	kind: Service
	metadata: {name: harvester-vm-import-controller, namespace: harvester-system}
	spec:
	  selector: &labels {app.kubernetes.io/name: harvester-vm-import-controller, app.kubernetes.io/instance: harvester-vm-import-controller}
	  ports: [{protocol: TCP, port: 8080, targetPort: 8080}]
	---
	apiVersion: v1
	kind: PersistentVolumeClaim
	metadata: {name: harvester-vm-import-controller, namespace: harvester-system}
	spec: {storageClassName: local, accessModes: [ReadWriteOnce], volumeMode: Filesystem, resources: {requests: {storage: 200Gi}}}
	---
	apiVersion: apps/v1
	kind: Deployment
	metadata: {name: harvester-vm-import-controller, namespace: harvester-system}
	spec:
	  replicas: 1
	  selector: {matchLabels: {app.kubernetes.io/name: harvester-vm-import-controller, app.kubernetes.io/instance: harvester-vm-import-controller}}
	  template:
	    metadata: {labels: {app.kubernetes.io/name: harvester-vm-import-controller, app.kubernetes.io/instance: harvester-vm-import-controller}}
	    spec:
	      serviceAccountName: harvester-vm-import-controller
	      securityContext: {}
	      containers:
	      - name: harvester-vm-import-controller
	        image: example.com/vm-import-controller:ours
	        imagePullPolicy: Always
	        securityContext: {runAsUser: 0}
	        resources: {limits: {cpu: "2", memory: 4Gi}, requests: {cpu: "0.5", memory: 2Gi}}
	        volumeMounts: [{name: storage, mountPath: /tmp}]
	      volumes: [{name: storage, persistentVolumeClaim: {claimName: harvester-vm-import-controller}}]
	YAML
}

# --- what its controller left --------------------------------------------------------------------------------------------

kubectl apply -f "$SOURCE_DIR/crds/" >/dev/null
kubectl wait --for=condition=Established --timeout=180s -f "$SOURCE_DIR/crds/" >/dev/null
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
condition() { printf '{"type": "%s", "status": "True", "lastUpdateTime": "%s", "lastTransitionTime": "%s"}' "$1" "$now" "$now"; }
status() { kubectl patch $imports "$1" --subresource=status --type=merge -p "{\"status\": $2}" >/dev/null; }
disk() { # disk STATE [IMAGE [CONDITION...]]: an entry of diskImportStatus
	local state=$1 image=${2:-} conditions=() type
	shift $(($# > 1 ? 2 : 1))
	for type in "$@"; do conditions+=("$(condition "$type")"); done
	jq -nc --arg name "vm-$state-default-disk-0.img" --arg image "$image" --argjson conditions "[$(IFS=,; echo "${conditions[*]}")]" '
		{diskName: $name, diskSize: 16777216, diskLocalPath: "/tmp/vm-import-controller", busType: "scsi"}
		+ (if $image == "" then {} else {VirtualMachineImage: $image} end) + (if $conditions == [] then {} else {diskConditions: $conditions} end)'
}
image() { # image STATE URL: as its controller makes it; prints the name
	local uid
	uid=$(kubectl get $imports "$1" -o 'jsonpath={.metadata.uid}')
	kubectl create -o 'jsonpath={.metadata.name}' -f - <<-YAML
	apiVersion: harvesterhci.io/v1beta1
	kind: VirtualMachineImage
	metadata:
	  generateName: image-
	  namespace: default
	  labels: {harvesterhci.io/imageDisplayName: vm-import-$1-vm-$1-default-disk-0.img}
	  annotations: {harvesterhci.io/storageClassName: harvester-longhorn}
	  ownerReferences: [{apiVersion: $GROUP, kind: VirtualMachineImport, name: $1, uid: $uid}]
	spec:
	  displayName: vm-import-$1-vm-$1-default-disk-0.img
	  sourceType: download
	  url: $2
	  retry: 1
	YAML
}
source_manifest | kubectl apply -f - >/dev/null
kubectl patch vmwaresource vcenter --subresource=status --type=merge -p "{\"status\": {\"status\": \"clusterReady\", \"conditions\": [$(condition ClusterReady)]}}" >/dev/null
for state in "${states[@]}"; do apply_import default "$state" "vm-$state"; done

# The disks that were exported are where the last pod had them: gone, or on the claim. Those that the cluster has came from its server.
mkdir "$WORK/served"
port=$(free_port)
for state in imagesready created; do cp --sparse=always "$(vm_state "vm-$state" '.Disks[0].Source')" "$WORK/served/$state.img"; done
python3 -m http.server --bind 127.0.0.1 --directory "$WORK/served" "$port" >/dev/null 2>&1 &
background+=($!)

off="$(condition VMShutdownGuest), $(condition VMPoweringOff), $(condition VMPoweredOff)"
dead=http://127.0.0.1:1
status valid '{"importStatus": "virtualMachineImportValid", "importedVirtualMachineName": "vm-valid"}'
status ready '{"importStatus": "sourceReady", "importedVirtualMachineName": "vm-ready"}'
status stopping "{\"importStatus\": \"sourceReady\", \"importedVirtualMachineName\": \"vm-stopping\", \"importConditions\": [$(condition VMShutdownGuest)]}"
status exported "{\"importStatus\": \"disksExported\", \"importedVirtualMachineName\": \"vm-exported\", \"importConditions\": [$off, $(condition VMExported)], \"diskImportStatus\": [$(disk exported)]}"
for state in submitted imagefailed; do
	made=$(image $state $dead/vm-$state-default-disk-0.img)
	case $state in submitted) name=diskImageSubmitted type=VirtualMachineImageSubmitted ;; *) name=diskImageFailed type=VirtualMachineImageFailed ;; esac
	status $state "{\"importStatus\": \"$name\", \"importedVirtualMachineName\": \"vm-$state\", \"importConditions\": [$off, $(condition VMExported)], \"diskImportStatus\": [$(disk $state "$made" $type)]}"
done
for state in imagesready created; do
	made=$(image $state "http://127.0.0.1:$port/$state.img")
	kubectl wait --for=condition=Imported --timeout=180s vmimage "$made" >/dev/null
	name=diskImagesReady
	if [ $state = created ]; then
		name=virtualMachineCreated
		# Its claim and its machine are there.
		class=$(kubectl get vmimage "$made" -o 'jsonpath={.status.storageClassName}')
		kubectl apply -f - >/dev/null <<-YAML
		apiVersion: v1
		kind: PersistentVolumeClaim
		metadata: {name: $made, namespace: default, annotations: {harvesterhci.io/imageId: default/$made}}
		spec: {accessModes: [ReadWriteMany], volumeMode: Block, storageClassName: $class, resources: {requests: {storage: "16777216"}}}
		---
		apiVersion: kubevirt.io/v1
		kind: VirtualMachine
		metadata: {name: vm-created, namespace: default, labels: {migration.harvesterhci.io/imported: "true"}}
		spec:
		  runStrategy: RerunOnFailure
		  template:
		    metadata: {labels: {harvesterhci.io/vmName: vm-created}}
		    spec:
		      domain:
		        cpu: {cores: 1, sockets: 1, threads: 1}
		        memory: {guest: 256Mi}
		        devices: {disks: [{name: disk-0, bootOrder: 1, disk: {bus: scsi}}], interfaces: [{name: pod-network, masquerade: {}, model: virtio}]}
		        resources: {limits: {cpu: 1, memory: 256Mi}}
		      networks: [{name: pod-network, pod: {}}]
		      volumes: [{name: disk-0, persistentVolumeClaim: {claimName: $made}}]
		YAML
	fi
	status $state "{\"importStatus\": \"$name\", \"importedVirtualMachineName\": \"vm-$state\", \"newVirtualMachine\": \"$([ $state = created ] && echo vm-created || true)\", \"importConditions\": [$off, $(condition VMExported)], \"diskImportStatus\": [$(disk $state "$made" VirtualMachineImageSubmitted VirtualMachineImageReady)]}"
done
created_uid=$(kubectl get vm vm-created -o 'jsonpath={.metadata.uid}')
# Final for its controller.
for state in running failed; do apply_import default $state vm-$state; done
status running "{\"importStatus\": \"virtualMachineRunning\", \"importedVirtualMachineName\": \"vm-running\", \"newVirtualMachine\": \"vm-running\", \"importConditions\": [$off, $(condition VMExported)], \"diskImportStatus\": [$(disk running image-abcde VirtualMachineImageSubmitted VirtualMachineImageReady)]}"
status failed "{\"importStatus\": \"VMMigrationFailed\", \"importedVirtualMachineName\": \"vm-failed\", \"importConditions\": [$off, {\"type\": \"VMExportFailed\", \"status\": \"True\", \"message\": \"export failed\"}]}"
note "imports in ${#states[@]} states, two of them final, as Harvester's controller leaves them"

# --- the swap ------------------------------------------------------------------------------------------------------------

chart_objects | kubectl apply -f - >/dev/null
log() { kubectl logs -n harvester-system deployment/harvester-vm-import-controller; }
wait_for 120 eval 'log | found started'
all_done() { [ "$(kubectl get $imports "${states[@]}" -o 'jsonpath={.items[*].status.importStatus}' | tr ' ' '\n' | sort -u)" = virtualMachineRunning ]; }
end=$((SECONDS + 600))
until all_done; do
	[ $SECONDS -lt $end ] || fail "not all are done: $(kubectl get $imports -o wide; log | tail -n 40)"
	sleep 1
done
note "all are virtualMachineRunning"
for state in "${states[@]}"; do
	assert_eq "machine of $state" "$(import_field default "$state" '{.status.importedVirtualMachineName}') $(kubectl get vm "vm-$state" -o 'jsonpath={.status.printableStatus}')" "vm-$state Running"
	claim=$(kubectl get vm "vm-$state" -o 'jsonpath={.spec.template.spec.volumes[0].persistentVolumeClaim.claimName}')
	volume=$KUBE_STATE/volumes/$(kubectl get pvc "$claim" -o 'jsonpath={.spec.volumeName}')
	qemu-img compare -f raw -F raw "$volume" "$(vm_state "vm-$state" '.Disks[0].Source')" >/dev/null || fail "the disk of $state is not the source's"
done
assert_eq "images" "$(kubectl get vmimage -o name | wc -l)" ${#states[@]}
assert_eq "the machine that was there" "$(kubectl get vm vm-created -o 'jsonpath={.metadata.uid}')" "$created_uid"
assert_eq "what was finished" "$(import_field default running '{.status.importStatus}') $(import_field default failed '{.status.importStatus}')" "virtualMachineRunning VMMigrationFailed"
assert_eq "no machine of what was finished" "$(kubectl get vm -o name | wc -l)" ${#states[@]}
assert_source_clean
note "every machine runs on the disk of its source; nothing was made twice"

log >"$WORK/log"
assert_eq "lines about missing powers" "$(grep -c 'some powers are missing' "$WORK/log")" 1
assert_contains "missing powers" "$(cat "$WORK/log")" 'create events (no events are written'
assert_contains "limits of the chart" "$(cat "$WORK/log")" 'cpus=2.00 memory="4096 MiB"'
! grep -q 'level=error' "$WORK/log" || fail "errors: $(grep level=error "$WORK/log")"
