#!/bin/bash
# /metrics is what Prometheus takes, has the conventional names, and its numbers are true; /healthz and /readyz; SIGTERM while the API
# server does not answer.
# needs: vsphere kube
# timeout: 600
. "$(dirname "$0")/lib.sh"

need python3
promtool=$(outside "$PEERS/prometheus/build.sh")/promtool || skip "promtool cannot be built"
cat >"$WORK/inventory.json" <<'END'
{"user": "u", "password": "p", "lease": {"initSeconds": 0.1, "timeoutSeconds": 300}, "nfc": {"streamMBps": 0, "maxStreams": 52},
"datacenters": [{"name": "DC1", "hosts": [{"name": "esx1.test", "address": "127.0.0.11:0"}], "networks": [{"name": "VM Network"}], "vms": [
{"name": "small", "nics": [{"network": "VM Network"}], "disks": [{"capacityMB": 16, "fill": {"seed": 3, "percent": 50}}]}]}]}
END
export KUBE_HARVESTER_FLAGS='-boot-time 0'
start_vsphere "$WORK/inventory.json"
start_kube
start_daemon --leader-elect=auto
apply_source
apply_import default small small
apply_import default none no-such-machine
wait_status default small virtualMachineRunning 120
invalid() { [ "$(import_field default none '{.status.importStatus}')" = virtualMachineImportInvalid ]; }
wait_for 60 invalid

url=http://127.0.0.1:$DAEMON_PORT
# What the numbers count is over when nothing is left to do and the same is told twice.
settled() {
	local state
	curl -fsS "$url/metrics" >"$WORK/metrics"
	for state in Running ImportInvalid; do grep -q "^vm_import_imports{.*state=\"virtualMachine$state\".*} 1\$" "$WORK/metrics" || return 1; done
	before=$now now=$(grep -E '^(workqueue_adds_total|workqueue_work_duration_seconds_count|workqueue_depth)' "$WORK/metrics")
	[ "$now" = "$before" ]
}
now=''
wait_for 60 settled
# Its lint complains of names too; what it says of the names of others is not ours to mend.
"$promtool" check metrics <"$WORK/metrics" >"$WORK/lint" 2>&1 || note "$(cat "$WORK/lint")"
! grep -i 'error while linting\|parse' "$WORK/lint" || fail "promtool does not understand it"
python3 - "$WORK/metrics" <<'END'
import re, sys
types, samples = {}, {}
for line in open(sys.argv[1]):
    line = line.rstrip('\n')
    if line.startswith('# TYPE '):
        _, _, name, kind = line.split(' ')
        assert name not in types, f'{name} twice'
        types[name] = kind
    elif not line.startswith('# HELP '):
        m = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)', line)
        assert m, line
        name, labels, value = m[1], m[2] or '', float(m[3])
        assert (name, labels) not in samples, f'{line}: twice'
        samples[name, labels] = value
        base = re.sub('_(bucket|sum|count)$', '', name)
        assert name in types or types.get(base) == 'histogram', f'{name} has no type'
for (name, labels), count in samples.items():
    if name.endswith('_count'):
        base = name[:-6]
        inside = [(l, v) for (n, l), v in samples.items() if n == base + '_bucket' and re.sub(',?le="[^"]*"', '', l) == labels]
        values = [v for _, v in inside]
        assert values == sorted(values) and values[-1] == count, f'{name}{{{labels}}} {values}'
def value(name, /, **labels):
    found = [v for (n, l), v in samples.items() if n == name and all(f'{k}="{v}"' in l for k, v in labels.items())]
    assert found, f'no {name} {labels}'
    return sum(found)
for name in '''workqueue_depth workqueue_adds_total workqueue_queue_duration_seconds_count workqueue_work_duration_seconds_count
        workqueue_retries_total workqueue_unfinished_work_seconds workqueue_longest_running_processor_seconds
        rest_client_requests_total rest_client_request_duration_seconds_count controller_runtime_reconcile_total
        controller_runtime_reconcile_errors_total controller_runtime_reconcile_time_seconds_count
        process_resident_memory_bytes process_cpu_seconds_total process_open_fds process_start_time_seconds
        vm_import_transfers_active vm_import_scratch_bytes_used vm_import_scratch_bytes_reserved vm_import_scratch_bytes_available
        vm_import_build_info leader_election_master_status'''.split():
    value(name)
assert value('vm_import_imports', state='virtualMachineRunning') == 1
assert value('vm_import_imports', state='virtualMachineImportInvalid') == 1
assert value('vm_import_imports') == 2
assert value('vm_import_source_bytes_total', kind='VmwareSource') > 4 << 20
assert 7 << 20 <= value('vm_import_disk_bytes_written_total') <= 16 << 20, value('vm_import_disk_bytes_written_total')
assert value('leader_election_master_status', name='vm-import-controller') == 1
assert value('vm_import_failures_total') == 1
assert value('vm_import_scratch_bytes_available') > 0
assert value('workqueue_adds_total', name='virtualmachineimports') >= value('workqueue_work_duration_seconds_count', name='virtualmachineimports') >= 8
assert value('controller_runtime_reconcile_total', controller='vmwaresources', result='success') >= 1
assert value('rest_client_requests_total', code='200', method='PATCH') >= 8
assert value('process_resident_memory_bytes') > 1 << 20
END
assert_eq healthz "$(curl -fsS "$url/healthz")" ok
assert_eq readyz "$(curl -fsS "$url/readyz")" ok
stop_daemon
assert_source_clean

# What is not allowed is done without: as under Harvester's own chart, no leases, no events, and here Secrets can be read but not watched.
kubectl apply -f - >/dev/null <<'END'
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: limited}
rules:
- {apiGroups: [migration.harvesterhci.io, harvesterhci.io, kubevirt.io, storage.k8s.io, k8s.cni.cncf.io, apiextensions.k8s.io], resources: ['*'], verbs: ['*']}
- {apiGroups: [''], resources: [persistentvolumeclaims], verbs: ['*']}
- {apiGroups: [''], resources: [secrets], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: limited}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: limited}
subjects: [{kind: User, name: limited}]
END
sed 's/user: {token:/user: {as: limited, token:/' "$KUBECONFIG" >"$WORK/limited.kubeconfig"
start_daemon --kubeconfig "$WORK/limited.kubeconfig" --leader-elect=auto
wait_for 30 grep -q 'no leader election: leases may not be' "$DAEMON_LOG"
events=$(kubectl get events.events.k8s.io -o name | wc -l)
source_manifest default second | sed 's/password: .*/password: wrong/' | kubectl apply -f - >/dev/null
wait_for 60 source_is default second clusterNotReady
source_manifest default second | kubectl apply -f - >/dev/null
wait_for 120 source_is default second clusterReady
wait_for 30 grep -q 'no events will be written' "$DAEMON_LOG"
assert_eq 'events of a daemon that may write none' "$(kubectl get events.events.k8s.io -o name | wc -l)" "$events"
stop_daemon

# An API server that does not answer holds up the stop for some seconds, and no second signal.
api=$(cat "$KUBE_STATE/run/apiserver")
stopping() { # stopping SIGNALS: how long it takes after the last, and its status
	local from pid=$DAEMON_PID
	DAEMON_PID=''
	kill -STOP "$api"
	kubectl annotate --overwrite --request-timeout=1s virtualmachineimport small x=y >/dev/null 2>&1 || true
	for ((i = 0; i < $1; i++)); do
		[ $i = 0 ] || sleep 0.5
		from=$SECONDS
		kill -TERM "$pid" 2>/dev/null || true
	done
	status=0
	wait "$pid" || status=$?
	kill -CONT "$api"
	took=$((SECONDS - from))
}
start_daemon
stopping 1
assert_eq 'status after one signal' $status 0
[ $took -lt 29 ] || fail "it took $took s to stop"
note "stopped in $took s beside an API server that does not answer"
start_daemon --leader-elect
stopping 2
[ $status = 143 ] || [ $status = 0 ] || fail "status $status after the second signal"
[ $took -le 7 ] || fail "it took $took s to stop at a second signal" # with one it takes more than 8
