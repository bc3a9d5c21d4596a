#!/bin/bash
# Servers of a real OpenStack: every kind of disk comes as it is, whatever happens on the way, and nothing of ours stays in the cloud.
# OPENSTACK_STEPS=all kills at every step instead of some (a quarter of an hour).
# timeout: 2400
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/openstack.sh"

start_openstack
known=$B/var/known

# --- servers -------------------------------------------------------------------------------------------------------------

uefi=$(os compute GET '/servers?name=^demo-uefi$' | jq -r '.servers[0].id')
net=$(os network GET '/networks?name=demo-net' | jq -r '.networks[0].id')
net2=$(os network GET '/networks?name=demo-net2' | jq -r '.networks[0].id')
root_image=$(os image GET '/images?name=demo-uefi-image' | jq -r '.images[0].id')
head -c 5M /dev/urandom >"$WORK/data.raw"
truncate -s $GIB "$WORK/data.raw"
printf 'the end' | dd of="$WORK/data.raw" bs=1 seek=$((GIB - 7)) conv=notrunc status=none
data_image=$(os_image data raw "$WORK/data.raw")
volume() { # volume NAME [MORE-JSON]: of one "GiB", with the bytes of data.raw
	os_volume POST /volumes '{"volume": {"name": "'"$1"'", "size": 1, "imageRef": "'"$data_image"'"'"${2:+, $2}"'}}' | jq -r .volume.id
}
flavor=$(TOKEN=$ADMIN_TOKEN os compute POST /flavors '{"flavor": {"name": "m1.mixed", "ram": 256, "vcpus": 2, "disk": 1, "OS-FLV-EXT-DATA:ephemeral": 1, "swap": 64}}' | jq -r .flavor.id)
tiny=$(TOKEN=$ADMIN_TOKEN os compute GET /flavors | jq -r '.flavors[] | select(.name == "m1.tiny") | .id')
group=$(os network POST /security-groups '{"security_group": {"name": "web"}}' | jq -r .security_group.id)
# The ports' order is the other way round than that of their making.
port2=$(os network POST /ports '{"port": {"network_id": "'"$net2"'", "name": "second", "security_groups": ["'"$group"'"]}}' | jq -r '.port | .id + " " + .mac_address')
sleep 1 # Neutron's times are of whole seconds
port1=$(os network POST /ports '{"port": {"network_id": "'"$net"'", "name": "first"}}' | jq -r '.port | .id + " " + .mac_address')
volume_type() { # volume_type NAME [EXTRA-SPEC]
	os_admin_volume POST /types '{"volume_type": {"name": "'"$1"'", "extra_specs": {'"${2:-}"'}}}' >/dev/null
}
volume_type slow
volume_type multi '"multiattach": "<is> True"'
declare -A volumes
for name in paused-root suspended-root small-root locked; do volumes[$name]=$(volume $name); done
volumes[mixed-data]=$(volume mixed-data '"volume_type": "slow"')
volumes[shared]=$(volume shared '"volume_type": "multi"')
for name in "${!volumes[@]}"; do wait_for 120 volume_is "${volumes[$name]}" available; done
from_volume() { # from_volume NAME VOLUME: a server's id
	V=2.60 os compute POST /servers '{"server": {"name": "'"$1"'", "flavorRef": "'"$tiny"'", "networks": "none", "block_device_mapping_v2": [
		{"boot_index": 0, "uuid": "'"$2"'", "source_type": "volume", "destination_type": "volume"}]}}' | jq -r .server.id
}
TOKEN=$ADMIN_TOKEN os compute PUT "/os-quota-sets/$PROJECT" '{"quota_set": {"instances": 50, "cores": 100}}' >/dev/null
declare -A servers
servers[mixed]=$(os compute POST /servers '{"server": {"name": "mixed (1) + [x]", "flavorRef": "'"$flavor"'", "imageRef": "'"$root_image"'", "networks": [{"port": "'"${port1% *}"'"}, {"port": "'"${port2% *}"'"}],
	"description": "eins, zwei", "block_device_mapping_v2": [
	{"boot_index": 0, "uuid": "'"$root_image"'", "source_type": "image", "destination_type": "local"},
	{"boot_index": -1, "uuid": "'"${volumes[mixed-data]}"'", "source_type": "volume", "destination_type": "volume"}]}}' | jq -r .server.id)
servers[other]=$(os compute POST /servers '{"server": {"name": "mixed (1) + [xy]", "flavorRef": "'"$tiny"'", "imageRef": "'"$root_image"'", "networks": "none"}}' | jq -r .server.id)
for name in paused suspended small; do servers[$name]=$(from_volume $name "${volumes[$name-root]}"); done
for i in 1 2; do servers[twin$i]=$(os compute POST /servers '{"server": {"name": "twin", "flavorRef": "'"$tiny"'", "imageRef": "'"$root_image"'", "networks": "none"}}' | jq -r .server.id); done
servers[locked]=$(from_volume locked "${volumes[locked]}")
# A root disk as large as its image: only administrators may use such a flavor.
TOKEN=$ADMIN_TOKEN os identity PUT "/v3/projects/$PROJECT/users/$(TOKEN=$ADMIN_TOKEN os identity GET '/v3/users?name=admin' | jq -r '.users[0].id')/roles/$(TOKEN=$ADMIN_TOKEN os identity GET '/v3/roles?name=admin' | jq -r '.roles[0].id')"
as_admin=$(os_token admin demo)
no_disk=$(TOKEN=$ADMIN_TOKEN os compute POST /flavors '{"flavor": {"name": "m1.nodisk", "ram": 256, "vcpus": 1, "disk": 0}}' | jq -r .flavor.id)
servers[qcow]=$(TOKEN=$as_admin os compute POST /servers '{"server": {"name": "qcow", "flavorRef": "'"$no_disk"'", "imageRef": "'"$root_image"'", "networks": "none"}}' | jq -r .server.id)
for name in "${!servers[@]}"; do wait_for 120 server_is "${servers[$name]}" ACTIVE; done
os compute POST "/servers/${servers[paused]}/action" '{"pause": null}'
os compute POST "/servers/${servers[suspended]}/action" '{"suspend": null}'
os compute POST "/servers/${servers[locked]}/action" '{"lock": null}'
os compute POST "/servers/${servers[twin1]}/action" '{"shelve": null}'
TOKEN=$ADMIN_TOKEN os compute POST "/servers/${servers[twin2]}/action" '{"os-resetState": {"state": "error"}}'
wait_for 60 server_is "${servers[paused]}" PAUSED
wait_for 60 server_is "${servers[suspended]}" SUSPENDED
wait_for 60 server_is "${servers[twin1]}" SHELVED_OFFLOADED
wait_for 60 server_is "${servers[twin2]}" ERROR
credential=$(os identity POST "/v3/users/$DEMO_USER/application_credentials" '{"application_credential": {"name": "import"}}' |
	jq -r '.application_credential | "application_credential_id: \(.id), application_credential_secret: \(.secret)"')
os_things | sort >"$WORK/before"
note "$(wc -l <"$WORK/before") volumes, snapshots and images"

assert_clean() { # assert_clean WHAT
	os_things | sort >"$WORK/after"
	diff "$WORK/before" "$WORK/after" >&2 || fail "$1: the project does not have what it had"
}

import() { # import NAME...: of $WORK/NAME.yaml; what is said is in $WORK/said
	local files=() name
	for name in "$@"; do files+=(-f "$WORK/$name.yaml"); done
	"$VIC" import "${files[@]}" -o "$WORK/out" >"$WORK/said" 2>&1
}
# --- each kind of disk ---------------------------------------------------------------------------------------------------

note "--- all kinds of disks, a page at a time"
{
	openstack_source
	SECRET=$credential openstack_source credential
	openstack_import plain demo-vm 'networkMapping: [{sourceNetwork: demo-net, destinationNetwork: default/prod}]'
	openstack_import uefi "$uefi"
	SOURCE_NAME=credential openstack_import mixed 'mixed (1) + [x]' 'networkMapping: [{sourceNetwork: demo-net, destinationNetwork: a}, {sourceNetwork: demo-net2, destinationNetwork: b}]'
	openstack_import paused paused
	openstack_import qcow qcow
	SOURCE_NAME=credential openstack_import suspended suspended
} >"$WORK/all.yaml"
"$VIC" plan -f "$WORK/all.yaml" -o json >"$WORK/plan" || fail "$(<"$WORK/plan")"
assert_eq "machines of whose time a plan says why it is not known" \
	"$(jq '[.imports[] | select(.seconds == null and .bytes > 0 and (.noSample | startswith("the cloud makes an image of each disk first")))] | length' "$WORK/plan")" 6
assert_eq "what a plan wants to fetch" "$(jq '.imports[] | select(.name == "plain") | .bytes == ([.disks[] | .allocated // .capacity] | add)' "$WORK/plan")" true
assert_clean "a plan"
front_fault '{"kind": "page", "method": "GET", "limit": 2}'
import all || fail "$(<"$WORK/said")"
assert_cloud_disk "$WORK/out/plain/disk-0.raw" 1 "$known.raw"
assert_cloud_disk "$WORK/out/plain/disk-1.raw" 2
assert_cloud_disk "$WORK/out/uefi/disk-0.raw" 1 "$known-small.raw"
assert_cloud_disk "$WORK/out/uefi/disk-1.raw" 1 "$known-small.raw"
assert_same "$WORK/out/qcow/disk-0.raw" "$known-small.raw"
front_saw 'GET /image/[^ ]*/file 200'
assert_cloud_disk "$WORK/out/mixed/disk-0.raw" 1 "$known-small.raw"
assert_cloud_disk "$WORK/out/mixed/disk-1.raw" 1
assert_eq "swap" "$(blkid -p -s TYPE -o value "$WORK/out/mixed/disk-2.raw") $(stat -c %s "$WORK/out/mixed/disk-2.raw")" "swap $((64 << 20))"
assert_cloud_disk "$WORK/out/mixed/disk-3.raw" 1 "$WORK/data.raw"
for name in paused suspended; do
	assert_cloud_disk "$WORK/out/$name/disk-0.raw" 1 "$WORK/data.raw"
	wait_for 60 server_is "${servers[$name]}" SHUTOFF
done
assert_clean "imports"
front_saw 'servers/detail.*marker=' || fail "no second page was asked for"
front_clear
grep -q "guest: 256Mi" "$WORK/out/mixed/virtualmachine.yaml"
assert_eq "MAC addresses of mixed" "$(awk '/macAddress:/ { print $2 }' "$WORK/out/mixed/virtualmachine.yaml" | tr -d '"' | xargs)" "${port1#* } ${port2#* }"
assert_eq "networks of mixed" "$(awk '/networkName:/ { print $2 }' "$WORK/out/mixed/virtualmachine.yaml" | xargs)" "default/a default/b"
assert_contains "description" "$(<"$WORK/out/mixed/virtualmachine.yaml")" "eins, zwei"
assert_contains "UEFI" "$(<"$WORK/out/uefi/virtualmachine.yaml")" "efi:"
assert_eq "CPUs of uefi" "$(awk '/^ +(cores|sockets|threads):/ { print $2 }' "$WORK/out/uefi/virtualmachine.yaml" | xargs)" "2 2 1"
rm -rf "$WORK/out"

note "--- a qcow2 image that is read by place is removed in the middle"
{ openstack_source; openstack_import qcow qcow; } >"$WORK/qcow.yaml"
front_fault '{"kind": "cut", "path": "/file$", "after": 100000, "count": 1}'
front_fault '{"kind": "status", "path": "/file$", "status": 404, "skip": 1, "count": 1}'
import qcow || fail "$(<"$WORK/said")"
assert_eq "faults met" "$(front_hits)" 2
assert_same "$WORK/out/qcow/disk-0.raw" "$known-small.raw"
assert_clean "an image that was removed"
front_clear
rm -rf "$WORK/out"

note "--- services of old: the first microversions"
front_fault '{"kind": "status", "path": "^/compute/v2.1/?$", "status": 200, "body": "{\"version\": {\"id\": \"v2.1\", \"version\": \"2.1\", \"min_version\": \"2.1\"}}"}'
front_fault '{"kind": "status", "path": "^/volume/v3/?$", "status": 200, "body": "{\"versions\": [{\"id\": \"v3.0\", \"version\": \"3.0\", \"min_version\": \"3.0\"}]}"}'
{ openstack_source; openstack_import uefi "$uefi"; } >"$WORK/old.yaml"
import old || fail "$(<"$WORK/said")"
[ "$(front_hits)" -ge 2 ] || fail "nobody asked for the versions"
assert_cloud_disk "$WORK/out/uefi/disk-0.raw" 1 "$known-small.raw"
assert_cloud_disk "$WORK/out/uefi/disk-1.raw" 1 "$known-small.raw"
assert_eq "CPUs of uefi" "$(awk '/^ +(cores|sockets|threads):/ { print $2 }' "$WORK/out/uefi/virtualmachine.yaml" | xargs)" "2 2 1"
assert_clean "services of old"
front_clear
rm -rf "$WORK/out"

note "--- a volume of two servers, which are both off by now"
attached() { [ "$(os_volume GET "/volumes/${volumes[shared]}" | jq -r '.volume | "\(.status) \(.attachments | length)"')" = "in-use $1" ]; }
attach() { # attach SERVER NUMBER
	V=2.60 os compute POST "/servers/${servers[$1]}/os-volume_attachments" '{"volumeAttachment": {"volumeId": "'"${volumes[shared]}"'"}}' >/dev/null
	wait_for 60 attached "$2"
}
attach paused 1
attach suspended 2
os_things | sort >"$WORK/before"
{ openstack_source; openstack_import shared paused; } >"$WORK/shared.yaml"
import shared || fail "$(<"$WORK/said")"
assert_cloud_disk "$WORK/out/shared/disk-0.raw" 1 "$WORK/data.raw"
assert_cloud_disk "$WORK/out/shared/disk-1.raw" 1 "$WORK/data.raw"
assert_clean "a shared volume"
os compute POST "/servers/${servers[suspended]}/action" '{"os-start": null}'
wait_for 60 server_is "${servers[suspended]}" ACTIVE
rm -rf "$WORK/out"

note "--- what cannot be imported is refused by name"
sqlite() { python3 -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()' "$B/var/$1.db" "$2"; }
sqlite cinder "update volumes set encryption_key_id = 'f0000000-0000-4000-8000-000000000000' where id = '${volumes[small-root]}'"
set_limits() { # set_limits JSON: of the project demo
	os_admin_volume PUT "/os-quota-sets/$PROJECT" '{"quota_set": '"$1"'}' >/dev/null
}
set_limits '{"volumes": 1, "gigabytes": 3}'
{
	openstack_source
	openstack_import twins twin
	openstack_import shelved "${servers[twin1]}"
	openstack_import broken "${servers[twin2]}"
	openstack_import encrypted small
	openstack_import shared paused
	openstack_import locked "${servers[locked]}"
	openstack_import absent 'no such.*'
} >"$WORK/refused.yaml"
if import refused; then fail "all were imported"; fi
refusal() { # refusal IMPORT TEXT...: what was said of it
	local message
	message=$(grep " default/$1 failed" "$WORK/said" | tail -n 1)
	shift
	for text in "$@"; do assert_contains "what was said" "$message" "$text"; done
}
refusal twins '2 servers have the name "twin"' "${servers[twin1]}" "${servers[twin2]}"
refusal shelved "is shelved"
refusal broken "has the status ERROR"
refusal encrypted "the volume small-root (${volumes[small-root]})" "is encrypted" "lacks"
refusal locked "is locked"
refusal shared "the volume shared (${volumes[shared]}) of paused" "is shared with servers that may write to it: suspended (${servers[suspended]})"
refusal absent "no server with the name or id"
sqlite cinder "update volumes set encryption_key_id = null where id = '${volumes[small-root]}'"
set_limits '{"volumes": -1, "gigabytes": -1}'
sed 's/password: secret/password: wrong/' "$WORK/refused.yaml" >"$WORK/login.yaml"
sed '/ca_cert/,/END CERT/d' "$WORK/refused.yaml" >"$WORK/trust.yaml"
rm -rf "$WORK/out"
if import login; then fail "a wrong password was taken"; fi
assert_contains "wrong password" "$(<"$WORK/said")" "refused the login of the user demo of the domain Default, project demo"
rm -rf "$WORK/out"
if import trust; then fail "a certificate of nobody's was taken"; fi
assert_contains "unknown certificate" "$(<"$WORK/said")" "put the CA's certificate into the key ca_cert of the Secret"
assert_clean "refused imports"
rm -rf "$WORK/out"

note "--- a cloud without snapshots, quotas for one disk at a time, a store without ranges, connections that break"
{ openstack_source; openstack_import plain demo-vm; openstack_import small small; } >"$WORK/some.yaml"
small_gib=1
again() { # again WHAT: the imports of some.yaml once more
	rm -rf "$WORK/out"
	import some || fail "$1: $(<"$WORK/said")"
	assert_cloud_disk "$WORK/out/plain/disk-0.raw" 1 "$known.raw"
	assert_cloud_disk "$WORK/out/plain/disk-1.raw" 2
	assert_cloud_disk "$WORK/out/small/disk-0.raw" $small_gib "$WORK/data.raw"
	assert_clean "$1"
}
set_limits '{"snapshots": 0}'
front_clear
again "without snapshots"
! front_saw 'POST /volume/v3/[^ ]*/snapshots' || fail "snapshots were asked for, though the quota has none"
set_limits '{"snapshots": -1}'
front_clear
front_fault '{"kind": "status", "method": "POST", "path": "/snapshots$", "status": 400, "body": "{\"badRequest\": {\"message\": \"the driver makes no snapshots\"}}"}'
front_fault '{"kind": "noranges"}'
front_fault '{"kind": "cut", "path": "/file$", "after": 7000000, "count": 2}'
again "with snapshots refused, and connections cut without ranges"
front_clear
front_fault '{"kind": "cut", "path": "/file$", "after": 7000000, "count": 3}'
front_fault '{"kind": "lost", "method": "POST", "path": "/snapshots$", "count": 1}'
front_fault '{"kind": "lost", "method": "POST", "path": "/volumes$", "count": 1}'
front_fault '{"kind": "lost", "method": "POST", "path": "/action$", "skip": 1, "count": 1}'
front_fault '{"kind": "flip", "path": "/file$", "at": 1000000, "skip": 3, "count": 1}'
front_fault '{"kind": "status", "method": "GET", "path": "/snapshots/", "status": 503, "count": 3}'
front_fault '{"kind": "status", "path": "/compute/", "status": 401, "skip": 2, "count": 1}'
# Somebody removes what was made: an image, a snapshot.
front_fault '{"kind": "status", "path": "/file$", "status": 404, "count": 1}'
front_fault '{"kind": "status", "method": "POST", "path": "/volumes$", "status": 404, "skip": 1, "count": 1}'
again "with answers that are lost, a flipped bit, errors that pass, a token refused"
front_saw '/file 206' || fail "no range was asked for"
front_clear

note "--- interrupted"
rm -rf "$WORK/out"
front_fault '{"kind": "slow", "path": "/file$", "bps": 400000}'
"$VIC" import -f "$WORK/some.yaml" -o "$WORK/out" >"$WORK/said" 2>&1 &
pid=$!
background+=($pid)
downloading() { front_saw 'POST .*/action 202' && ls "$WORK"/out/small/disk-0.raw; }
wait_for 120 downloading
kill -INT $pid
wait $pid || :
front_clear
assert_clean "interrupted"

note "--- and its volume has grown meanwhile"
{ openstack_source; openstack_import small small; } >"$WORK/small.yaml"
small_gib=2
V=3.42 os volume POST "/volumes/${volumes[small-root]}/action" '{"os-extend": {"new_size": 2}}' >/dev/null
grown() { [ "$(os_volume GET "/volumes/${volumes[small-root]}" | jq -r '.volume | "\(.size) \(.status)"')" = "2 in-use" ]; }
wait_for 60 grown
import small || fail "with a volume that has grown: $(<"$WORK/said")"
assert_cloud_disk "$WORK/out/small/disk-0.raw" 2 "$WORK/data.raw"
assert_clean "a volume that has grown"

# --- kill -9 -------------------------------------------------------------------------------------------------------------

note "--- killed at each step"
killed() { # killed STEP before|after: false when the import has fewer steps
	local pid
	rm -rf "$WORK/out"
	front_clear
	# It waits for its process id to be known to the front.
	( exec bash -c 'while [ ! -e "$0" ]; do sleep 0.05; done; exec "$@"' "$WORK/go" "$VIC" import -f "$WORK/small.yaml" -o "$WORK/out" ) >"$WORK/said" 2>&1 &
	pid=$!
	front_fault '{"kind": "kill", "pid": '$pid', "when": "'"$2"'", "method": "POST|DELETE|PATCH", "path": "^/(compute|volume|image)/", "skip": '$(($1 - 1))', "count": 1}'
	touch "$WORK/go"
	{ wait $pid || :; } 2>/dev/null
	rm -f "$WORK/go"
	[ "$(front_hits)" = 1 ] || return 1
	front_clear
	import small || fail "killed $2 request $1: $(<"$WORK/said")"
	assert_cloud_disk "$WORK/out/small/disk-0.raw" $small_gib "$WORK/data.raw"
	! grep -A1 '^  sourceLedger:' "$WORK/out/objects/virtualmachineimport-default-small.yaml" | found kind: || fail "killed $2 request $1: the ledger is not empty"
	assert_clean "killed $2 request $1"
}
# Small is off by now: without the shutdown, the steps are a refused upload, snapshot, volume, upload, mark, and three removals.
steps=0
for ((step = 1;; step++)); do
	if [ "${OPENSTACK_STEPS:-}" = all ]; then
		whens='before after'
	else
		((step % 2 == 0)) || continue
		whens=$([ $((step % 4)) = 0 ] && echo before || echo after)
	fi
	for when in $whens; do
		killed $step $when || break 2
		steps=$((steps + 1))
	done
done
note "killed at $steps points of less than $step requests"
((step >= 9)) || fail "an import has less than $step requests that change something"

# --- tokens and services -------------------------------------------------------------------------------------------------

note "--- tokens of 30 s, services that are started anew"
restart() { # restart SERVICE...
	local service pid
	for service in "$@"; do
		pid=$(<"$B/run/$service.pid")
		kill "$pid"
		for _ in $(seq 100); do readlink "/proc/$pid/exe" >/dev/null || break; sleep 0.1; done
		kill -KILL "$pid" 2>/dev/null || :
	done
	bash "$OPENSTACK/up.sh" start >>"$WORK/restart.log" 2>&1
}
logins() { front _log | grep -c '^POST /identity/v3/auth/tokens 201' || :; }
sed -i 's/^expiration = .*/expiration = 30/' "$B/etc/keystone.conf"
sed -i 's/^service_down_time/enable_force_upload = true\nservice_down_time/' "$B/etc/cinder.conf"
restart identity
rm -rf "$WORK/out"
front_clear
front_fault '{"kind": "slow", "path": "/file$", "bps": 100000}'
"$VIC" import -f "$WORK/some.yaml" -o "$WORK/out" >"$WORK/said" 2>&1 &
pid=$!
background+=($pid)
wait_for 120 downloading
wait_for 120 os_made 3
begun=$SECONDS login=$(logins)
restart nova cinder
# What was downloading goes on with a token that is valid no more.
while ((SECONDS - begun <= 31)); do sleep 1; done
restart glance
renewed() { [ "$(logins)" -gt "$login" ]; }
wait_for 60 renewed
front_clear
wait $pid || fail "with services started anew: $(<"$WORK/said")"
sed -i 's/^expiration = .*/expiration = 86400/' "$B/etc/keystone.conf"
restart identity
os_login
assert_cloud_disk "$WORK/out/plain/disk-0.raw" 1 "$known.raw"
assert_cloud_disk "$WORK/out/small/disk-0.raw" $small_gib "$WORK/data.raw"
assert_clean "services started anew, tokens of 30 s"

note "--- a cloud that uploads volumes in use"
front_clear
again "uploaded directly"
! front_saw 'POST [^ ]*/(snapshots|volumes) ' || fail "a snapshot or volume was made"
note "done"
