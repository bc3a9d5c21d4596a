#!/usr/bin/env bash
# Many objects, on the real API server: what a daemon costs that has nothing to do, and whether many imports at once all get done.
#   VIC=PROGRAM           what to measure (default: the release build)
#   SCALE_IMPORTS=5000    imports in final states; SCALE_SOURCES=200 sources, each with a Secret of its own
#   SCALE_NEW=500         imports created at once; 0: none
#   SCALE_IDLE=60         seconds of doing nothing that are measured
# Needs root and the peers, some minutes, and 3 GiB of memory. Prints lines "value NAME NUMBER UNIT" and "ratio NAME NUMBER".
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
vic=${VIC:-$here/build/release/controller/vm-import-controller}
imports=${SCALE_IMPORTS:-5000} sources=${SCALE_SOURCES:-200} new=${SCALE_NEW:-500} idle=${SCALE_IDLE:-60}
[ -x "$vic" ] || { echo "scale.sh: build $vic first, or name another in VIC" >&2; exit 2; }

work=$(mktemp -d "${TMPDIR:-/tmp}/vic-scale.XXXXXX")
export VSPHERE_STATE=$work/vsphere VSPHERE_INVENTORY=$work/inventory.json VSPHERE_LISTEN=127.0.0.1:0 VSPHERE_ADMIN=127.0.0.1:0
export KUBE_STATE=$work/kube KUBE_PARTS='controller-manager harvester' KUBE_HARVESTER_FLAGS='-boot-time 0'
pid=''
finish() {
	[ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" || true; }
	"$here/test/peers/vsphere/down.sh"
	"$here/test/peers/kube/down.sh" harvester controller-manager apiserver etcd
	if [ "${KEEP:-}" = 1 ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap finish EXIT

python3 - "$new" >"$VSPHERE_INVENTORY" <<'END'
import json, sys
# Ten datacenters, each with a source of its own: to find a machine by its name, all names of its datacenter are listed, each time.
count = max(10, int(sys.argv[1]))
vm = lambda i: {"name": f"tiny-{i:04d}", "nics": [{"network": "VM Network"}], "disks": [{"capacityMB": 1, "fill": {"seed": i, "percent": 50}}]}
print(json.dumps({"user": "bench", "password": "bench", "lease": {"initSeconds": 0.05, "timeoutSeconds": 600}, "nfc": {"maxStreams": 64},
    "datacenters": [{"name": f"DC{d}", "hosts": [{"name": f"esx{d}.test", "address": f"127.0.0.{11 + d}:0"}], "networks": [{"name": "VM Network"}],
        "vms": [vm(i) for i in range(d, count, 10)]} for d in range(10)]}))
END
eval "$("$here/test/peers/go.sh")"
eval "$("$here/test/peers/vsphere/up.sh")"
eval "$("$here/test/peers/kube/up.sh")"
kubectl apply -f "$here/crds/" >/dev/null
kubectl wait --for=condition=Established --timeout=60s -f "$here/crds/" >/dev/null

# fill.py WHAT COUNT: makes objects over a few connections, without kubectl's second for each.
cat >"$work/fill.py" <<'END'
import http.client, json, os, re, ssl, sys, threading, urllib.parse
text = open(os.environ['KUBECONFIG']).read()
url = urllib.parse.urlsplit(re.search(r'https://[0-9.:]+', text)[0])
token = re.search(r'token: "?([^"}\s]+)', text)[1]
tls = ssl._create_unverified_context()
group = '/apis/migration.harvesterhci.io/v1beta1/namespaces/default/'
def secret(i):
    return '/api/v1/namespaces/default/secrets', {'apiVersion': 'v1', 'kind': 'Secret', 'metadata': {'name': f'secret-{i:04d}'},
        'stringData': {'username': 'bench', 'password': 'bench', 'thumbprint': os.environ['VSPHERE_THUMBPRINT']}}, None
def source(i):
    return group + 'vmwaresources', {'apiVersion': 'migration.harvesterhci.io/v1beta1', 'kind': 'VmwareSource', 'metadata': {'name': f'source-{i:04d}'},
        'spec': {'endpoint': os.environ['VSPHERE_URL'], 'dc': f'DC{i % 10}', 'credentials': {'name': f'secret-{i:04d}', 'namespace': 'default'}}}, None
def new(i, name='new', vm=None):
    return group + 'virtualmachineimports', {'apiVersion': 'migration.harvesterhci.io/v1beta1', 'kind': 'VirtualMachineImport',
        'metadata': {'name': f'{name}-{i:04d}', 'labels': {'bench': name}, 'finalizers': ['migration.harvesterhci.io/vm-import-controller'] if name == 'old' else []},
        'spec': {'virtualMachineName': vm or f'tiny-{i:04d}', 'sourceCluster': {'kind': 'VmwareSource', 'name': f'source-{i % 10:04d}', 'namespace': 'default',
            'apiVersion': 'migration.harvesterhci.io/v1beta1'}, 'networkMapping': [{'sourceNetwork': 'VM Network', 'destinationNetwork': 'default/production'}] if name == 'old' else []}}, None
def old(i):
    # As an import of two disks leaves it; one of five has failed.
    path, body, _ = new(i, 'old', f'done-{i:04d}')
    now, good = '2026-01-02T03:04:05Z', i % 5 != 0
    c = lambda type, status, reason, message: {'type': type, 'status': status, 'reason': reason, 'message': message, 'lastTransitionTime': now, 'observedGeneration': 1}
    u = lambda type, status: {'type': type, 'status': status, 'reason': type, 'message': 'as it was', 'lastUpdateTime': now, 'lastTransitionTime': now}
    status = {'importStatus': 'virtualMachineRunning' if good else 'VMMigrationFailed', 'progress': 100 if good else 40, 'observedGeneration': 1,
        'message': f'The virtual machine done-{i:04d} is imported' if good else 'The export failed: the host does not answer',
        'startTime': now, 'completionTime': now, 'newVirtualMachine': f'done-{i:04d}', 'importedVirtualMachineName': f'done-{i:04d}',
        'importConditions': [u('VMPoweredOff', 'True'), u('VMExported', 'True')],
        'conditions': [],
        'diskImportStatus': [{'diskName': f'disk-{d}.raw', 'diskSize': 1 << 34, 'diskLocalPath': '/scratch/uid', 'diskRoute': f'uid/disk-{d}.raw',
            'VirtualMachineImage': f'image-{i:04d}{d}', 'busType': 'virtio', 'bytesTransferred': 1 << 34, 'bytesTotal': 1 << 34, 'digest': 'vmid2:' + 'ab' * 32,
            'diskConditions': [u('VirtualMachineImageSubmitted', 'True'), u('VirtualMachineImageReady', 'True')]} for d in range(2)]}
    status['conditions'] = [c('Ready', str(good), 'Imported' if good else 'ExportFailed', status['message']), c('Reconciling', 'False', 'Settled', ''),
        c('Stalled', str(not good), 'Importing' if good else 'ImportFailed', '' if good else status['message'])]
    return path, body, status
what, count = {'secret': secret, 'source': source, 'new': new, 'old': old}[sys.argv[1]], int(sys.argv[2])
todo = iter(range(count))
lock = threading.Lock()
def work():
    http_ = http.client.HTTPSConnection(url.hostname, url.port, context=tls)
    def send(method, path, body, type):
        http_.request(method, path, json.dumps(body), {'Authorization': 'Bearer ' + token, 'Content-Type': type})
        answer = http_.getresponse()
        said = answer.read()
        assert answer.status < 300, (answer.status, said)
    while True:
        with lock:
            i = next(todo, None)
        if i is None:
            return
        path, body, status = what(i)
        send('POST', path, body, 'application/json')
        if status:
            send('PATCH', f"{path}/{body['metadata']['name']}/status", {'status': status}, 'application/merge-patch+json')
threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
END
python3 "$work/fill.py" secret "$sources"
python3 "$work/fill.py" source "$sources"
python3 "$work/fill.py" old "$imports"
[ "$(kubectl get virtualmachineimports -o name | wc -l)" = "$imports" ] || { echo "scale.sh: the imports were not made" >&2; exit 1; }

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$work/scratch"
start=$(date +%s%N)
SVC_ADDRESS=127.0.0.1 "$vic" run --scratch "$work/scratch" --port "$port" </dev/null >"$work/log" 2>&1 &
pid=$!
until curl -fs "http://127.0.0.1:$port/readyz" >/dev/null; do
	kill -0 $pid || { tail "$work/log" >&2; exit 1; }
	sleep 0.02
done
synced=$((($(date +%s%N) - start) / 1000000))
metric() { curl -fs "http://127.0.0.1:$port/metrics" | awk -v n="$1" 'index($1, n) == 1 { s += $NF } END { printf "%.6f\n", s }'; }
ready_sources() { kubectl get vmwaresources -o json | jq '[.items[] | select(.status.status == "clusterReady")] | length'; }
cpu() { awk '{ sub(/.*\) /, ""); print ($12 + $13) * 10 }' /proc/$pid/stat; } # ms, at 100 ticks a second
rss() { awk '/^VmRSS/ { print $2 / 1024 }' /proc/$pid/status; }
until [ "$(ready_sources)" = "$sources" ]; do sleep 0.5; done
echo "value start_to_synced $synced ms"
echo "value start_to_sources_verified $((($(date +%s%N) - start) / 1000000)) ms"

sleep 15 # the first look at every object, and sessions that end
requests=$(metric rest_client_requests_total) before=$(cpu) 
sleep "$idle"
after=$(cpu) end_requests=$(metric rest_client_requests_total)
awk -v a="$before" -v b="$after" -v s="$idle" 'BEGIN { printf "value idle_cpu %.1f ms/min\nratio idle_cpu %.5f\n", (b - a) * 60 / s, (b - a) / 1000 / s }'
awk -v a="$requests" -v b="$end_requests" -v s="$idle" 'BEGIN { printf "value idle_requests %.1f /min\n", (b - a) * 60 / s }'
echo "value rss $(rss) MiB"
echo "value threads $(awk '/^Threads/ { print $2 }' /proc/$pid/status) threads"
echo "value descriptors $(ls /proc/$pid/fd | wc -l) descriptors"

[ "$new" != 0 ] || exit 0
requests=$(metric rest_client_requests_total) before=$(cpu)
start=$(date +%s)
python3 "$work/fill.py" new "$new"
running() { curl -fs "http://127.0.0.1:$port/metrics" | awk '$1 == "vm_import_imports{state=\"virtualMachineRunning\"}" { print $2 }'; }
was=$((imports - (imports + 4) / 5))
until [ "$(running)" = $((was + new)) ]; do
	[ $(($(date +%s) - start)) -lt 1800 ] || { echo "scale.sh: not all imports are done: $(($(running) - was))" >&2; tail -n 20 "$work/log" >&2; exit 1; }
	sleep 1
done
took=$(($(date +%s) - start))
echo "value new_imports_done $new imports"
echo "value new_imports_took $took s"
awk -v a="$requests" -v b="$(metric rest_client_requests_total)" -v n="$new" 'BEGIN { printf "value requests_per_import %.1f requests\n", (b - a) / n }'
awk -v a="$before" -v b="$(cpu)" -v n="$new" 'BEGIN { printf "value cpu_per_import %.1f ms\n", (b - a) / n }'
# No import waits for others longer than the queue of all needs: from its creation to its end, the slowest and the middle one.
kubectl get virtualmachineimports -l bench=new -o json | jq -r '.items[] |
	((.status.completionTime | fromdate) - (.metadata.creationTimestamp | fromdate))' | sort -n | awk '{ t[NR] = $1 } END {
	printf "value import_latency_median %d s\nvalue import_latency_slowest %d s\n", t[int((NR + 1) / 2)], t[NR] }'
[ "$(kubectl get vm -o name | wc -l)" = "$new" ] || { echo "scale.sh: $(kubectl get vm -o name | wc -l) machines, wanted $new" >&2; exit 1; }
echo "value rss_after $(rss) MiB"
echo "value rss_peak $(awk '/^VmHWM/ { print $2 / 1024 }' /proc/$pid/status) MiB"
