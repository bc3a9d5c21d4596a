#!/bin/bash
# What happens to connections and servers, between a worker (kube_worker.c: a watch, and writes that are tried until they succeed) and a real API
# server. After each fault no write may be lost, no object be there twice, and the watch's copy be what the server has. Prints how long that
# took since the fault ended, or, for connections that stay dead, since it began. KUBE_FAULTS=long adds more of them (a minute and a half).
# needs: kube
# timeout: 840
. "$(dirname "$0")/lib.sh"

WORKER=${KUBE_WORKER:-$SOURCE_DIR/build/dev/test/integration/kube_worker}
[ -x "$WORKER" ] || fail "there is no $WORKER"

start_kube controller-manager
kubectl create serviceaccount worker >/dev/null
kubectl create role worker --verb='get,list,watch,create,patch' --resource=configmaps >/dev/null
kubectl create rolebinding worker --role=worker --serviceaccount=default:worker >/dev/null
new_token() { # new_token NAME: bound to a Secret, so that it is valid no more when that goes
	kubectl create secret generic "$1" >/dev/null
	kubectl create token worker --bound-object-kind=Secret --bound-object-name="$1" >"$WORK/token.new"
	mv "$WORK/token.new" "$WORK/token"
}
new_token token-one

{ read -r server_port; read -r etcd_port; } <"$WORK/kube/ports"
mkfifo "$WORK/proxy.stdin" "$WORK/worker.stdin"
python3 "$PEERS/proxy/proxy.py" "$server_port" "$WORK/kube/tls/server.crt" "$WORK/kube/tls/server.key" \
	<"$WORK/proxy.stdin" >"$WORK/proxy.ports" 2>"$WORK/proxy.log" &
background+=($!)
exec {proxy_stdin}>"$WORK/proxy.stdin"
wait_for 20 grep -q . "$WORK/proxy.ports"
read -r proxy_port control_port <"$WORK/proxy.ports"
proxy() { # proxy COMMAND...: see proxy.py; prints how many connections it has seen
	local reply fd
	exec {fd}<>"/dev/tcp/127.0.0.1/$control_port"
	echo "$*" >&"$fd"
	read -r _ reply <&"$fd"
	exec {fd}>&-
	echo "$reply"
}

cp "$WORK/kube/tls/ca.crt" "$WORK/ca.crt"
cat >"$WORK/worker.kubeconfig" <<END
current-context: worker
contexts: [{name: worker, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:$proxy_port", certificate-authority: ca.crt}}]
users: [{name: u, user: {tokenFile: token}}]
END
: >"$WORK/copy"
KUBECONFIG=$WORK/worker.kubeconfig "$WORKER" work "$WORK/copy" <"$WORK/worker.stdin" >"$WORK/said" 2>"$WORK/worker.log" &
worker=$!
background+=("$worker")
exec {worker_stdin}>"$WORK/worker.stdin"
tell() { echo "$*" >&"$worker_stdin"; }
said() { grep -qE -- "^$1" "$WORK/said"; }

foreign() { # foreign NAME VALUE: somebody else's object, straight to the server
	kubectl create configmap "$1" --from-literal=key="$2" --dry-run=client -o json |
		jq '.metadata.labels = {work: "1"}' | kubectl apply -f - >/dev/null 2>&1
}
truth() {
	kubectl get configmap -l work -o 'jsonpath={range .items[*]}{.metadata.name}={.data.key}{"\n"}{end}' | LC_ALL=C sort
}
in_sync() { [ "$(truth)" = "$(cat "$WORK/copy")" ]; }

fault=0
# begin NAME: the worker and others write; what the others do is seen by the watch alone
begin() {
	fault=$((fault + 1))
	fault_name=$1
	before=$(wc -l <"$WORK/said")
	tell set ours "value-$fault"
	tell make "token-$fault"
	foreign theirs "value-$fault"
	foreign "new-$fault" here
	kubectl delete configmap "new-$((fault - 1))" >/dev/null
}
failing() { [ "$(tail -n "+$((before + 1))" "$WORK/said" | grep -c '^failed')" -ge "${1:-1}" ]; }
settled() { said "set ours value-$fault after" && said "made token-$fault .* after" && in_sync; }
# end SINCE [SECONDS]: all is well again, within so many seconds
end() {
	local since=$1
	wait_for "${2:-60}" settled
	took=$(awk "BEGIN { printf \"%.1f\", ($(now) - $since) / 1000 }")
	assert_eq "$fault_name: objects made" "$(kubectl get configmap -l "made=token-$fault" -o name | wc -l)" 1
	assert_eq "$fault_name: our write" "$(kubectl get configmap ours -o 'jsonpath={.data.key}')" "value-$fault"
	! said 'wrong event' || fail "$fault_name: $(grep 'wrong event' "$WORK/said")"
	note "$(printf '%-62s back in sync after %5s s, %s failed calls' "$fault_name" "$took" "$(tail -n "+$((before + 1))" "$WORK/said" | grep -c '^failed' || true)")"
}
now() { date +%s%3N; }

foreign ours value-0
foreign theirs value-0
foreign new-0 here
wait_for 30 in_sync
begin 'nothing'
end "$(now)"
assert_eq 'connections of the worker' "$(proxy pass)" 1

# --- connections ---
proxy cut >/dev/null
begin 'all connections are reset'
end "$(now)"

# The request arrives, its answer does not.
long() { [ "${KUBE_FAULTS:-}" = long ]; }
for _ in 1 $(! long || seq 9); do
	proxy lose >/dev/null
	begin 'the answer to a request is lost'
	end "$(now)"
done

proxy freeze >/dev/null
began_at=$(now)
begin 'the connection is dead, both ways, and nobody says so'
end "$began_at"

if long; then
	proxy half >/dev/null
	began_at=$(now)
	begin 'the connection is half open: the server hears us, we not it'
	end "$began_at"
fi

proxy drip 100 20 >/dev/null
begin 'the answers drip, 5 kB a second'
dripping() { said "set ours value-$fault after"; }
wait_for 60 dripping
proxy pass >/dev/null
end "$(now)"

proxy handshake >/dev/null
begin 'TLS handshakes are reset'
wait_for 60 failing 3
proxy pass >/dev/null
end "$(now)"

# --- answers ---
proxy status 429 Retry-After: 1 >/dev/null
begin 'everything is answered with 429, Retry-After: 1'
wait_for 60 failing
proxy pass >/dev/null
end "$(now)"

proxy status 500 >/dev/null
begin 'everything is answered with 500'
wait_for 60 failing 3
proxy pass >/dev/null
end "$(now)"

# --- credentials ---
kubectl delete secret token-one >/dev/null
refused() { tell set ours "value-$fault"; said 'failed [A-Za-z]+ Unauthorized 401'; }
wait_for 60 refused # the server believes in a token for some seconds more
proxy cut >/dev/null
begin 'the token is valid no more; a new one comes'
wait_for 60 failing 2
new_token token-two
end "$(now)"

# --- servers ---
kill_apiserver() {
	kill -KILL "$(cat "$WORK/kube/run/apiserver")"
	rm "$WORK/kube/run/apiserver"
}
kill_apiserver
tell set ours "value-$((fault + 1))"
(
	cd "$WORK/kube/tls"
	key='-newkey rsa:2048 -nodes -sha256 -days 10'
	openssl req -x509 $key -subj /CN=another-ca -keyout ca.key -out ca.crt
	openssl req -x509 $key -subj /CN=kube-apiserver -CA ca.crt -CAkey ca.key -addext basicConstraints=critical,CA:false \
		-addext extendedKeyUsage=serverAuth -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:10.0.0.1 -keyout server.key -out server.crt
) 2>/dev/null
start_kube controller-manager
began_at=$(now)
begin 'the server is killed and comes back with a certificate of another CA'
cp "$WORK/kube/tls/ca.crt" "$WORK/ca.crt"
end "$began_at"

# What the watch knows is older than what etcd still has: 410, and a list tells of what was missed, deletions too.
gone() { grep -c 'the history of a watch is gone' "$WORK/worker.log" || true; }
gone_before=$(gone)
kill -STOP "$worker"
proxy cut >/dev/null
begin 'the history is gone (etcd compacted, 410)'
for i in 1 2 3; do foreign theirs "value-$fault.$i"; done
kill_apiserver
etcd() { curl -fsS -d "$2" "http://127.0.0.1:$etcd_port/v3/kv/$1"; }
etcd compaction "{\"revision\": \"$(etcd range '{"key": "AA=="}' | jq -r .header.revision)\", \"physical\": true}" >/dev/null
start_kube controller-manager
foreign theirs "value-$fault"
kill -CONT "$worker"
end "$(now)"
[ "$(gone)" -gt "$gone_before" ] || fail 'the watch was not told that the history is gone'

if long; then
	# Nobody of ours writes: only the probe of a silent connection can find out.
	proxy freeze >/dev/null
	began_at=$(now)
	foreign theirs silent
	fault_name='the connection is dead, and only the watch is there'
	wait_for 120 in_sync
	note "$fault_name: back in sync after $((($(now) - began_at) / 1000)) s"
fi

tell connections
wait_for 10 said connections
note "$(grep '^connections' "$WORK/said") of the worker, $(proxy pass) at the proxy"
tell quit # the end of its input does not come: the peers inherit the other end
wait "$worker" || fail "the worker failed: $(tail -n 3 "$WORK/worker.log")"
