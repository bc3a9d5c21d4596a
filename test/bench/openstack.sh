#!/usr/bin/env bash
# The download of a raw root disk from a real Glance, as Glance itself times it: an import's, with its checksum verified and its disk written, against
# curl of the same image: to /dev/null, and into openssl's SHA-512, which is what bounds a download that is verified. The fastest of some
# rounds of each; they take turns.
#   VIC=PROGRAM           what to measure (default: the release build)
#   BENCH_MIB=1024        size of the disk: random bytes
#   BENCH_ROUNDS=3
#   BENCH_GBIT=N          all of it over a network of so many Gbit/s (tc, in a network namespace); without, over one that has no limit
#   OPENSTACK_STATE=DIR   a cloud that is up (test/integration/openstack.sh); not with BENCH_GBIT
# timeout: 3600
here=$(cd "$(dirname "$0")/../.." && pwd)
export VIC=${VIC:-$here/build/release/controller/vm-import-controller} OPENSTACK_FRONT=no
if [ -n "${BENCH_GBIT:-}" ] && [ -z "${BENCH_INSIDE:-}" ]; then
	unset OPENSTACK_STATE
	BENCH_INSIDE=1 OUTSIDE='' exec unshare -n bash -c 'ip link set lo up && tc qdisc add dev lo root tbf rate "$0gbit" burst 2mb latency 50ms && exec bash "$1"' "$BENCH_GBIT" "$0"
fi
. "$here/test/integration/lib.sh"
. "$here/test/integration/openstack.sh"

[ -x "$VIC" ] || { echo "openstack.sh: build $VIC first, or name another in VIC" >&2; exit 2; }
start_openstack
mib=${BENCH_MIB:-1024}
head -c "${mib}M" /dev/urandom >"$WORK/bytes"
image=$(os_image bench raw "$WORK/bytes")
admin=$(TOKEN=$ADMIN_TOKEN os identity GET '/v3/users?name=admin' | jq -r '.users[0].id')
role=$(TOKEN=$ADMIN_TOKEN os identity GET '/v3/roles?name=admin' | jq -r '.roles[0].id')
TOKEN=$ADMIN_TOKEN os identity PUT "/v3/projects/$PROJECT/users/$admin/roles/$role"
flavor=$(TOKEN=$ADMIN_TOKEN os compute POST /flavors '{"flavor": {"name": "bench", "ram": 256, "vcpus": 1, "disk": 0}}' | jq -r .flavor.id)
server=$(TOKEN=$(os_token admin demo) os compute POST /servers '{"server": {"name": "bench", "flavorRef": "'"$flavor"'", "imageRef": "'"$image"'", "networks": "none"}}' | jq -r .server.id)
wait_for 120 server_is "$server" ACTIVE
{
	sed "s#$FRONT_URL/identity#http://127.0.0.1:$KEYSTONE#; /interface: admin/d; /ca_cert/,/END CERT/d" <(openstack_source)
	openstack_import bench bench
} >"$WORK/bench.yaml"

took() { # took: the seconds of the last download of so many bytes
	grep -E '"GET /v2/images/[^ ]*/file' "$B/log/glance.log" | awk -v min=$((mib << 20)) '$(NF - 1) >= min { t = $NF } END { print t }'
}
get() { curl -fsS -H "X-Auth-Token: $TOKEN" "http://127.0.0.1:$GLANCE/v2/images/$image/file"; }
for ((round = 1; round <= ${BENCH_ROUNDS:-3}; round++)); do
	get >/dev/null
	echo "curl $(took)"
	get | openssl dgst -sha512 -r >"$WORK/sum"
	echo "curl_sha512 $(took)"
	rm -rf "$WORK/out"
	"$VIC" import -q -f "$WORK/bench.yaml" -o "$WORK/out" >/dev/null
	echo "import $(took)"
	cmp "$WORK/out/bench/disk-0.raw" "$WORK/bytes"
done >"$WORK/times"
awk -v mib="$mib" '!($1 in best) || $2 < best[$1] { best[$1] = $2 }
	END {
		for (way in best) printf "value openstack_download_%s %.0f MiB/s\n", way, mib / best[way]
		printf "ratio openstack_download_vs_curl %.3f\nratio openstack_download_vs_curl_sha512 %.3f\n", best["curl"] / best["import"], best["curl_sha512"] / best["import"]
	}' "$WORK/times"
printf 'value sha512_alone %s MiB/s\n' "$(openssl speed -mr -evp sha512 -bytes 262144 -seconds 1 2>/dev/null | awk -F: '/^\+F/ { printf "%d", $NF / 1048576 }')"
os compute DELETE "/servers/$server"
os image DELETE "/images/$image"
TOKEN=$ADMIN_TOKEN os compute DELETE "/flavors/$flavor"
