#!/bin/bash
# The target Harvester by itself, with the image server: disks become images, claims, a machine that runs; what is made is right to the byte,
# is made once, is mended after a failure, and outlives the import.
# needs: kube
# timeout: 600
. "$(dirname "$0")/lib.sh"

TARGET_PROBE=${TARGET_PROBE:-$SOURCE_DIR/build/dev/test/integration/target_probe}
[ -x "$TARGET_PROBE" ] || fail "there is no program $TARGET_PROBE"
mkdir -p "$SCRATCH"
PORT=$(free_port)
export KUBE_HARVESTER_FLAGS='-retry-after 2s'
start_kube

# probe NAMESPACE/IMPORT VM STEP...: with the two disks of make_import
probe() {
	local import=$1 vm=$2
	shift 2
	"$TARGET_PROBE" "$import" "$vm" "$SCRATCH" "$PORT" disk-0.raw disk-1.raw -- "$@"
}

# make_import NS NAME SPEC-LINE...: the import, and two sparse disks in its scratch space; UID_OF gets its uid
make_import() {
	local ns=$1 name=$2
	shift 2
	import_manifest "$ns" "$name" Probe "$@" | kubectl apply -f - >/dev/null
	UID_OF=$(import_field "$ns" "$name" '{.metadata.uid}')
	mkdir "$SCRATCH/$UID_OF"
	truncate -s 24M "$SCRATCH/$UID_OF/disk-0.raw"
	dd if=/dev/urandom of="$SCRATCH/$UID_OF/disk-0.raw" bs=64K count=40 seek=30 conv=notrunc status=none
	dd if=/dev/urandom of="$SCRATCH/$UID_OF/disk-1.raw" bs=512 count=2051 status=none # not even a multiple of 4 KiB
}

objects() { # objects KIND NS: how many
	kubectl get "$1" -n "$2" -o name | wc -l
}

volume_of() { # volume_of NS CLAIM: the file behind it
	echo "$KUBE_STATE/volumes/$(kubectl get pvc -n "$1" "$2" -o 'jsonpath={.spec.volumeName}')"
}

kubectl create namespace team >/dev/null
kubectl create namespace shared >/dev/null
apply_network team vlan-1
apply_network shared vlan-2
MAPPING='networkMapping: [{sourceNetwork: VM Network, destinationNetwork: vlan-1}, {sourceNetwork: dvs, destinationNetwork: shared/vlan-2}]'

# --- from disks to a machine, for both kinds of storage ---
for class in harvester-longhorn other-csi; do
	make_import team "web-$class" "storageClass: $class" "$MAPPING"
	out=$(probe "team/web-$class" "vm-$class" preflight submit submit wait create create vm)
	assert_contains preflight "$out" 'problems: 0'
	assert_eq 'the same images when asked twice' "$(grep '^disk-' <<<"$out" | sort -u | wc -l)" 2
	assert_eq 'images are ready' "$(grep -c '^READY 100 ' <<<"$out")" 2
	assert_eq 'the machine runs' "$(tail -n 1 <<<"$out")" 'READY '
	image=$(awk '$1 == "disk-0.raw" { print $2; exit }' <<<"$out") second=$(awk '$1 == "disk-1.raw" { print $2; exit }' <<<"$out")
	backend=$(kubectl get vmimage -n team "$image" -o 'jsonpath={.spec.backend}')
	if [ $class = other-csi ]; then assert_eq backend "$backend" cdi; else assert_eq backend "$backend" backingimage; fi
	kubectl wait -n team --for=jsonpath='{.status.phase}'=Bound --timeout=180s "pvc/$image" "pvc/$second" >/dev/null
	assert_same "$(volume_of team "$image")" "$SCRATCH/$UID_OF/disk-0.raw"
	assert_same "$(volume_of team "$second")" "$SCRATCH/$UID_OF/disk-1.raw"
	kubectl get vm -n team "vm-$class" -o json >"$WORK/vm.json"
	assert_eq 'interfaces' "$(jq -c '[.spec.template.spec.domain.devices.interfaces[] | [.name, .model, .macAddress]]' "$WORK/vm.json")" \
		'[["migrated-0","virtio","00:50:56:aa:00:01"],["migrated-1","pcnet","00:50:56:aa:00:03"],["migrated-2","virtio",null]]'
	assert_eq 'networks' "$(jq -c '[.spec.template.spec.networks[].multus.networkName]' "$WORK/vm.json")" \
		'["team/vlan-1","shared/vlan-2","shared/vlan-2"]'
	assert_eq 'memory' "$(jq -r .spec.template.spec.domain.memory.guest "$WORK/vm.json")" 1501Mi
	assert_eq 'processors' "$(jq -c '.spec.template.spec.domain.cpu | [.cores, .sockets, .threads]' "$WORK/vm.json")" '[3,2,1]'
	assert_eq 'description' "$(jq -r '.metadata.annotations["field.cattle.io/description"]' "$WORK/vm.json" | sed -n 1p)" 'Zeile eins'
	assert_eq 'bound to the import' "$(jq -r '.metadata.annotations["migration.harvesterhci.io/virtualmachineimport"]' "$WORK/vm.json")" "team/web-$class"

	# What lives on when the import goes: everything.
	probe "team/web-$class" "vm-$class" release release
	assert_eq 'owners of the image' "$(kubectl get vmimage -n team "$image" -o 'jsonpath={.metadata.ownerReferences}')" ''
	kubectl delete virtualmachineimports.migration.harvesterhci.io -n team "web-$class" --wait >/dev/null
	note "$class: images, claims and machine are right"
done
assert_eq images "$(objects vmimage team)" 4
assert_eq claims "$(objects pvc team)" 4
assert_eq machines "$(objects vm team)" 2

# --- an import that goes before it is done takes its images with it ---
make_import team gone 'storageClass: harvester-longhorn'
probe team/gone vm-gone submit wait >/dev/null
assert_eq 'images beside' "$(objects vmimage team)" 6
kubectl delete virtualmachineimports.migration.harvesterhci.io -n team gone --wait >/dev/null
images_left() { [ "$(objects vmimage team)" = 4 ]; }
wait_for 60 images_left

# --- the image server is restarted in the middle: the URLs are still good ---
make_import team slow 'storageClass: harvester-longhorn' 'targetPowerState: "off"'
kubectl create configmap -n kube-system harvester-faults --from-literal=bandwidth=1000000 >/dev/null
probe team/slow vm-slow submit >"$WORK/slow"
state=$(probe team/slow vm-slow find state)
assert_contains 'in the middle' "$state" 'PENDING'
kubectl delete configmap -n kube-system harvester-faults >/dev/null
out=$(probe team/slow vm-slow find wait create vm)
assert_eq "images are ready all the same ($out)" "$(grep -c '^READY 100 ' <<<"$out")" 2
assert_eq 'stays off' "$(tail -n 1 <<<"$out")" 'READY '
assert_eq 'run strategy' "$(kubectl get vm -n team vm-slow -o 'jsonpath={.spec.runStrategy}/{.status.printableStatus}')" 'Halted/Stopped'
assert_eq 'no image twice' "$(objects vmimage team)" 6

# --- a download that breaks off is tried again by Harvester; one that never works is told with its reason ---
make_import team broken 'storageClass: harvester-longhorn'
kubectl create configmap -n kube-system harvester-faults --from-literal=failDownload=2 --from-literal=dropAfter=100000 >/dev/null
out=$(probe team/broken vm-broken submit wait)
assert_eq 'ready after failures' "$(grep -c '^READY 100 ' <<<"$out")" 2
kubectl delete configmap -n kube-system harvester-faults >/dev/null
probe team/broken vm-broken find delete
wait_for 30 eval '[ "$(objects vmimage team)" = 6 ]'
mv "$SCRATCH/$UID_OF/disk-1.raw" "$WORK/away"
out=$(probe team/broken vm-broken submit wait)
assert_contains 'the disk that is there' "$out" 'READY 100 '
failed=$(grep '^FAILED' <<<"$out") || fail "nothing failed: $out"
assert_contains 'why it failed' "$failed" '404'
mv "$WORK/away" "$SCRATCH/$UID_OF/disk-1.raw"
probe team/broken vm-broken find delete
wait_for 30 eval '[ "$(objects vmimage team)" = 6 ]'
out=$(probe team/broken vm-broken submit wait)
assert_eq 'submitted anew' "$(grep -c '^READY 100 ' <<<"$out")" 2

# --- a machine of somebody else, an image that somebody deleted ---
assert_fails 1 probe team/broken vm-slow find create >"$WORK/taken"
assert_contains 'another import has the name' "$(<"$WORK/taken")" 'error Permanent NameTaken'
assert_contains 'preflight sees it' "$(probe team/broken vm-slow preflight)" 'vm-slow exists in the namespace team'
kubectl delete vmimage -n team "$(awk '$1 == "disk-1.raw" { print $2; exit }' <<<"$out")" >/dev/null
kubectl create configmap -n kube-system harvester-faults --from-literal=bandwidth=200000 >/dev/null
out=$(probe team/broken vm-broken find state | tail -n 1)
assert_contains 'made again' "$out" 'PENDING'
kubectl delete configmap -n kube-system harvester-faults >/dev/null

# --- what preflight finds in a real cluster ---
make_import team wrong 'storageClass: none-such' \
	'networkMapping: [{sourceNetwork: VM Network, destinationNetwork: shared/vlan-1}, {sourceNetwork: lab, destinationNetwork: vlan-1}, {sourceNetwork: VM Network, destinationNetwork: vlan-1}]'
out=$(probe team/wrong vm-wrong preflight)
assert_contains 'storage class' "$out" 'no StorageClass none-such'
assert_contains 'network' "$out" 'no NetworkAttachmentDefinition shared/vlan-1'
assert_contains 'source network' "$out" '"lab" is no network of'
assert_contains 'twice' "$out" '"VM Network" twice'
assert_eq 'how many' "$(tail -n 1 <<<"$out")" 'problems: 4'
