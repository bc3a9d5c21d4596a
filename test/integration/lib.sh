# Shared by the scenarios, test_*.sh. One begins with
#
#   #!/bin/bash
#   # A VM that runs is shut down, copied and started on the other side.
#   # needs: vsphere kube
#   # timeout: 300
#   . "$(dirname "$0")/lib.sh"
#
# and goes on with start_vsphere, start_kube, start_daemon and what it wants to see. It runs under `set -Eeuo pipefail`: a command that
# fails fails the test, and its line is named. Everything started here is stopped at the end, by process id; $WORK is removed, unless
# KEEP=1. ctest sets VIC (the program) and SOURCE_DIR; by hand: VIC=build/asan/controller/vm-import-controller bash test_x.sh
set -Eeuo pipefail
shopt -s inherit_errexit

# A network of its own, where root may have one: no port is taken by what runs beside, and those that are fixed can be listened on. What has
# to be fetched for the peers is fetched by "outside". With OUTSIDE= it stays the machine's network, so that the peers can be looked at.
if [ -z "${OUTSIDE+set}" ] && [ "$(id -u)" = 0 ] && unshare --net true 2>/dev/null; then
	exec {OUTSIDE}</proc/self/ns/net
	export OUTSIDE
	loopback_up='import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 1)) # SIOCSIFFLAGS, IFF_UP
os.execvp("bash", ["bash"] + sys.argv[1:])'
	exec unshare --net python3 -c "$loopback_up" "$0" "$@"
fi
outside() { # outside COMMAND...: in the machine's network
	if [ -n "${OUTSIDE:-}" ]; then nsenter --net="/proc/self/fd/$OUTSIDE" -- "$@"; else "$@"; fi
}

SOURCE_DIR=${SOURCE_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
VIC=${VIC:-$SOURCE_DIR/build/dev/controller/vm-import-controller}
PEERS=$SOURCE_DIR/test/peers
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller
NAME=$(basename "$0" .sh)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/vic-$NAME.XXXXXX")
SCRATCH=$WORK/scratch
DAEMON_LOG=$WORK/daemon.log
DAEMON_PID='' DAEMON_PORT=''
GROUP=migration.harvesterhci.io/v1beta1
declare -a vsphere_states=() kube_states=() background=()
began=$SECONDS

# --- what a scenario says ------------------------------------------------------------------------------------------------

note() { printf '[%4ds] %s\n' $((SECONDS - began)) "$*"; }
fail() { note "FAILED: $*" >&2; exit 1; }

# The peer is not to be had: fine on a user's machine, a failure where CI=true says that all is there.
skip() {
	[ "${CI:-}" != true ] || fail "skipped in CI: $*"
	note "SKIPPED: $*"
	exit 77
}

need() { # need COMMAND...
	local c
	for c in "$@"; do command -v "$c" >/dev/null || skip "there is no $c"; done
}

assert_eq() { # assert_eq WHAT GOT WANTED
	[ "$2" = "$3" ] || fail "$1: got \"$2\", wanted \"$3\""
}

assert_contains() { # assert_contains WHAT TEXT PART
	[[ $2 == *"$3"* ]] || fail "$1: \"$3\" is not in \"$2\""
}

assert_same() { # assert_same COPY ORIGINAL: files of the same content
	cmp "$1" "$2" || fail "$1 differs from $2"
}

found() { # COMMAND | found GREP-ARGUMENT...: unlike grep -q it reads to the end, so that the command does not die of a closed pipe
	grep "$@" | cat >/dev/null
}

assert_fails() { # assert_fails STATUS COMMAND...
	local wanted=$1 got=0
	shift
	"$@" || got=$?
	[ "$got" = "$wanted" ] || fail "exit status $got, wanted $wanted: $*"
}

# peak_of PID: the most memory in KiB that a process of ours had until its end
peak_of() {
	local now peak=0
	while now=$(awk '$1 == "VmHWM:" { print $2 }' "/proc/$1/status" 2>/dev/null) && [ -n "$now" ]; do
		peak=$now
		sleep 0.05
	done
	echo "$peak"
}

assert_peak() { # assert_peak WHAT KIB MIB: no more than so many MiB; a sanitizer's memory does not count
	note "$1: $2 KiB at most"
	grep -q '__[at]san_init' "$VIC" || (($2 > 1000 && $2 <= $3 * 1024)) || fail "$1 took $2 KiB, more than $3 MiB"
}

# --- waiting -------------------------------------------------------------------------------------------------------------

# Limits are what a quiet machine needs and some more; a busy one is given three times as long. Only what fails waits for so long.
PATIENCE=3

wait_for() { # wait_for SECONDS COMMAND...: until the command succeeds
	local end=$((SECONDS + $1 * PATIENCE))
	shift
	until "$@" >"$WORK/wait" 2>&1; do
		[ $SECONDS -lt $end ] || fail "in vain waited for: $* ($(tail -n 3 "$WORK/wait"))"
		[ -z "$DAEMON_PID" ] || kill -0 "$DAEMON_PID" 2>/dev/null || fail "the daemon ended while waiting for: $*"
		sleep 0.2
	done
}

free_port() { # a TCP port that nobody on the loopback address has now
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# start_nginx: with the servers on standard input; ends with the scenario
start_nginx() {
	{
		printf 'daemon off; user root; pid %s/nginx.pid; error_log %s/nginx.log;\nevents { worker_connections 1024; }\nhttp {\n' "$WORK" "$WORK"
		printf '%s_temp_path %s/nginx-%s;\n' client_body "$WORK" 1 proxy "$WORK" 2 fastcgi "$WORK" 3 uwsgi "$WORK" 4 scgi "$WORK" 5
		cat
		echo '}'
	} >"$WORK/nginx.conf"
	nginx -c "$WORK/nginx.conf" &
	background+=($!)
}

# --- the vSphere peer ----------------------------------------------------------------------------------------------------

# start_vsphere [INVENTORY [NAME]]: exports VSPHERE_URL, VSPHERE_USER, VSPHERE_PASSWORD, VSPHERE_ADMIN_URL, VSPHERE_CA,
# VSPHERE_THUMBPRINT, and the same for govc. With another NAME a second one runs beside it; the variables are the last one's.
start_vsphere() {
	local inventory=${1:-$PEERS/vsphere/inventory.json} state=$WORK/${2:-vsphere} settings
	need python3 jq curl qemu-img
	peer_go
	vsphere_states+=("$state")
	outside "$PEERS/vsphere/build.sh" >/dev/null || skip "the vSphere peer cannot be built"
	settings=$(VSPHERE_STATE=$state VSPHERE_INVENTORY=$(realpath "$inventory") VSPHERE_LISTEN=127.0.0.1:${VSPHERE_PORT:-0} VSPHERE_ADMIN=127.0.0.1:0 \
		"$PEERS/vsphere/up.sh") || skip "the vSphere peer does not start"
	eval "$settings"
	note "vSphere peer at $VSPHERE_URL"
}

stop_vsphere() { # stop_vsphere [NAME]: it is gone, as a vCenter that is off; start_vsphere makes a new one
	VSPHERE_STATE=$WORK/${1:-vsphere} "$PEERS/vsphere/down.sh"
}

admin_state() { # admin_state JQ-EXPRESSION: of what the vSphere peer says about itself, e.g. '.openLeases | length'
	curl -fsS "$VSPHERE_ADMIN_URL/state" | jq -r "$@"
}

vm_state() { # vm_state PATH-END FIELD: of one VM, e.g. vm_state web-on .Power, vm_state web-on '.Disks[0].Source'
	admin_state --arg vm "$1" ".vms[] | select(.Path == \$vm or (.Path | endswith(\"/\" + \$vm))) | $2"
}

fault() { # fault JSON: a fault of test/peers/vsphere/fault.go; faults_clear takes all away
	curl -fsS -X POST -d "$1" "$VSPHERE_ADMIN_URL/faults" >/dev/null
}

faults_clear() { curl -fsS -X DELETE "$VSPHERE_ADMIN_URL/faults" >/dev/null; }

# Nothing of ours may be left at the source: no lease, no session, no snapshot.
assert_source_clean() {
	wait_for 30 source_clean
}
source_clean() {
	[ "$(admin_state '(.openLeases | length) + (.openSessions | length)')" = 0 ]
}

# --- the Kubernetes peer -------------------------------------------------------------------------------------------------

# start_kube [PART...]: etcd, the API server and these parts (default: controller-manager harvester); exports KUBECONFIG and PATH, and
# installs crds/ (unless KUBE_CRDS=no). A second call starts what is missing.
start_kube() {
	local settings state=$WORK/kube
	[ "$(id -u)" = 0 ] || skip "the Kubernetes peer needs root"
	need openssl qemu-img python3 jq curl
	peer_go
	kube_states=("$state")
	outside "$PEERS/kube/build.sh" >/dev/null || skip "the Kubernetes peer cannot be built"
	settings=$(KUBE_STATE=$state KUBE_PARTS="${*:-controller-manager harvester}" "$PEERS/kube/up.sh") || skip "the Kubernetes peer does not start"
	eval "$settings"
	export KUBE_STATE=$state
	if [ "${KUBE_CRDS:-yes}" = yes ]; then
		kubectl apply -f "$SOURCE_DIR/crds/" >/dev/null
		kubectl wait --for=condition=Established --timeout=180s -f "$SOURCE_DIR/crds/" >/dev/null
	fi
	note "Kubernetes peer, KUBECONFIG=$KUBECONFIG"
}

# build_image: IMAGE is a directory with the image's root file system and configuration (test/peers/image/build.sh); before start_kube, so
# that the node runs it: KUBE_IMAGES="NAME=$IMAGE"
build_image() {
	need buildah debootstrap jq
	IMAGE=$(outside "$PEERS/image/build.sh") || fail "the image cannot be built"
	note "image: $(awk '{ printf "%.1f MB, of which the program is %.2f MB", $1 / 1e6, $2 / 1e6 }' "$IMAGE/size")"
}

start_helm() { # sets HELM and HELM_CRDS; after start_kube
	local built
	built=$(outside "$PEERS/helm/build.sh") || skip "helm cannot be built"
	HELM=$built/helm HELM_CRDS=$built/crds
	export HELM HELM_CACHE_HOME=$WORK/helm HELM_CONFIG_HOME=$WORK/helm HELM_DATA_HOME=$WORK/helm
}

stop_kube() { # stop_kube PART...: e.g. apiserver; start_kube starts it again
	KUBE_STATE=$WORK/kube "$PEERS/kube/down.sh" "$@"
}

# --- the daemon ----------------------------------------------------------------------------------------------------------

# start_daemon [OPTION...]: waits until it is ready. Its port and its scratch directory stay the same over restarts.
start_daemon() {
	[ -x "$VIC" ] || fail "there is no program $VIC"
	[ -z "$DAEMON_PID" ] || fail "start_daemon: it runs already"
	[ -n "$DAEMON_PORT" ] || DAEMON_PORT=$(free_port)
	mkdir -p "$SCRATCH"
	SVC_ADDRESS=${SVC_ADDRESS:-127.0.0.1} DEBUG=${DEBUG:-true} \
		"$VIC" run --scratch "$SCRATCH" --port "$DAEMON_PORT" "$@" </dev/null >>"$DAEMON_LOG" 2>&1 &
	DAEMON_PID=$!
	wait_for 30 curl -fsS "http://127.0.0.1:$DAEMON_PORT/readyz"
	note "daemon ready, pid $DAEMON_PID, port $DAEMON_PORT"
}

stop_daemon() { # stop_daemon [SECONDS]: as Kubernetes does; it must end within the time (30), or three times that on a busy machine, and with status 0
	local pid=$DAEMON_PID status=0 end=$((SECONDS + ${1:-30} * PATIENCE))
	[ -n "$pid" ] || return 0
	DAEMON_PID=''
	kill -TERM "$pid" 2>/dev/null || true
	while kill -0 "$pid" 2>/dev/null; do
		if [ $SECONDS -ge $end ]; then
			kill -KILL "$pid"
			fail "the daemon did not end within $((${1:-30} * PATIENCE)) s of SIGTERM"
		fi
		sleep 0.1
	done
	wait "$pid" || status=$?
	[ $status = 0 ] || fail "the daemon ended with status $status"
}

kill_daemon() { # as a node that loses its power
	local pid=$DAEMON_PID
	DAEMON_PID=''
	kill -KILL "$pid"
	wait "$pid" 2>/dev/null || true
}

metric() { # metric NAME: its value on /metrics, summed over the labels; 0 when it is not there
	curl -fsS "http://127.0.0.1:$DAEMON_PORT/metrics" | awk -v n="$1" '$1 == n || index($1, n "{") == 1 { s += $NF } END { print s + 0 }'
}

# --- objects -------------------------------------------------------------------------------------------------------------

# source_manifest [NS [NAME [DATACENTER]]]: Secret and VmwareSource for the running peer, for kubectl or for the import command
source_manifest() {
	local ns=${1:-default} name=${2:-vcenter} dc=${3:-DC1}
	cat <<-END
	apiVersion: v1
	kind: Secret
	metadata: {name: $name-credentials, namespace: $ns}
	type: Opaque
	stringData:
	  username: "$VSPHERE_USER"
	  password: "$VSPHERE_PASSWORD"
	  caCert: |
	$(sed 's/^/    /' "$VSPHERE_CA")
	---
	apiVersion: $GROUP
	kind: VmwareSource
	metadata: {name: $name, namespace: $ns}
	spec:
	  endpoint: $VSPHERE_URL
	  dc: "$dc"
	  credentials: {name: $name-credentials, namespace: $ns}
	---
	END
}

# import_manifest NS NAME VM [SPEC-LINE...]: e.g. import_manifest default web "web-on" 'forcePowerOff: true'
import_manifest() {
	local ns=$1 name=$2 vm=$3
	shift 3
	cat <<-END
	apiVersion: $GROUP
	kind: VirtualMachineImport
	metadata: {name: $name, namespace: $ns}
	spec:
	  virtualMachineName: "$vm"
	  sourceCluster: {apiVersion: $GROUP, kind: ${SOURCE_KIND:-VmwareSource}, name: ${SOURCE_NAME:-vcenter}, namespace: ${SOURCE_NAMESPACE:-$ns}}
	$([ $# = 0 ] || printf '  %s\n' "$@")
	---
	END
}

apply_source() { # apply_source [NS [NAME [DATACENTER]]]: and waits until it is ready
	local ns=${1:-default} name=${2:-vcenter}
	source_manifest "$@" | kubectl apply -f - >/dev/null
	[ -z "$DAEMON_PID" ] || wait_for 60 source_is "$ns" "$name" clusterReady
}

source_is() { # source_is NS NAME STATUS
	[ "$(kubectl get vmwaresource -n "$1" "$2" -o 'jsonpath={.status.status}')" = "$3" ]
}

apply_import() { # as import_manifest
	import_manifest "$@" | kubectl apply -f - >/dev/null
}

# fetched DIRECTORY NS NAME BYTES: more than so many of its first disk are in this scratch space, which tells before the status does
fetched() {
	local uid blocks
	uid=$(import_field "$2" "$3" '{.metadata.uid}')
	blocks=$(find "$1" -path "*$uid/disk-0.raw" -printf '%b\n')
	[ "${blocks:-0}" -gt $(($4 / 512)) ]
}

apply_network() { # apply_network NS NAME: a NetworkAttachmentDefinition as a destination
	kubectl apply -f - >/dev/null <<-END
	apiVersion: k8s.cni.cncf.io/v1
	kind: NetworkAttachmentDefinition
	metadata: {name: $2, namespace: $1}
	spec: {config: '{"cniVersion": "0.3.1", "name": "$2", "type": "bridge", "bridge": "br0"}'}
	END
}

import_field() { # import_field NS NAME JSONPATH, e.g. '{.status.message}'
	kubectl get virtualmachineimports.migration.harvesterhci.io -n "$1" "$2" -o "jsonpath=$3"
}

# wait_status NS NAME STATE [SECONDS]: fails at once when the import ends in another state
wait_status() {
	local ns=$1 name=$2 wanted=$3 end=$((SECONDS + ${4:-120} * PATIENCE)) now
	while :; do
		now=$(import_field "$ns" "$name" '{.status.importStatus}' 2>/dev/null || true)
		[ "$now" != "$wanted" ] || break
		case $now in
		virtualMachineRunning | VMMigrationFailed | virtualMachineImportInvalid)
			fail "$ns/$name is $now, wanted $wanted: $(import_field "$ns" "$name" '{.status.message}')"
			;;
		esac
		[ $SECONDS -lt $end ] || fail "$ns/$name is still \"$now\", wanted $wanted: $(import_field "$ns" "$name" '{.status.message}')"
		[ -z "$DAEMON_PID" ] || kill -0 "$DAEMON_PID" 2>/dev/null || fail "the daemon ended while $ns/$name was \"$now\""
		sleep 0.3
	done
	note "$ns/$name is $wanted"
}

# record_states NS NAME FILE: writes each importStatus that a watch shows, a line a change, until the end of the test; some time after it was
# set. Called before the object exists, so that none can be missing.
record_states() {
	: >"$3"
	kubectl get virtualmachineimports.migration.harvesterhci.io -n "$1" --field-selector "metadata.name=$2" --watch -v=6 \
		-o 'jsonpath={.status.importStatus}{"\n"}' 2>"$3.log" > >(while IFS= read -r state; do
			[ -z "$state" ] || [ "$state" = "$(tail -n 1 "$3")" ] || echo "$state" >>"$3"
		done) &
	background+=($!)
	wait_for 30 grep -q 'watch=true' "$3.log"
}

# --- guests --------------------------------------------------------------------------------------------------------------

make_guest() { # make_guest OUT.raw [OPTION...]: options as of guest.sh
	local out=$1
	shift
	mkdir -p "$CACHE"
	B=$CACHE/guest outside "$PEERS/guest/guest.sh" "$@" "$out"
}

boot_guest() { # boot_guest LOG IMAGE [QEMU-OPTION...]: until it has turned itself off; LOG gets its GUEST lines
	local log=$1
	shift
	need qemu-system-x86_64
	B=$CACHE/guest timeout 300 "$PEERS/guest/guest.sh" run -o "$@" >"$log" || fail "the guest did not boot: $(tail -n 5 "$log")"
}

# --- start and end -------------------------------------------------------------------------------------------------------

peer_go() {
	local settings
	settings=$(outside "$PEERS/go.sh") || skip "there is no Go"
	eval "$settings"
}

finish() {
	local status=$? s pid
	trap - ERR EXIT
	trap : TERM INT
	set +e
	[ ! -e "$WORK/overdue" ] || cat "$WORK/overdue" >&2
	if [ $status != 0 ] && [ $status != 77 ]; then
		{
			[ ! -s "$DAEMON_LOG" ] || { echo "--- the end of the daemon's log"; tail -n 60 "$DAEMON_LOG"; }
			if [ ${#kube_states[@]} != 0 ] && [ -e "$WORK/kube/admin.kubeconfig" ]; then
				echo "--- imports"
				timeout 10 kubectl get virtualmachineimports.migration.harvesterhci.io -A -o wide
			fi
		} >&2
	fi
	if [ -n "$DAEMON_PID" ]; then
		kill -TERM "$DAEMON_PID" 2>/dev/null
		for _ in $(seq 600); do
			kill -0 "$DAEMON_PID" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL "$DAEMON_PID" 2>/dev/null && echo "the daemon had to be killed" >&2 && status=1
		wait "$DAEMON_PID" 2>/dev/null
		s=$?
		# A leak that a sanitizer found at the end is a failure too.
		if [ $s != 0 ] && [ $status = 0 ]; then
			status=1
			note "FAILED: the daemon ended with status $s" >&2
			tail -n 60 "$DAEMON_LOG" >&2
		fi
	fi
	for pid in "${background[@]}"; do kill "$pid" 2>/dev/null; done
	! declare -F stop_openstack >/dev/null || stop_openstack
	for s in "${vsphere_states[@]}"; do VSPHERE_STATE=$s "$PEERS/vsphere/down.sh" kill; done
	for s in "${kube_states[@]}"; do KUBE_STATE=$s "$PEERS/kube/down.sh" kill; done
	if [ "${KEEP:-}" = 1 ]; then
		echo "kept: $WORK" >&2
	else
		rm -rf "$WORK"
	fi
	[ $status != 0 ] || note "passed"
	exit $status
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
trap 'note "FAILED: ${BASH_SOURCE[0]##*/} line $LINENO${FUNCNAME[0]:+ (called from line ${BASH_LINENO[0]})}: $BASH_COMMAND" >&2' ERR

# ctest kills without mercy when the time is up, and then the peers would stay: end before.
limit=$(sed -n '/^# timeout:/{s/^# timeout: *\([0-9]*\).*/\1/p;q}' "$0")
limit=$((${limit:-300} - 20))
(
	trap - EXIT ERR
	set +e
	sleep $((limit > 10 ? limit : 10)) &
	trap 'kill $!; exit' TERM
	wait
	echo "FAILED: still running after $limit s" >"$WORK/overdue"
	kill -TERM $$
	# What the script waits for has to end before it hears that.
	for pid in $(cat /proc/$$/task/$$/children); do [ "$pid" = "$BASHPID" ] || kill -TERM "$pid"; done
) </dev/null >/dev/null 2>&1 &
background+=($!)
