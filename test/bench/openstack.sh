#!/usr/bin/env bash
# The download of a raw root disk from a real Glance, as Glance itself times it: an import's, with its checksum verified and its disk written, against
# curl -o /dev/null of an image of the same bytes. Some rounds, one after the other.
#   VIC=PROGRAM           what to measure (default: the release build)
#   BENCH_MIB=1024        size of the disk: random bytes
#   BENCH_ROUNDS=3
#   OPENSTACK_STATE=DIR   a cloud that is up (test/integration/openstack.sh)
# timeout: 3600
here=$(cd "$(dirname "$0")/../.." && pwd)
export VIC=${VIC:-$here/build/release/controller/vm-import-controller} OPENSTACK_FRONT=no
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
for ((round = 1; round <= ${BENCH_ROUNDS:-3}; round++)); do
	curl -fsS -o /dev/null -H "X-Auth-Token: $TOKEN" "http://127.0.0.1:$GLANCE/v2/images/$image/file"
	by_curl=$(took)
	rm -rf "$WORK/out"
	"$VIC" import -q -f "$WORK/bench.yaml" -o "$WORK/out" >/dev/null
	by_us=$(took)
	cmp "$WORK/out/bench/disk-0.raw" "$WORK/bytes"
	awk -v c="$by_curl" -v u="$by_us" -v m="$mib" 'BEGIN { printf "%d MiB: curl %.1f s (%.0f MiB/s), import %.1f s (%.0f MiB/s): %.2f times as fast\n", m, c, m / c, u, m / u, c / u }'
done
os compute DELETE "/servers/$server"
os image DELETE "/images/$image"
TOKEN=$ADMIN_TOKEN os compute DELETE "/flavors/$flavor"
