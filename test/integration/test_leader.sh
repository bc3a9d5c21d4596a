#!/bin/bash
# Replicas choose a leader by a Lease. It is killed, stopped, and cut off from the API server in the middle of a transfer: another one takes
# over within the lease duration, the import goes on and makes no second machine, and at no time do two write.
# needs: vsphere kube
# timeout: 840
. "$(dirname "$0")/lib.sh"

DURATION=${LEASE_DURATION:-10} DEADLINE=${RENEW_DEADLINE:-7} RETRY=${RETRY_PERIOD:-1} # the defaults, 15 10 2, take longer
WITHIN=$((DURATION + RETRY * 22 / 10 + 2))                                          # a look is up to 2.2 periods after the last
declare -A pids=() ports=() wires=()

{
	echo '{"user": "u", "password": "p", "lease": {"initSeconds": 0.2, "timeoutSeconds": 300}, "nfc": {"streamMBps": 0, "maxStreams": 52},'
	echo '"datacenters": [{"name": "DC1", "hosts": [{"name": "esx1.test", "address": "127.0.0.11:0"}], "networks": [{"name": "VM Network"}], "vms": ['
	for vm in killed stopped stalled apart; do
		echo "{\"name\": \"$vm\", \"nics\": [{\"network\": \"VM Network\"}], \"disks\": [{\"capacityMB\": 64, \"fill\": {\"seed\": ${#vm}, \"percent\": 50}}]},"
	done
	echo '{"name": "last", "nics": [{"network": "VM Network"}], "disks": [{"capacityMB": 8}]}]}]}'
} >"$WORK/inventory.json"
export KUBE_HARVESTER_FLAGS='-boot-time 0'
# Who wrote what, and when: every replica is a user of its own in the API server's audit log.
cat >"$WORK/audit.yaml" <<'END'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  verbs: [create, patch, update, delete]
- level: None
END
export KUBE_APISERVER_FLAGS="--audit-policy-file=$WORK/audit.yaml --audit-log-path=$WORK/audit.log"
start_vsphere "$WORK/inventory.json"
start_kube
kubectl create namespace elected >/dev/null

# A connection to the API server that can be stalled (SIGSTOP) and cut (SIGKILL).
cat >"$WORK/wire.py" <<'END'
import socket, sys, threading
to = ('127.0.0.1', int(sys.argv[1]))
def pump(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in a, b:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    client = listener.accept()[0]
    try:
        server = socket.create_connection(to)
    except OSError:
        client.close()
        continue
    for pair in (client, server), (server, client):
        threading.Thread(target=pump, args=pair, daemon=True).start()
END
api_port=$(sed -n 's|.*https://127.0.0.1:\([0-9]*\).*|\1|p' "$KUBECONFIG")

replica() { # replica NAME SCRATCH [OPTION...]: starts it, with a wire of its own
	local name=$1 scratch=$2
	shift 2
	if [ ! -s "$WORK/$name.port" ]; then
		python3 "$WORK/wire.py" "$api_port" >"$WORK/$name.port" &
		wires[$name]=$!
		background+=($!)
		wait_for 10 test -s "$WORK/$name.port"
		sed -e "s|https://127.0.0.1:$api_port|https://127.0.0.1:$(cat "$WORK/$name.port")|" \
			-e "s|user: {token:|user: {as: replica-$name, as-groups: ['system:masters'], token:|" "$KUBECONFIG" >"$WORK/$name.kubeconfig"
		grep -q "as: replica-$name" "$WORK/$name.kubeconfig" || fail "the kubeconfig is not of the form expected"
		ports[$name]=$(free_port)
	fi
	mkdir -p "$scratch"
	SVC_ADDRESS=127.0.0.1 POD_NAME=$name DEBUG=true "$VIC" run --kubeconfig "$WORK/$name.kubeconfig" --scratch "$scratch" \
		--port "${ports[$name]}" --leader-elect --leader-elect-resource-namespace elected --leader-elect-lease-duration ${DURATION}s \
		--leader-elect-renew-deadline ${DEADLINE}s --leader-elect-retry-period $RETRY "$@" </dev/null >>"$WORK/$name.log" 2>&1 &
	pids[$name]=$!
	background+=($!)
}

holder() { kubectl get lease -n elected vm-import-controller -o 'jsonpath={.spec.holderIdentity}' 2>/dev/null | sed 's/_.*//'; }
holds() { [ "$(holder)" = "$1" ]; }
metric_of() { curl -fsS "http://127.0.0.1:${ports[$1]}/metrics" | awk -v n="$2" 'index($1, n) == 1 { s += $NF } END { print s + 0 }'; }
answers() { [ "$(curl -s -o "$WORK/answer" -w '%{http_code}' "http://127.0.0.1:${ports[$1]}/$2")" = "$3" ]; }
die() { # die NAME: as a node that loses its power
	kill -KILL "${pids[$1]}"
	wait "${pids[$1]}" 2>/dev/null || true
}
ended() { ! kill -0 "$1" 2>/dev/null; }
takes_over() { # takes_over NAME WHAT SECONDS
	local from=$SECONDS
	wait_for "$3" holds "$1"
	note "$1 leads $((SECONDS - from)) s after $2"
	faults_clear
}
# Each transfer stops in its middle until another replica leads.
begin_import() { # begin_import VM [SCRATCH]
	fault '{"kind": "stall", "path": "/nfc/", "afterBytes": 8000000, "seconds": 3600}'
	apply_import default "$1" "$1"
	wait_for 60 fetched "${2:-$WORK/shared}" default "$1" 1000000
}
finished() { # finished VM: its import, and nothing was made twice
	wait_status default "$1" virtualMachineRunning 120
	assert_eq "machines of $1" "$(kubectl get vm -o name | grep -c "/$1\$")" 1
	assert_eq "images of $1" "$(kubectl get vmimage -o json | jq "[.items[] | select(.spec.displayName | startswith(\"vm-import-$1-\"))] | length")" 1
}

replica a "$WORK/shared"
wait_for 30 holds a
wait_for 30 answers a readyz 200
source_manifest | kubectl apply -f - >/dev/null
wait_for 60 source_is default vcenter clusterReady
replica b "$WORK/shared"
wait_for 30 answers b readyz 200 # the same scratch space: it may serve images
assert_eq 'leader_election_master_status of a' "$(metric_of a leader_election_master_status)" 1
assert_eq 'leader_election_master_status of b' "$(metric_of b leader_election_master_status)" 0
assert_eq 'reconciles of b' "$(metric_of b controller_runtime_reconcile_total)" 0

# Killed: the lease runs out.
begin_import killed
die a
takes_over b 'a was killed' $WITHIN
finished killed
replica a "$WORK/shared"
wait_for 30 answers a readyz 200

# Stopped: the lease is given back, and taken at the next look.
begin_import stopped
kill -TERM "${pids[b]}"
takes_over a 'b was told to stop' $WITHIN
wait_for 30 ended "${pids[b]}"
grep -q 'gave the lease back' "$WORK/b.log" || fail "b did not give the lease back"
finished stopped
replica b "$WORK/shared"
wait_for 30 answers b readyz 200

# Cut off, in silence: nothing is answered, and no connection ends.
begin_import stalled
kill -STOP "${wires[a]}"
lost() { grep -c 'leads no more' "$WORK/a.log" | grep -qx 1; }
wait_for $((DEADLINE + 5)) lost
takes_over b 'a was cut off' $WITHIN
paused() { grep -q 'stopped to work' "$WORK/a.log"; }
wait_for 30 paused
assert_eq 'transfers of a' "$(metric_of a vm_import_transfers_active)" 0
finished stalled
kill -CONT "${wires[a]}"
assert_eq 'leader' "$(holder)" b
wait_for 60 answers a readyz 200
assert_eq 'leader_election_master_status of a' "$(metric_of a leader_election_master_status)" 0
kill -0 "${pids[a]}" || fail "a ended"

# A scratch space of its own: it is not asked for images while the other one leads, and fetches anew when that one dies.
kill -TERM "${pids[a]}"
wait_for 30 ended "${pids[a]}"
replica a "$WORK/own"
other_scratch() { answers a readyz 503 && grep -q 'its scratch space' "$WORK/answer"; }
wait_for 30 other_scratch
begin_import apart
die b
takes_over a 'b was killed' $WITHIN
finished apart
wait_for 30 answers a readyz 200

# What was fetched before a replica stopped to lead was not written again where the scratch space is the same.
for vm in killed stopped stalled apart; do
	volume=$KUBE_STATE/volumes/$(kubectl get pvc "$(import_field default "$vm" '{.status.diskImportStatus[0].VirtualMachineImage}')" -o 'jsonpath={.spec.volumeName}')
	qemu-img compare -f raw -F raw "$volume" "$(vm_state "$vm" '.Disks[0].Source')" >/dev/null || fail "the disk of $vm is not the source's"
done
kill -TERM "${pids[a]}"
wait_for 30 ended "${pids[a]}"
assert_eq 'holder at the end' "$(holder)" ''
assert_eq 'open leases at the source' "$(admin_state '.openLeases | length')" 0

# The audit log, in the order of time: between the first and the last write of a term there is none of another replica. What both may do is
# look after the Lease, and prepare the cluster when they start.
python3 - "$WORK/audit.log" <<'END'
import json, sys
writes = []
for line in open(sys.argv[1]):
    e = json.loads(line)
    ref = e.get('objectRef', {})
    who = e.get('impersonatedUser', {}).get('username', '')
    if not who.startswith('replica-') or ref.get('resource') in ('leases', 'customresourcedefinitions', 'selfsubjectaccessreviews') or e['responseStatus'].get('code', 500) >= 300:
        continue
    writes.append((e['requestReceivedTimestamp'], e['stageTimestamp'], who, e['verb'] + ' ' + ref.get('resource', '')))
writes.sort()
assert len(writes) > 50, len(writes)
terms = [writes[0][2]]
for (_, end, was, what), (start, _, now, then) in zip(writes, writes[1:]):
    if was != now:
        assert end <= start, f'{was} {what} until {end}, {now} {then} from {start}'
        terms.append(now)
print('terms by the audit log:', ' '.join(terms), f'({len(writes)} writes)')
assert terms == ['replica-a', 'replica-b', 'replica-a', 'replica-b', 'replica-a'], terms
END
