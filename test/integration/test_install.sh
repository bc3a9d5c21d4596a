#!/bin/bash
# The way of a user: the image is installed by helm into a namespace that enforces the restricted Pod Security profile, imports machines
# while it is upgraded, drained away and killed, is seen by Prometheus and through HTTPS, and uninstalled. deploy/README.md has what it shows:
# TRANSCRIPT=FILE writes that.
# needs: vsphere kube
# lock: port-8080
# timeout: 1800
. "$(dirname "$0")/lib.sh"
KUBE_CRDS=no
[ "$(id -u)" = 0 ] || skip "the Kubernetes peer needs root"
need openssl jq python3 qemu-img
promtool=$(peer_go && outside "$PEERS/prometheus/build.sh")/promtool || skip "promtool cannot be built"
chart=$SOURCE_DIR/deploy/chart
release=harvester-vm-import-controller
version=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' "$chart/Chart.yaml")
build_image
! (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null || skip "something listens on port 8080, which the chart has for the image server"

cat >"$WORK/inventory.json" <<'JSON'
{"user": "administrator@vsphere.local", "password": "planted-Password-1", "lease": {"initSeconds": 0.1, "timeoutSeconds": 300}, "nfc": {"streamMBps": 0},
"datacenters": [{"name": "DC0", "hosts": [{"name": "esx1.test", "address": "127.0.0.11:0"}], "networks": [{"name": "VM Network"}], "vms": [
{"name": "Demo VM 01", "power": "on", "shutdown": {"seconds": 0.2}, "cpus": 2, "memoryMB": 512, "nics": [{"model": "vmxnet3", "mac": "00:50:56:8a:01:01", "network": "VM Network"}],
 "disks": [{"capacityMB": 400, "fill": {"seed": 1, "percent": 50}}]},
{"name": "Demo VM 02", "cpus": 1, "memoryMB": 512, "nics": [{"network": "VM Network"}], "disks": [{"capacityMB": 300, "fill": {"seed": 2, "percent": 50}}]},
{"name": "Demo VM 03", "cpus": 1, "memoryMB": 512, "nics": [{"network": "VM Network"}], "disks": [{"capacityMB": 32, "fill": {"seed": 3, "percent": 50}}]}]}]}
JSON
# An authority that the storage of the cluster trusts, and a certificate for the image server.
mkdir "$WORK/tls"
(
	cd "$WORK/tls"
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=the cluster's authority" -keyout ca.key -out ca.crt
	openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=images -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:false \
		-addext subjectAltName=DNS:$release.harvester-system.svc -keyout tls.key -out tls.crt
) 2>/dev/null
start_vsphere "$WORK/inventory.json"
export KUBE_HARVESTER_FLAGS='-boot-time 0 -retry-after 1s'
KUBE_IMAGES="vm-import-controller:$version=$IMAGE vm-import-controller:next=$IMAGE" SSL_CERT_FILE=$WORK/tls/ca.crt \
	start_kube controller-manager harvester node
start_helm

# --- what the user types, and sees ---------------------------------------------------------------------------------------

transcript=$WORK/transcript
: >"$transcript"
helm() { "$HELM" "$@"; }
section() { printf '\n%s\n' "$*" >>"$transcript"; note "$*"; }
show() { # show COMMAND...: runs it and keeps what it says
	local status=0
	printf '    $ %s\n' "$*" >>"$transcript"
	"$@" >"$WORK/shown" 2>&1 || status=$?
	sed 's/^/    /; s/[[:space:]]*$//' "$WORK/shown" >>"$transcript"
	[ $status = 0 ] || fail "status $status: $* ($(cat "$WORK/shown"))"
}
pods() { kubectl get pods -n harvester-system -l app.kubernetes.io/name=$release -o 'jsonpath={.items[*].metadata.name}'; }
pod_ready() { [ "$(kubectl get pods -n harvester-system -l app.kubernetes.io/name=$release -o 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}')" = True ]; }
# A disk that is sent stops in its middle, so that it can be interrupted there.
hold() { fault '{"kind": "stall", "path": "/nfc/", "afterBytes": 40000000, "seconds": 3600}'; }
held=0
in_the_middle() { # in_the_middle IMPORT: some of its disk is here, and one more transfer has been stopped
	local hits
	hits=$(curl -fsS "$VSPHERE_ADMIN_URL/faults" | jq '[.[].hits] | add')
	fetched "$volume" default "$1" $((16 << 20)) && [ "$hits" -gt $held ] && held=$hits
}
import_it() { # import_it NAME VM
	apply_import default "$1" "$2" 'networkMapping:' '- {sourceNetwork: VM Network, destinationNetwork: default/production}'
}
compare_disk() { # compare_disk IMPORT VM
	local image volume
	image=$(import_field default "$1" '{.status.diskImportStatus[0].VirtualMachineImage}')
	volume=$KUBE_STATE/volumes/$(kubectl get pvc "$image" -o 'jsonpath={.spec.volumeName}')
	qemu-img compare -f raw -F raw "$volume" "$(vm_state "$2" '.Disks[0].Source')" >/dev/null || fail "the disk of $1 is not the source's"
}

kubectl label namespace harvester-system pod-security.kubernetes.io/enforce=restricted >/dev/null
apply_network default production
cd "$SOURCE_DIR"
section "## Installed"
show helm install $release deploy/chart -n harvester-system --set pvcClaim.enabled=true,pvcClaim.storageClassName=local,pvcClaim.size=2Gi
wait_for 120 pod_ready
show kubectl get deployment,pods,pvc,service -n harvester-system
show kubectl get crd -o 'custom-columns=NAME:.metadata.name,CREATED:.metadata.creationTimestamp'
kubectl logs -n harvester-system "deployment/$release" >"$WORK/log"
assert_contains "the log" "$(cat "$WORK/log")" 'cpus=2.00 memory="4096 MiB"'
! grep -qE 'level=error|some powers are missing' "$WORK/log" || fail "it complains: $(grep -E 'level=error|powers' "$WORK/log")"
assert_eq "who it is" "$(ps -o uid= -p "$(pgrep -o -f '^/usr/bin/vm-import-controller run')" | tr -d ' ')" 65532

# What the scratch volume holds at its peak.
volume=$KUBE_STATE/volumes/$(kubectl get pvc -n harvester-system $release -o 'jsonpath={.spec.volumeName}')
(
	most=0
	while sleep 0.3; do
		now=$(du -sB1 "$volume" 2>/dev/null | cut -f1 || true)
		[ "${now:-0}" -le $most ] || { most=$now; echo "$most" >"$WORK/peak"; }
	done
) &
background+=($!)

section "## An import, and an upgrade in its middle"
source_manifest default vcenter DC0 | kubectl apply -f - >/dev/null
wait_for 60 source_is default vcenter clusterReady
hold
import_it demo "Demo VM 01"
wait_for 120 in_the_middle demo
show kubectl get virtualmachineimports
before=$(pods)
show helm upgrade $release deploy/chart -n harvester-system --reuse-values --set image.tag=next,log.format=json
show kubectl rollout status "deployment/$release" -n harvester-system --timeout=120s
[ "$(pods)" != "$before" ] || fail "the pod is the same"
show kubectl get virtualmachineimports
faults_clear
show kubectl wait --for=condition=Ready virtualmachineimport/demo --timeout=180s
show kubectl get virtualmachineimports
compare_disk demo "Demo VM 01"
assert_source_clean

data=$(du -B1 "$(vm_state "Demo VM 01" '.Disks[0].Source')" | cut -f1)
note "scratch at its peak: $(cat "$WORK/peak") bytes, for a disk of $((400 << 20)) of which $data are in use"
[ "$(cat "$WORK/peak")" -lt $((data + data / 10)) ] || fail "more scratch than the disk has data"

section "## The node is drained in the middle of an import"
held=0
hold
import_it second "Demo VM 02"
wait_for 120 in_the_middle second
show kubectl get virtualmachineimports second
before=$(pods)
show kubectl drain peer --ignore-daemonsets --delete-emptydir-data --pod-selector="app.kubernetes.io/name=$release"
show kubectl uncordon peer
wait_for 120 pod_ready
[ "$(pods)" != "$before" ] || fail "the pod is the same"
show kubectl get virtualmachineimports second
# And killed without a word, as by a node that loses its power.
wait_for 120 in_the_middle second
before=$(pods)
show kubectl delete pod -n harvester-system -l app.kubernetes.io/name=$release --grace-period=0 --force
faults_clear
show kubectl wait --for=condition=Ready virtualmachineimport/second --timeout=240s
[ "$(pods)" != "$before" ] || fail "the pod is the same"
show kubectl get virtualmachineimports
compare_disk second "Demo VM 02"
assert_source_clean

told_second() { kubectl get events.events.k8s.io -o json | jq -e 'any(.items[]; .regarding.name == "second" and .reason == "VirtualMachineRunning")'; }
wait_for 60 told_second
apply_import default none "No such VM"
wait_for 60 eval '[ "$(import_field default none "{.status.importStatus}")" = virtualMachineImportInvalid ]'
kubectl delete virtualmachineimport none >/dev/null

# --- seen working --------------------------------------------------------------------------------------------------------

curl -fsS http://127.0.0.1:8080/metrics >"$WORK/metrics"
"$promtool" check metrics <"$WORK/metrics" >"$WORK/lint" 2>&1 || note "promtool: $(cat "$WORK/lint")"
! grep -i 'error while linting\|parse' "$WORK/lint" || fail "promtool does not understand the metrics"
python3 - "$WORK/metrics" "$chart" <<'PY'
import json, re, sys
there = set(re.findall(r'^# TYPE (\S+)', open(sys.argv[1]).read(), re.M))
queries = [t['expr'] for p in json.load(open(sys.argv[2] + '/dashboards/vm-import.json'))['panels'] for t in p['targets']]
queries.append(re.sub(r'.*(annotations|summary|description|alert):.*', '', open(sys.argv[2] + '/rules/alerts.yaml').read()))
used = {re.sub(r'_(bucket|sum|count)$', '', n) for q in queries for n in re.findall(r'\b((?:vm_import|workqueue|process|rest_client|leader_election|controller_runtime)_\w+)', q)}
assert len(used) > 15, used
missing = used - there
assert not missing, f'not at /metrics: {missing}'
print(f'         {len(used)} metrics of the dashboard and the alerts are at /metrics')
PY

section "## A support bundle"
# A secret is planted where it does not belong.
kubectl annotate virtualmachineimport demo "note=the password is planted-Password-1, the header Authorization: Bearer abcdefgh12345678" >/dev/null
vm-import-controller() { "$VIC" "$@"; }
cd "$WORK"
# The API server reaches no pod on the loopback address, where the peers' pods are.
vm-import-controller support-bundle -o direct.tar.gz 2>/dev/null
assert_contains "what is not collected" "$(tar -xzOf direct.tar.gz --wildcards '*/errors.txt')" "proxy/metrics: address not allowed"
show vm-import-controller support-bundle -o bundle.tar.gz --metrics-url http://127.0.0.1:8080/metrics
assert_eq "mode of the bundle" "$(stat -c %a bundle.tar.gz)" 600
show tar -tzf bundle.tar.gz
mkdir bundle && tar -xzf bundle.tar.gz -C bundle --strip-components=1
cd "$SOURCE_DIR"
[ ! -e "$WORK/bundle/errors.txt" ] || fail "not collected: $(cat "$WORK/bundle/errors.txt")"
for secret in planted-Password-1 "$(printf planted-Password-1 | base64)" abcdefgh12345678 "$(grep -o 'images/[A-Za-z0-9_-]\{43\}' <<<"$(kubectl get vmimage -o json)" | sed -n "1s#.*/##p")"; do
	[ -n "$secret" ] || fail "nothing to look for"
	! grep -rqF -- "$secret" "$WORK/bundle" || fail "$secret is in the bundle: $(grep -rlF -- "$secret" "$WORK/bundle")"
done
assert_eq "the note" "$(jq -r '.items[] | select(.metadata.name == "demo").metadata.annotations.note' "$WORK/bundle/objects/virtualmachineimports.json")" \
	"the password is REDACTED, the header Authorization: REDACTED"
grep -q '^vm_import_imports{' "$WORK"/bundle/metrics/*.txt || fail "the bundle has no metrics"
grep -q '"msg":"started"' "$WORK"/bundle/logs/*.log || fail "the bundle has no logs"
assert_eq "events in the bundle" "$(jq '[.items[] | select(.regarding.name == "second" and .reason == "VirtualMachineRunning")] | length' "$WORK/bundle/events/imports.json")" 1
jq -e '.gitVersion' "$WORK/bundle/version.json" >/dev/null
assert_eq "values of Secrets" "$(jq -r '[.[].data[]] | unique | join(" ")' "$WORK/bundle/objects/secrets.json")" REDACTED
note "the support bundle has what helps, and no secret"

section "## HTTPS"
show kubectl create secret tls images -n harvester-system --cert="$WORK/tls/tls.crt" --key="$WORK/tls/tls.key"
show helm upgrade $release deploy/chart -n harvester-system --reuse-values --set tls.enabled=true,tls.secretName=images
show kubectl rollout status "deployment/$release" -n harvester-system --timeout=120s
import_it third "Demo VM 03"
show kubectl wait --for=condition=Ready virtualmachineimport/third --timeout=180s
show kubectl get virtualmachineimages -o custom-columns='NAME:.metadata.name,URL:.spec.url,SIZE:.status.virtualSize'
image=$(import_field default third '{.status.diskImportStatus[0].VirtualMachineImage}')
assert_contains "URL" "$(kubectl get vmimage "$image" -o 'jsonpath={.spec.url}')" "https://$release.harvester-system.svc:8080/images/"
compare_disk third "Demo VM 03"

section "## Uninstalled"
show helm uninstall $release -n harvester-system --wait
show kubectl get virtualmachineimports,vmwaresources,virtualmachines,virtualmachineimages
assert_eq "imports" "$(kubectl get virtualmachineimports -o name | wc -l)" 3
assert_eq "machines" "$(kubectl get virtualmachines -o name | wc -l)" 3
assert_eq "definitions" "$(kubectl get crd -o name | grep -c migration.harvesterhci.io)" 5
assert_eq "what is left of the release" "$(kubectl get deployment,service,serviceaccount,role,rolebinding,pvc -n harvester-system -o name -l app.kubernetes.io/instance=$release)" ''
sed -i "s#$WORK/##g; s#\(images/[A-Za-z0-9_-]\{6\}\)[A-Za-z0-9_-]*#\1...#g" "$transcript"
[ -z "${TRANSCRIPT:-}" ] || cp "$transcript" "$TRANSCRIPT"
