#!/bin/bash
# Shows an import from beginning to end on this machine, and checks it:
#
#   deploy/demo.sh [-o DIR]     a running VM of a vSphere simulator becomes disk images and a KubeVirt manifest in DIR (./demo-out)
#   deploy/demo.sh --cluster    the same through a real Kubernetes API server with a stand-in for Harvester, by kubectl
#
# What came out is booted in QEMU: the guest says what disks and NICs it finds, and that has to be what the source has.
# Debian 12 with root or sudo. It installs the Debian packages that are missing, builds the program, and stops all that it started.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller
cluster=0 out=$root/demo-out

usage() { sed -n '2,9s/^# \?//p' "$0"; }
while [ $# -gt 0 ]; do
	case $1 in
	--cluster) cluster=1 ;;
	-o | --output)
		[ $# -gt 1 ] || { usage >&2; exit 2; }
		out=$(realpath -m "$2")
		shift
		;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
steps=$((cluster ? 8 : 6)) step=0
step() { step=$((step + 1)); printf '%s[%d/%d] %3d s  %s%s\n' "$bold" $step $steps $SECONDS "$*" "$plain"; }
tell() { printf '    %s\n' "$@"; }
die() { printf '%sdemo.sh: %s%s\n' "$bold" "$*" "$plain" >&2; exit 1; }
shown() { printf '    %s$ %s%s\n' "$bold" "$1" "$plain"; } # a command as a user types it
run() { # shows the command and runs it, the output indented
	shown "$*"
	"$@" 2>&1 | sed 's/^/    /'
}
quietly() { # quietly COMMAND...: its output only when it fails
	"$@" >"$work/log" 2>&1 </dev/null || { tail -n 40 "$work/log" >&2; die "failed: $*"; }
}

work=$(mktemp -d "${TMPDIR:-/tmp}/vic-demo.XXXXXX")
daemon='' watch='' guest=''
export VSPHERE_STATE=$work/vsphere KUBE_STATE=$work/kube
finish() {
	local pid
	for pid in $guest $watch $daemon; do kill "$pid" 2>/dev/null || true; done
	[ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
	[ ! -e "$VSPHERE_STATE/pid" ] || "$root/test/peers/vsphere/down.sh" || true
	[ ! -d "$KUBE_STATE/run" ] || "$root/test/peers/kube/down.sh" || true
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

step "Packages and the program"
"$root/deploy/packages.sh" build peers
settings=$("$root/test/peers/go.sh")
eval "$settings"
cd "$root"
quietly cmake --preset release -DVIC_TESTS=OFF
quietly cmake --build build/release -j "$(nproc)"
vic=$root/build/release/controller/vm-import-controller
PATH=$root/build/release/controller:$PATH
tell "$("$vic" version)"

# --- the source ----------------------------------------------------------------------------------------------------------

pattern() { # pattern MIB NAME: bytes that look random, the same each time
	head -c $(($1 << 20)) /dev/zero | openssl enc -aes-128-ctr -nosalt -pass "pass:$2" -md sha256 -pbkdf2 2>/dev/null
}
make_disks() {
	mkdir -p "$disks"
	B=$cache/guest test/peers/guest/guest.sh -n demo "$boot"
	truncate -s 512M "$data.new"
	pattern 48 one | dd of="$data.new" bs=1M conv=notrunc iflag=fullblock
	pattern 112 two | dd of="$data.new" bs=1M seek=200 conv=notrunc iflag=fullblock
	mv "$data.new" "$data"
}
# They are made once: the name says from what.
disks=$cache/demo-$({ declare -f pattern make_disks; cat test/peers/guest/guest.sh; } | sha256sum | cut -c1-12)
boot=$disks/boot.raw data=$disks/data.raw
step "A VM at the source: a small Linux that boots, and a data disk (512 MiB, 160 of them in use)"
[ -e "$data" ] || quietly make_disks
tell "disk 1: $(stat -c %s "$boot") bytes, disk 2: $(stat -c %s "$data") bytes"

step "A vSphere endpoint: govmomi's simulator, with exports of real disks as an ESXi host sends them"
sed "s#@BOOT_DISK@#$boot#; s#@DATA_DISK@#$data#" deploy/demo/inventory.json >"$work/inventory.json"
settings=$(VSPHERE_INVENTORY=$work/inventory.json VSPHERE_LISTEN=127.0.0.1:0 VSPHERE_ADMIN=127.0.0.1:0 test/peers/vsphere/up.sh 2>"$work/log") ||
	{ tail -n 40 "$work/log" >&2; die "the simulator does not start"; }
eval "$settings"
tell "$VSPHERE_URL: \"Demo VM 01\" is powered on"

# manifests DIR: the files of deploy/demo with this simulator's address and certificate
manifests() {
	awk -v url="$VSPHERE_URL" -v certificate="$VSPHERE_CA" '
		/@VSPHERE_CERTIFICATE@/ { while ((getline line <certificate) > 0) print "    " line; next }
		{ sub(/@VSPHERE_URL@/, url); print }' deploy/demo/manifests.yaml >"$1/manifests.yaml"
}

# --- the check -----------------------------------------------------------------------------------------------------------

# Arguments: a file "BUS FILE" a disk, a file "MODEL MAC" a NIC, and cores and sockets, all in the order of the new VM.
boot_and_compare() {
	local log=$work/guest.log args=() bus file model mac n=0 first='' firstbus='' wanted driver got i
	local -A port=([sata]=0 [scsi]=0 [usb]=0)
	while read -r bus file; do
		[ -s "$file" ] || die "there is no disk $file"
		if [ $n = 0 ]; then
			first=$file firstbus=$bus
		else
			args+=(-drive "if=none,id=d$n,format=raw,snapshot=on,file=$file")
			port[$bus]=$((${port[$bus]:-0} + 1))
			if [ "$bus" != "$firstbus" ] && [ "$bus" != virtio ]; then die "the demo's disks are on one bus, not on $firstbus and $bus"; fi
			case $bus in
			virtio) args+=(-device "virtio-blk-pci,drive=d$n,serial=disk$n") ;;
			sata) args+=(-device "ide-hd,drive=d$n,serial=disk$n,bus=sata.${port[$bus]}") ;;
			scsi) args+=(-device "scsi-hd,drive=d$n,serial=disk$n,bus=scsi.0") ;;
			usb) args+=(-device "usb-storage,drive=d$n,serial=disk$n,bus=usb.0") ;;
			*) die "the manifest has a disk on a bus \"$bus\"" ;;
			esac
		fi
		n=$((n + 1))
	done <"$1"
	[ $n = 2 ] || die "the new VM has $n disks, the source 2"
	n=0
	while read -r model mac; do
		case $model in virtio) driver=virtio-net-pci ;; *) driver=$model ;; esac
		args+=(-netdev "user,id=n$n,restrict=on" -device "$driver,netdev=n$n,mac=$mac")
		n=$((n + 1))
	done <"$2"
	B=$cache/guest test/peers/guest/guest.sh run -o -b "$firstbus" "$first" -m 512 -smp "$(($3 * $4)),sockets=$4,cores=$3" \
		"${args[@]}" >"$log" 2>"$work/log" &
	guest=$!
	tail -f -n +1 --pid=$guest "$log" 2>/dev/null | sed -un 's/^\(GUEST [^\r]*\).*/    \1/p' &
	i=$!
	wait $guest || { tail -n 20 "$work/log" "$log" >&2; die "the guest did not boot"; }
	guest=''
	wait $i || true

	# What the guest says, against what the source has. The guest names its disks and NICs in the order in which their drivers came up.
	n=0
	for file in "$boot" "$data"; do
		wanted="bytes=$(stat -c %s "$file") sha256=$(head -c $((64 << 20)) "$file" | sha256sum | cut -d' ' -f1)"
		got=$(sed -n 's/^GUEST disk .*\(bytes=[0-9]*\) .*\(sha256=[0-9a-f]*\) .*serial='"disk$n"'[^0-9]*$/\1 \2/p' "$log")
		n=$((n + 1))
		[ "$got" = "$wanted" ] || die "disk $n: the source has $wanted, the guest finds ${got:-nothing}"
		tell "disk $n   same $wanted"
		cmp "$file" "$(sed -n "${n}s/^[^ ]* //p" "$1")" || die "disk $n differs from the source's"
	done
	tell "disks    every byte of both is the source's"
	wanted='00:50:56:8a:01:01 virtio_net 00:50:56:8a:01:02 e1000e'
	got=$(sed -n 's/^GUEST nic .*mac=\([0-9a-f:]*\) driver=\([a-z0-9_]*\) pci=\([0-9a-f:.]*\).*/\3 \1 \2/p' "$log" | sort | cut -d' ' -f2- | xargs)
	[ "$got" = "$wanted" ] || die "NICs: wanted $wanted, the guest finds ${got:-none}"
	tell "NICs     same $got"
	got=$(sed -n 's/^GUEST cpu \(vcpus=[0-9]* sockets=[0-9]* cores_per_socket=[0-9]*\).*/\1/p' "$log")
	[ "$got" = 'vcpus=2 sockets=1 cores_per_socket=2' ] || die "CPUs: the source has 2 in one socket, the guest finds ${got:-none}"
	tell "CPUs     same $got"
}

# Source's side: given back as it should be.
source_is_clean() {
	local state
	state=$(curl -fsS "$VSPHERE_ADMIN_URL/state" | jq -r '"\(.openLeases | length) \(.leases.completed) \(.vms[0].Power)"')
	[ "$state" = '0 1 poweredOff' ] || die "the source has (open leases, completed ones, power) $state, not 0 1 poweredOff"
	tell "source   shut down by its guest, export lease completed, nothing left open"
}

# --- without a cluster ---------------------------------------------------------------------------------------------------

if [ $cluster = 0 ]; then
	if [ -e "$out" ] && [ ! -e "$out/.made-by-demo" ] && [ -n "$(ls -A "$out" 2>/dev/null)" ]; then
		die "$out is there and was not made by the demo; name another directory with -o"
	fi
	rm -rf "${out:?}"
	mkdir -p "$out"
	touch "$out/.made-by-demo"
	manifests "$out"

	step "The import"
	shown "vm-import-controller import -f $out/manifests.yaml -o $out"
	vm-import-controller import -f "$out/manifests.yaml" -o "$out" >"$work/result" || { cat "$work/result"; die "the import failed"; }

	step "What came out"
	vm=$out/demo-vm-01
	sed 's/^/    /' "$work/result"
	run ls -lsh "$vm"
	run cat "$vm/virtualmachine.yaml"

	step "The imported disks boot"
	# The lists' entries are in the order of the source.
	value() { sed -n "s/^ *\(- \)\?$1: *[\"']\?\([^\"']*\)[\"']\?\$/\2/p" "$vm/virtualmachine.yaml"; }
	paste -d' ' <(value bus) <(value claimName | sed "s#^#$vm/#") >"$work/disks"
	paste -d' ' <(value model) <(value macAddress) >"$work/nics"
	boot_and_compare "$work/disks" "$work/nics" "$(value cores)" "$(value sockets)"
	source_is_clean
	printf '%sDone in %d s.%s Everything is in %s\n' "$bold" $SECONDS "$plain" "$out"
	exit 0
fi

# --- with a cluster ------------------------------------------------------------------------------------------------------

step "Kubernetes: kube-apiserver, etcd, and a stand-in for Harvester (built once, in some 10 minutes)"
[ "$(id -u)" = 0 ] || die "--cluster needs root"
test/peers/kube/build.sh 2>&1 >"$work/log" | sed 's/^/    /'
settings=$(KUBE_PARTS='controller-manager harvester' test/peers/kube/up.sh 2>"$work/log") ||
	{ tail -n 40 "$work/log" >&2; die "the cluster does not start"; }
eval "$settings"
tell "$(kubectl version 2>/dev/null | grep Server)"
run kubectl apply -f crds/
quietly kubectl wait --for=condition=Established --timeout=60s -f crds/

step "The controller, as a process"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$work/scratch"
shown "SVC_ADDRESS=127.0.0.1 vm-import-controller run --scratch $work/scratch --port $port &"
SVC_ADDRESS=127.0.0.1 "$vic" run --scratch "$work/scratch" --port "$port" >"$work/daemon.log" 2>&1 </dev/null &
daemon=$!
for ((i = 0; ; i++)); do
	! curl -fsS "http://127.0.0.1:$port/readyz" >/dev/null 2>&1 || break
	if [ $i = 150 ] || ! kill -0 $daemon 2>/dev/null; then
		tail -n 40 "$work/daemon.log" >&2
		die "the controller does not get ready"
	fi
	sleep 0.2
done
tell "ready"

step "The import"
mkdir "$work/manifests"
cp deploy/demo/networks.yaml "$work/manifests/"
manifests "$work/manifests"
run kubectl apply -f "$work/manifests/"
shown 'kubectl get virtualmachineimports --watch'
kubectl get virtualmachineimports.migration.harvesterhci.io --watch > >(sed -u 's/^/    /') 2>/dev/null &
watch=$!
state=''
for ((i = 0; i < 600; i++)); do
	state=$(kubectl get virtualmachineimports.migration.harvesterhci.io demo -o 'jsonpath={.status.importStatus}')
	case $state in virtualMachineRunning | VMMigrationFailed | virtualMachineImportInvalid) break ;; esac
	kill -0 $daemon 2>/dev/null || break
	sleep 0.5
done
kill $watch 2>/dev/null || true
wait $watch 2>/dev/null || true
watch=''
run kubectl describe virtualmachineimports demo
if [ "$state" != virtualMachineRunning ]; then
	tail -n 40 "$work/daemon.log" >&2
	die "the import is \"$state\": $(kubectl get virtualmachineimports demo -o 'jsonpath={.status.message}')"
fi
run kubectl get virtualmachineimages,persistentvolumeclaims,virtualmachines

step "The imported volumes boot"
kubectl get virtualmachines.kubevirt.io demo-vm-01 -o json >"$work/vm.json"
jq -r '.spec.template.spec | [.domain.devices.disks, .volumes] | transpose[] | "\(.[0].disk.bus) \(.[1].persistentVolumeClaim.claimName)"' \
	"$work/vm.json" |
	while read -r bus claim; do
		echo "$bus $KUBE_STATE/volumes/$(kubectl get persistentvolumeclaims "$claim" -o 'jsonpath={.spec.volumeName}')"
	done >"$work/disks"
jq -r '.spec.template.spec.domain.devices.interfaces[] | "\(.model) \(.macAddress)"' "$work/vm.json" >"$work/nics"
boot_and_compare "$work/disks" "$work/nics" "$(jq .spec.template.spec.domain.cpu.cores "$work/vm.json")" \
	"$(jq .spec.template.spec.domain.cpu.sockets "$work/vm.json")"
source_is_clean

step "Stop"
kill $daemon
wait $daemon || { tail -n 20 "$work/daemon.log" >&2; die "the controller ended with an error"; }
daemon=''
[ -z "$(find "$work/scratch" -name '*.raw')" ] || die "disks are left in the scratch directory"
printf '%sDone in %d s.%s\n' "$bold" $SECONDS "$plain"
