#!/bin/bash
# The daemon's start in a cluster that has none of its definitions, with the role that Harvester's chart gives: it makes the definitions,
# says once what it may not do, and works; a newer definition is kept, an older one and Harvester's are brought up to date; a role that
# may not touch them is enough once they are there; an API server that is away at the start is waited for.
# needs: vsphere kube
# timeout: 600
. "$(dirname "$0")/lib.sh"
KUBE_CRDS=no
start_vsphere
start_kube controller-manager harvester
admin=$KUBECONFIG
imports=virtualmachineimports.migration.harvesterhci.io

# as ACCOUNT RULES: KUBECONFIG of a service account with these rules of a ClusterRole
as() {
	local account=$1 token
	kubectl create serviceaccount "$account" -n kube-system >/dev/null
	kubectl create clusterrolebinding "$account" --clusterrole="$account" --serviceaccount="kube-system:$account" >/dev/null
	printf '{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "%s"}, "rules": %s}' "$account" "$2" |
		kubectl apply -f - >/dev/null
	token=$(kubectl create token "$account" -n kube-system)
	sed "s/token: .*/token: \"$token\"}}]/" "$admin" >"$WORK/$account.kubeconfig"
	wait_for 60 kubectl --kubeconfig="$WORK/$account.kubeconfig" auth can-i list virtualmachineimages.harvesterhci.io
}
annotation() { kubectl get crd $imports -o 'jsonpath={.metadata.annotations.migration\.harvesterhci\.io/revision}'; }
lines() { grep -c "$1" "$DAEMON_LOG" || true; }
said() { wait_for 30 grep -q "$1" "$DAEMON_LOG"; } # it may say so a little after it is ready
with() { export KUBECONFIG=$WORK/$1.kubeconfig; start_daemon; export KUBECONFIG=$admin; }
restart() { stop_daemon; : >"$DAEMON_LOG"; with "$1"; }

# The role of Harvester's chart.
as harvester '[
	{"apiGroups": ["migration.harvesterhci.io"], "resources": ["*"], "verbs": ["*"]},
	{"apiGroups": ["kubevirt.io"], "resources": ["virtualmachines"], "verbs": ["*"]},
	{"apiGroups": ["harvesterhci.io"], "resources": ["virtualmachineimages"], "verbs": ["*"]},
	{"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["*"]},
	{"apiGroups": ["k8s.cni.cncf.io"], "resources": ["network-attachment-definitions"], "verbs": ["list", "watch"]},
	{"apiGroups": [""], "resources": ["secrets", "persistentvolumeclaims"], "verbs": ["*"]},
	{"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["get", "list", "watch"]}]'
with harvester
said 'some powers are missing'
assert_eq "definitions made" "$(kubectl get crd -o name | grep -c migration.harvesterhci.io)" 5
assert_eq "lines about definitions made" "$(lines 'definition made')" 5
assert_eq "lines about what is missing" "$(lines 'some powers are missing')" 1
missing=$(grep 'some powers are missing' "$DAEMON_LOG")
assert_contains "what is missing" "$missing" "create events (no events are written"
assert_contains "what is missing" "$missing" "patch leases (no leader election"
[[ $missing != *customresourcedefinitions* && $missing != *secrets* ]] || fail "it has the rights to what it says is missing: $missing"
assert_eq "lines about what imports need" "$(lines 'imports need')" 0
revision=$(annotation)

apply_source
apply_import default one web-on 'forcePowerOff: true'
wait_status default one virtualMachineRunning 60
assert_eq "events" "$(kubectl get events.events.k8s.io -A --field-selector reportingController=vm-import-controller -o name | wc -l)" 0
note "an import runs under the role of Harvester's chart"

# One that a later version left is kept; one of an earlier version, and Harvester's, are brought up to date.
changed() { # changed REVISION: as somebody else's, with another description
	kubectl get crd $imports -o json | jq --argjson revision "$1" '.metadata.annotations["migration.harvesterhci.io/revision"] = $revision |
		.spec.versions[0].schema.openAPIV3Schema.description = "changed" | del(.metadata.managedFields)' | kubectl replace -f - >/dev/null
}
described() { kubectl get crd $imports -o 'jsonpath={.spec.versions[0].schema.openAPIV3Schema.description}'; }
changed '"1000"'
restart harvester
said 'newer than this'
assert_eq "revision of a newer definition" "$(annotation) $(described)" "1000 changed"
assert_eq "lines about a newer definition" "$(lines 'newer than this')" 1
for older in '"0"' null '"no number"'; do
	changed "$older"
	assert_eq "description" "$(described)" changed
	restart harvester
	said 'definition brought up to date'
	assert_eq "revision instead of $older" "$(annotation)" "$revision"
	[ "$(described)" != changed ] || fail "a definition of the revision $older was kept"
done
assert_eq "the import" "$(import_field default one '{.status.importStatus}')" virtualMachineRunning
note "a newer definition is kept, an older one is brought up to date"

# The definitions are none of its business: fine while they are there. Some rights that it needs are missing, and it says which.
as little '[
	{"apiGroups": ["migration.harvesterhci.io"], "resources": ["*"], "verbs": ["*"]},
	{"apiGroups": ["kubevirt.io"], "resources": ["virtualmachines"], "verbs": ["get", "list", "watch"]},
	{"apiGroups": ["harvesterhci.io"], "resources": ["virtualmachineimages"], "verbs": ["*"]},
	{"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
	{"apiGroups": [""], "resources": ["secrets", "persistentvolumeclaims"], "verbs": ["*"]},
	{"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": ["get", "list", "watch"]}]'
restart little
said 'some powers are missing'
said 'imports need'
assert_eq "definitions left alone" "$(lines 'a definition is left')" 5
assert_contains "the line" "$(grep 'imports need' "$DAEMON_LOG")" "create virtualmachines (no machine can be made); list network-attachment-definitions"
assert_contains "the line" "$(grep 'some powers' "$DAEMON_LOG")" "kubectl apply -f crds/"
note "rights that imports need are named when they are missing"

# Nobody answers when it starts: it stops when told, and else goes on when somebody does.
stop_daemon
stop_kube apiserver
: >"$DAEMON_LOG"
SVC_ADDRESS=127.0.0.1 KUBECONFIG=$WORK/harvester.kubeconfig "$VIC" run --scratch "$SCRATCH" --port "$DAEMON_PORT" </dev/null >>"$DAEMON_LOG" 2>&1 &
DAEMON_PID=$!
wait_for 20 curl -fsS "http://127.0.0.1:$DAEMON_PORT/healthz"
stop_daemon 12
SVC_ADDRESS=127.0.0.1 KUBECONFIG=$WORK/harvester.kubeconfig "$VIC" run --scratch "$SCRATCH" --port "$DAEMON_PORT" </dev/null >>"$DAEMON_LOG" 2>&1 &
DAEMON_PID=$!
wait_for 20 curl -fsS "http://127.0.0.1:$DAEMON_PORT/healthz"
start_kube controller-manager harvester
wait_for 60 curl -fsS "http://127.0.0.1:$DAEMON_PORT/readyz"
wait_for 40 grep -q 'some powers are missing' "$DAEMON_LOG"
note "an API server that is away at the start is waited for"
