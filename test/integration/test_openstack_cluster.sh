#!/bin/bash
# Servers of a real OpenStack, imported through Kubernetes: to the end, deleted and killed in the middle, and with a cloud that does not let
# go of what was made. Nothing of ours stays in it, and what does for a while is told by an Event.
# timeout: 1900
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/openstack.sh"

export KUBE_HARVESTER_FLAGS='-boot-time 0'
start_openstack
start_kube
known=$B/var/known

# --- servers: demo-vm has two volumes, demo-uefi a root disk that is none and a volume, small and other a volume -----------------------

head -c 5M /dev/urandom >"$WORK/data.raw"
truncate -s $GIB "$WORK/data.raw"
data_image=$(os_image data raw "$WORK/data.raw")
tiny=$(TOKEN=$ADMIN_TOKEN os compute GET /flavors | jq -r '.flavors[] | select(.name == "m1.tiny") | .id')
TOKEN=$ADMIN_TOKEN os compute PUT "/os-quota-sets/$PROJECT" '{"quota_set": {"instances": 50, "cores": 100}}' >/dev/null
declare -A volumes
for name in small other; do
	volumes[$name]=$(os_volume POST /volumes '{"volume": {"name": "'"$name"'", "size": 1, "imageRef": "'"$data_image"'"}}' | jq -r .volume.id)
done
for name in small other; do
	wait_for 120 volume_is "${volumes[$name]}" available
	id=$(V=2.60 os compute POST /servers '{"server": {"name": "'"$name"'", "flavorRef": "'"$tiny"'", "networks": "none", "block_device_mapping_v2": [
		{"boot_index": 0, "uuid": "'"${volumes[$name]}"'", "source_type": "volume", "destination_type": "volume"}]}}' | jq -r .server.id)
	wait_for 120 server_is "$id" ACTIVE
done
os_things | sort >"$WORK/before"

# What the cloud does not let go of is in the ledgers of the imports that are there yet.
ledgers() { # ledgers [IMPORT]
	kubectl get virtualmachineimports -o json | jq -r --arg name "${1:-}" '.items[] | select($name == "" or .metadata.name == $name)
		| .status.sourceLedger // [] | .[] | select(.kind | IN("Image", "Volume", "Snapshot")) | .id'
}
assert_clean() { # assert_clean WHAT
	{ ledgers; echo nothing; } >"$WORK/ledgers"
	os_things | grep -vFf "$WORK/ledgers" | sort >"$WORK/after"
	diff "$WORK/before" "$WORK/after" >&2 || fail "$1: the project does not have what it had"
}
apply() { openstack_import "$@" | kubectl apply -f - >/dev/null; } # as openstack_import
# Faults of one place in the scenario, beside those that last.
fault_now() { front_fault "${1/{/{\"name\": \"now\", }"; }
unfault() { front _faults/now -X DELETE >/dev/null; }
forget() { front _log -X DELETE >/dev/null; }
is_gone() { [ -z "$(kubectl get virtualmachineimport "$1" --ignore-not-found -o name)" ]; }
scratch_of() { find "$SCRATCH" -mindepth 1 -path "*$1*"; }
uid_of() { import_field default "$1" '{.metadata.uid}'; }

assert_disk() { # assert_disk IMPORT NUMBER GIB [ORIGINAL]: at the target
	local image
	image=$(import_field default "$1" "{.status.diskImportStatus[$2].VirtualMachineImage}")
	assert_cloud_disk "$KUBE_STATE/volumes/$(kubectl get pvc "$image" -o 'jsonpath={.spec.volumeName}')" "${@:3}"
}
told() { # told IMPORT TEXT...: whether a Warning of the import has all of these
	local import=$1 text
	kubectl get events.events.k8s.io -o json | jq -r --arg name "$import" '.items[] | select(.regarding.name == $name and .type == "Warning") | .note' >"$WORK/told"
	shift
	for text in "$@"; do grep -qF -- "$text" "$WORK/told" || return 1; done
}

start_daemon
openstack_source | kubectl apply -f - >/dev/null
kubectl wait --for=condition=Ready --timeout=180s openstacksource/cloud >/dev/null
assert_eq "status of the source" "$(kubectl get openstacksource cloud -o 'jsonpath={.status.status}')" clusterReady

# --- leftovers: the cloud lets go of no image of these two; meanwhile everything else ---------------------------------------------------

note "--- images that cannot be removed"
slow='{"kind": "slow", "path": "/file$", "bps": 100000}' # slow enough to be as good as stopped
fault_now "$slow"
apply whole demo-vm
apply deleted other
ours() { os image GET '/images?limit=1000' | jq -r '.images[] | select((.name | startswith("vm-import-")) and .status == "active") | .id'; }
all_ours() { [ "$(ours | wc -l)" = 3 ]; }
wait_for 120 all_ours
stuck=$(ours | xargs)
front_fault '{"kind": "status", "method": "DELETE", "path": "/images/('"${stuck// /|}"')$", "status": 403, "body": "{\"message\": \"the image is protected\"}"}'
unfault
deleted_uid=$(uid_of deleted)
deleted_image=$(ledgers deleted | grep image)
kubectl delete virtualmachineimport deleted --wait=false >/dev/null

# --- deleted in the middle -----------------------------------------------------------------------------------------------------------

# deleted_at WHAT VM FAULT SEEN...: an import is deleted once the front has seen something; the fault lasts until our removal is seen
deleted_at() {
	local what=$1 vm=$2 fault=$3 seen=$4 removal=$5 uid
	forget
	[ -z "$fault" ] || fault_now "$fault"
	apply gone "$vm"
	wait_for 60 front_saw "$seen"
	uid=$(uid_of gone)
	kubectl delete virtualmachineimport gone --wait=false >/dev/null
	[ -z "$removal" ] || wait_for 60 front_saw "$removal"
	unfault
	wait_for 60 is_gone gone
	assert_eq "scratch of a deleted import" "$(scratch_of "$uid")" ''
	assert_clean "deleted while $what"
	note "deleted while $what"
}
held() { echo '{"kind": "status", "method": "GET", "path": "'"$1"'/[^/?]*$", "status": 200, "body": "'"$2"'"}'; }
deleted_at "its snapshot was made" small "$(held /snapshots '{\"snapshot\": {\"status\": \"creating\"}}')" 'POST [^ ]*/snapshots 20' 'DELETE [^ ]*/snapshots/'
deleted_at "its volume was made" small "$(held "/volumes/(?!${volumes[small]})" '{\"volume\": {\"status\": \"creating\"}}')" 'POST [^ ]*/volumes 20' 'DELETE [^ ]*/volumes/'
deleted_at "its image was made" small "$slow" 'POST [^ ]*/action 202' ''
deleted_at "a server's image was made" demo-uefi "$(held /images '{\"status\": \"saving\"}')" 'POST [^ ]*/action 202' 'DELETE [^ ]*/images/'

# --- killed in the middle: while its image is made, and while its image is downloaded -----------------------------------------------

forget
fault_now "$(held /images '{\"status\": \"saving\"}')"
apply killed small
wait_for 60 front_saw 'POST [^ ]*/volumes 202'
wait_for 60 front_saw 'POST [^ ]*/action 202'
kill_daemon
unfault
fault_now "$slow"
start_daemon
downloading() { [ -n "$(find "$SCRATCH/$(uid_of killed)" -name 'disk-0.raw' -size +100k)" ]; }
wait_for 60 downloading
kill_daemon
unfault
start_daemon
wait_status default killed virtualMachineRunning
kubectl wait --for=condition=Ready --timeout=180s virtualmachineimport/killed >/dev/null
assert_eq "ledger of the killed" "$(ledgers killed)" ''
assert_disk killed 0 1 "$WORK/data.raw"
assert_clean "killed twice"

# --- a retry is not held up by what is left ----------------------------------------------------------------------------------------------

forget
front_fault '{"kind": "status", "name": "refused", "path": "/file$", "status": 403, "body": "{\"message\": \"not this image\"}"}'
front_fault '{"kind": "status", "name": "kept", "method": "DELETE", "path": "/images/", "status": 403, "body": "{\"message\": \"the image is protected\"}"}'
apply retried small
wait_status default retried VMMigrationFailed
one_left() { [ "$(ledgers retried | wc -l)" = 1 ]; }
wait_for 120 one_left
first=$(ledgers retried)
assert_contains "why it failed" "$(import_field default retried '{.status.message}')" "not this image"
front _faults/refused -X DELETE >/dev/null
kubectl annotate virtualmachineimport retried migration.harvesterhci.io/retry=true >/dev/null
running() { [ "$(import_field default "$1" '{.status.importStatus}')" = virtualMachineRunning ]; } # it is failed until the annotation is seen
wait_for 120 running retried
assert_disk retried 0 1 "$WORK/data.raw"
assert_contains "the ledger of the retried" "$(ledgers retried)" "$first"
wait_for 60 told retried "$first"
front _faults/kept -X DELETE >/dev/null
kubectl wait --for=condition=Ready --timeout=400s virtualmachineimport/retried >/dev/null
assert_eq "ledger of the retried" "$(ledgers retried)" ''
assert_clean "after a retry"

# --- what is left is told, and goes when it may ----------------------------------------------------------------------------------------

wait_status default whole virtualMachineRunning
assert_disk whole 0 1 "$known.raw"
assert_disk whole 1 2
note "the machine of the stuck images runs"
# What the cloud does let go of goes first, and may do so as late as now.
only_images() { left=$(ledgers whole) && [ "$(wc -w <<<"$left")" = 2 ] && [ "$(grep -c image <<<"$left")" = 2 ]; }
wait_for 120 only_images
left_ids=$(os image GET '/images?limit=1000' | jq -r '.images[] | .name + " " + .id' | grep -F "$left" | cut -d' ' -f2)
assert_eq "images that are left" "$(wc -w <<<"$left_ids")" 2
wait_for 120 told whole $left "2 things are left at the source"
left_shown() {
	local name message
	message=$(import_field default whole '{.status.message}')
	for name in $left "is imported, but 2 things are left at the source: " "the next try is at"; do [[ $message == *"$name"* ]] || return 1; done
}
wait_for 60 left_shown
wait_for 120 told deleted "Still at the source, and tried again: Image $deleted_image" 'the image is protected'
[ -n "$(import_field default deleted '{.metadata.finalizers}')" ] || fail "the finalizer is gone before the image"
assert_eq "scratch of the deleted" "$(scratch_of "$deleted_uid")" ''
front_clear
kubectl wait --for=condition=Ready --timeout=400s virtualmachineimport/whole >/dev/null
usual_message() { message=$(import_field default whole '{.status.message}') && [[ $message == *"is imported" ]]; }
wait_for 60 usual_message
wait_for 120 is_gone deleted
assert_eq "ledger at the end" "$(ledgers)" ''
assert_clean "at the end"
assert_eq "files on scratch" "$(find "$SCRATCH" -mindepth 1 ! -name .image-key)" ''
stop_daemon
