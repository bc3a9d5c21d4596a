#!/bin/bash
# The store over a real API server: reads, writes and their errors, watches that survive what happens to a server.
# needs: kube
# timeout: 600
. "$(dirname "$0")/lib.sh"

PROBE=${KUBE_PROBE:-$SOURCE_DIR/build/dev/test/integration/kube_probe}
[ -x "$PROBE" ] || fail "there is no $PROBE"

probe() { "$PROBE" "$@"; }

# refused PART COMMAND...: the probe fails, and says so
refused() {
	local part=$1 got
	shift
	! got=$(probe "$@") || fail "was not refused: $*"
	assert_contains "$*" "$got" "$part"
}

start_kube controller-manager

# --- requests ---
assert_eq namespace "$(probe namespace)" default
read -r _ value version uid < <(probe create a one)
assert_eq create "$value" one
assert_eq get "$(probe get a)" "a one $version $uid"
refused 'error Conflict AlreadyExists 409' create a two
refused 'error NotFound NotFound 404' get absent
refused 'error Permanent InvalidName' get ../secrets
refused 'error Permanent Invalid 422' create Not_A_Name x
assert_contains patch "$(probe patch a two "$version")" 'a two'
refused 'error Conflict Conflict 409' patch a three "$version" # stale
refused 'error Conflict Conflict 409' delete a "$(cat /proc/sys/kernel/random/uuid)"
probe delete a "$uid"
probe delete a # absent is success
assert_eq 'a served kind' "$(probe serves apps v1 deployments)" 1
assert_eq 'a kind that is not served' "$(probe serves apps v1 nonsense)" 0
assert_eq 'a group that is not served' "$(probe serves nonsense.example v1 things)" 0
note "requests"

# --- server-side apply ---
applied() { echo '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied", "namespace": "default"}, "data": {"key": "'"$1"'"}}'; }
applied first >"$WORK/applied.json"
probe apply "$WORK/applied.json"
applied second >"$WORK/applied.json"
kubectl patch configmap applied --type merge -p '{"data": {"theirs": "kept"}}' >/dev/null
probe apply "$WORK/applied.json"
assert_eq apply "$(kubectl get configmap applied -o 'jsonpath={.data.key} {.data.theirs}')" 'second kept'
echo '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied", "namespace": "default"}, "dta": {}}' >"$WORK/applied.json"
refused dta apply "$WORK/applied.json" # strict

# --- a list of several pages ---
{
	for i in $(seq 1100); do
		printf '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "many-%04d", "namespace": "default", "labels": {"many": "%d"}}}\n' $i $((i % 2))
	done
} >"$WORK/many.json"
kubectl create -f "$WORK/many.json" >/dev/null
assert_eq 'all pages' "$(probe list many | sort -u | wc -l)" 1100
assert_eq 'a selector' "$(probe list many=1 | wc -l)" 550
assert_eq 'the kind of items' "$(probe list many | cut -d' ' -f1 | sort -u)" ConfigMap
kubectl delete configmap -l many --wait=false >/dev/null
note "lists"

# --- many watches and requests at once: over one connection, and every watch is told of every write ---
read -r _ requests _ failures _ told _ connections < <(probe load 20 6 2)
assert_eq 'requests that failed' "$failures" 0
assert_eq 'connections' "$connections" 1
[ "$told" -ge $((20 * 6)) ] || fail "20 watches were told of $told changes of 6 objects"
note "$requests requests beside 20 watches over one connection, $told changes told"

# --- a watch ---
# The probe watches what has the label "probe" until its standard input says something. (It does not end: the peers inherit it.)
mkfifo "$WORK/stdin"
"$PROBE" watch <"$WORK/stdin" >"$WORK/seen" 2>"$WORK/watch.log" &
watcher=$!
background+=("$watcher")
exec {hold}>"$WORK/stdin"
lists_again() { grep -c 'listing again' "$WORK/watch.log" || true; }
seen() { grep -qxF -- "$1" "$WORK/seen"; }
wait_for 30 seen 'synced 0'
probe create b one >/dev/null
wait_for 30 seen 'ADDED b one'
probe patch b two >/dev/null
wait_for 30 seen 'MODIFIED b two'
probe create c one >/dev/null
probe delete b
wait_for 30 seen 'DELETED b two'
kubectl label configmap c probe- >/dev/null # it matches no more
wait_for 30 seen 'DELETED c one'
kubectl label configmap c probe=again >/dev/null
wait_for 30 eval '[ "$(grep -cx "ADDED c one" "$WORK/seen")" = 2 ]'
note "watch"

# --- the API server goes and comes back; meanwhile nothing happened ---
stop_kube apiserver
wait_for 20 grep -q 'a watch failed and is tried again' "$WORK/watch.log"
start_kube controller-manager
probe patch c two >/dev/null
wait_for 30 seen 'MODIFIED c two'
note "watch after a restart"

# --- the API server comes back with a history that does not reach back: 410, and a list that has to tell of what was missed ---
probe create d one >/dev/null
probe create e one >/dev/null
wait_for 30 seen 'ADDED e one'
before=$(lists_again)
stop_kube apiserver # the watch ends: what comes now it does not see
kill -STOP "$watcher"
start_kube controller-manager
probe delete d
probe patch e two >/dev/null
probe create f one >/dev/null
stop_kube apiserver
start_kube controller-manager
kubectl create configmap anything >/dev/null # moves the history on
! seen 'DELETED d one' || fail 'the watch was not stopped'
kill -CONT "$watcher"
wait_for 60 seen 'DELETED d one'
wait_for 30 seen 'MODIFIED e two'
wait_for 30 seen 'ADDED f one'
[ "$(lists_again)" -gt "$before" ] || fail 'the watch was not told that the history is gone'
assert_eq 'deletions told' "$(grep -c '^DELETED d' "$WORK/seen")" 1
probe patch f two >/dev/null
wait_for 30 seen 'MODIFIED f two'
echo >&"$hold"
wait "$watcher" || fail "the watching probe failed"
assert_eq 'the end of a watch' "$(tail -n 1 "$WORK/seen")" 'stopped after less than 10 s' # the server would end it after minutes
! grep managedFields "$WORK/seen" || fail 'managedFields are kept'
note "watch after 410"

# --- events ---
probe event f Tested 'a note' 3
wait_for 30 eval '[ -n "$(kubectl get events.events.k8s.io -o name)" ]'
assert_eq 'an event and its series' \
	"$(kubectl get events.events.k8s.io -o 'jsonpath={range .items[?(@.reason=="Tested")]}{.type} {.regarding.name} {.note} {.series.count}{"\n"}{end}')" \
	'Warning f a note 3'
assert_contains 'kubectl describe' "$(kubectl events --for configmap/f)" 'a note'

# --- somebody who may do little ---
kubectl create serviceaccount little >/dev/null
kubectl create role little --verb=get --resource=configmaps >/dev/null
kubectl create rolebinding little --role=little --serviceaccount=default:little >/dev/null
kubectl create token little >"$WORK/token"
server=$(kubectl config view --minify -o 'jsonpath={.clusters[0].cluster.server}')
cat >"$WORK/little.kubeconfig" <<END
current-context: little
contexts: [{name: little, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "$server", certificate-authority: kube/tls/ca.crt}}]
users: [{name: u, user: {tokenFile: token}}]
END
export KUBECONFIG=$WORK/little.kubeconfig
assert_contains 'what is allowed' "$(probe get f)" 'f two'
refused 'error Permanent Forbidden 403 cannot list configmaps in namespace default' list
refused 'error Permanent Forbidden 403 cannot delete configmaps default/f' delete f
probe event f Denied 'a note' 3 2>"$WORK/quiet.log"
assert_eq 'told once that there are no events' "$(grep -c 'no events will be written' "$WORK/quiet.log")" 1
echo nonsense >"$WORK/token"
refused 'error Permanent Unauthorized 401' get f
rm "$WORK/token"
refused 'error Transient NoToken' get f
refused 'error Transient NoToken' delete f # not taken for an absent object

# --- a server that is not the one we know ---
openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=other -keyout "$WORK/other.key" -out "$WORK/other.crt" 2>/dev/null
sed "s,kube/tls/ca.crt,other.crt," "$WORK/little.kubeconfig" >"$WORK/other.kubeconfig"
echo nonsense >"$WORK/token"
KUBECONFIG=$WORK/other.kubeconfig refused TLSFailed get f
