#!/bin/bash
# The rights that the manifests give are enough: an import runs, and the API server refuses nothing. Then each rule is taken away in turn: the
# daemon says which verb on which resource it lacks, in the import, the source or its log, stays up, and goes on when the rule is given back.
# needs: vsphere kube
# timeout: 840
. "$(dirname "$0")/lib.sh"

export KUBE_HARVESTER_FLAGS='-boot-time 0 -retry-after 100ms'
# A small machine for each import: two exports of one would wait for each other.
jq '.lease.initSeconds = 0.1 | .datacenters[0].vms += [("whole", "last", range(1; 8) | if type == "number" then "without-\(.)" else . end) |
	{name: ., nics: [{network: "VM Network"}], disks: [{capacityMB: 16, fill: {seed: 7, percent: 50}}]}]' \
	"$PEERS/vsphere/inventory.json" >"$WORK/inventory.json"
start_vsphere "$WORK/inventory.json"
start_kube
admin=$KUBECONFIG

kubectl create --dry-run=client -o json -f "$SOURCE_DIR/deploy/manifests.yaml" |
	jq -s '[.[] | if .kind == "List" then .items[] else . end]' >"$WORK/manifests.json"
of_kind() { jq "[.[] | select(.kind | IN($1))] | {apiVersion: \"v1\", kind: \"List\", items: .}" "$WORK/manifests.json"; }
namespace=$(jq -r '[.[] | select(.kind == "ServiceAccount")][0].metadata.namespace' "$WORK/manifests.json")
account=$(jq -r '[.[] | select(.kind == "ServiceAccount")][0].metadata.name' "$WORK/manifests.json")
kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace" >/dev/null
of_kind '"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"' | kubectl apply -f - >/dev/null
of_kind '"ClusterRole"' | jq '.items[0]' >"$WORK/role.json"
role=$(jq -r .metadata.name "$WORK/role.json")
sed "s/token: .*/token: \"$(kubectl create token "$account" -n "$namespace")\"}}]/; s/namespace: default/namespace: $namespace/" "$admin" >"$WORK/daemon.kubeconfig"
with_role() { export KUBECONFIG=$WORK/daemon.kubeconfig; start_daemon "$@"; export KUBECONFIG=$admin; }

apply_network default vlan
run_import() { # run_import NAME: with all that needs a right
	apply_import default "$1" "$1" 'targetPowerState: "off"' 'storageClass: harvester-longhorn' \
		'networkMapping: [{sourceNetwork: "VM Network", destinationNetwork: default/vlan}]'
}

# --- all that is needed, and no more asked for ---
with_role
apply_source
run_import whole
wait_status default whole virtualMachineRunning 90
assert_eq 'requests that were refused' "$(curl -fsS "http://127.0.0.1:$DAEMON_PORT/metrics" | grep -c '^rest_client_requests_total{.*code="403"' || true)" 0
grep -q '^rest_client_requests_total' <(curl -fsS "http://127.0.0.1:$DAEMON_PORT/metrics") || fail 'no requests are counted'
! grep -i forbidden "$DAEMON_LOG" || fail 'something was refused'
note "an import under the role of the manifests: nothing was refused"

# may VERB RESOURCE[/SUBRESOURCE]: whether the account may, in any namespace; the API server hears of a change of the roles a little later
may() {
	local sub=''
	[[ $2 != */* ]] || sub=--subresource=${2#*/}
	kubectl auth can-i "$1" "${2%%/*}" ${sub:+"$sub"} -A --as="system:serviceaccount:$namespace:$account" >/dev/null
}
may_not() { ! may "$@"; }

# --- each rule in turn ---
take() { # take RESOURCE: the rules that name it
	jq --arg r "$1" 'del(.rules[] | select(.resources | index($r)))' "$WORK/role.json" | kubectl apply -f - >/dev/null
	! jq -e --arg r "$1" '[.rules[] | select(.resources | index($r))] == []' "$WORK/role.json" >/dev/null || fail "no rule names $1"
}
give() { # give VERB RESOURCE: all rules, the one that allows this too
	kubectl apply -f "$WORK/role.json" >/dev/null
	wait_for 60 may "$@"
}

# told PATTERN: by an import, a source or the log, since the rule was taken
told() {
	{
		kubectl get virtualmachineimports.migration.harvesterhci.io,vmwaresources -A \
			-o 'jsonpath={range .items[*]}{.status.message} {.status.conditions[*].message}{"\n"}{end}'
		tail -n "+$((log_lines + 1))" "$DAEMON_LOG"
	} | grep -E "$1" >"$WORK/told"
}
n=0
without() { # without RESOURCE VERBS [COMMAND...]: what is told then; COMMAND: what needs the right, by default an import
	local resource=$1 verbs=$2 name
	shift 2
	n=$((n + 1)) name=without-$n
	log_lines=$(wc -l <"$DAEMON_LOG")
	take "$resource"
	wait_for 60 may_not "${verbs%%|*}" "$resource"
	if [ $# = 0 ]; then run_import "$name"; else "$@"; fi
	wait_for 60 told "cannot ($verbs) ${resource%%/*}.*${resource##*/}"
	curl -fsS "http://127.0.0.1:$DAEMON_PORT/healthz" >/dev/null || fail "it is not alive without $resource"
	note "without $resource: $(head -n 1 "$WORK/told" | grep -oE "cannot ($verbs) .*" | cut -c 1-130)"
	give "${verbs%%|*}" "$resource"
}

other_source() { source_manifest default other | kubectl apply -f - >/dev/null; }

without virtualmachineimports patch
without virtualmachineimports/status patch
without storageclasses 'get|list'
without network-attachment-definitions list
without virtualmachines 'get|list|create'
without virtualmachineimages 'list|create'
without persistentvolumeclaims create
without secrets 'get|list|watch' other_source
for i in $(seq 7); do wait_status default "without-$i" virtualMachineRunning 120; done
wait_for 90 source_is default other clusterReady
assert_eq 'machines' "$(kubectl get vm -o name | wc -l)" 8
note 'all imports went on'

# --- what it does without: said once, at the start ---
stop_daemon
jq '.rules |= map(select((.resources | index("customresourcedefinitions") or index("events")) | not))' "$WORK/role.json" | kubectl apply -f - >/dev/null
kubectl delete role -n "$namespace" --all >/dev/null
may_no_lease() { ! kubectl auth can-i patch leases -n "$namespace" --as="system:serviceaccount:$namespace:$account" >/dev/null; }
wait_for 60 may_not create events.events.k8s.io
wait_for 60 may_not create customresourcedefinitions
wait_for 60 may_no_lease
: >"$DAEMON_LOG"
with_role
wait_for 30 grep -q 'some powers are missing' "$DAEMON_LOG"
for part in 'customresourcedefinitions' 'create events' 'leases'; do
	assert_contains 'what it does without' "$(grep 'some powers are missing' "$DAEMON_LOG")" "$part"
done
run_import last
wait_status default last virtualMachineRunning 90
note 'without events, leases and its own definitions it works'
