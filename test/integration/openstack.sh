# The OpenStack peer for scenarios; read after lib.sh. With OPENSTACK_STATE=DIR a cloud that is up already is used, and left as it is (its
# ports are those of up.sh's environment).

OPENSTACK=$PEERS/openstack

# start_openstack: a cloud of our own, and a front before it; sets B, FRONT, FRONT_URL, NOVA, CINDER... (ports) and tokens for os_api.
start_openstack() {
	local p
	[ "$(id -u)" = 0 ] || skip "the OpenStack peer needs root"
	need curl jq python3 qemu-img dpkg-deb
	export GIB=16777216
	if [ -n "${OPENSTACK_STATE:-}" ]; then
		export B=$OPENSTACK_STATE
	else
		for p in KEYSTONE PLACEMENT GLANCE CINDER NOVA NEUTRON; do export $p="$(free_port)"; done
		B=$CACHE/openstack outside bash "$OPENSTACK/up.sh" fetch >"$WORK/openstack.log" 2>&1 || skip "the OpenStack packages are not to be had: $(tail -n 3 "$WORK/openstack.log")"
		export B=$WORK/openstack
		mkdir -p "$B"
		ln -s "$CACHE/openstack/root" "$B/root"
		openstack_up=1
		SEEDS=$CACHE/openstack bash "$OPENSTACK/up.sh" cached >>"$WORK/openstack.log" 2>&1 || fail "the OpenStack peer does not start: $(tail -n 20 "$WORK/openstack.log")"
	fi
	KEYSTONE=${KEYSTONE:-5000} GLANCE=${GLANCE:-9292} CINDER=${CINDER:-8776} NOVA=${NOVA:-8774} NEUTRON=${NEUTRON:-9696}
	FRONT=$(free_port)
	FRONT_URL=https://127.0.0.1:$FRONT
	FRONT_CA=$WORK/front.pem
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=front.test -addext subjectAltName=IP:127.0.0.1 \
		-keyout "$WORK/front.key" -out "$FRONT_CA" 2>"$WORK/openssl.log"
	FRONT_CERT=$FRONT_CA FRONT_KEY=$WORK/front.key python3 "$OPENSTACK/front.py" "$FRONT" identity=http://127.0.0.1:"$KEYSTONE" image=http://127.0.0.1:"$GLANCE" \
		volume=http://127.0.0.1:"$CINDER" compute=http://127.0.0.1:"$NOVA" network=http://127.0.0.1:"$NEUTRON" 2>"$WORK/front.log" &
	background+=($!)
	wait_for 30 front _log
	os_login
	[ "${OPENSTACK_FRONT:-yes}" = no ] || os_front
	note "OpenStack peer in $B, its front at $FRONT_URL"
}

# lib.sh's finish() calls it.
stop_openstack() {
	[ -z "${openstack_up:-}" ] || bash "$OPENSTACK/down.sh" >/dev/null 2>&1
}

os_token() { # os_token USER PROJECT
	curl -fsS -D- -o "$WORK/token.json" "http://127.0.0.1:$KEYSTONE/v3/auth/tokens" -H 'Content-Type: application/json' -d '{"auth": {"identity": {"methods": ["password"],
		"password": {"user": {"name": "'"$1"'", "domain": {"id": "default"}, "password": "secret"}}},
		"scope": {"project": {"name": "'"$2"'", "domain": {"id": "default"}}}}}' | tr -d '\r' | awk 'tolower($1) == "x-subject-token:" { print $2 }'
}

os_login() {
	ADMIN_TOKEN=$(os_token admin admin)
	ADMIN_PROJECT=$(jq -r .token.project.id "$WORK/token.json")
	TOKEN=$(os_token demo demo)
	PROJECT=$(jq -r .token.project.id "$WORK/token.json")
	DEMO_USER=$(jq -r .token.user.id "$WORK/token.json")
}

# The catalogue's admin interface, which the services do not use among themselves, leads to the front, with paths and slashes as clouds
# behind a load balancer have them.
os_front() {
	local services type url id old
	services=$(TOKEN=$ADMIN_TOKEN os identity GET /v3/services)
	for type in image volumev3 compute network; do
		case $type in
		image) url=$FRONT_URL/image/ ;;
		volumev3) url="$FRONT_URL/volume/v3/%(project_id)s" ;;
		compute) url=$FRONT_URL/compute/v2.1/ ;;
		network) url=$FRONT_URL/network ;;
		esac
		id=$(jq -r ".services[] | select(.type == \"$type\") | .id" <<<"$services")
		for old in $(TOKEN=$ADMIN_TOKEN os identity GET "/v3/endpoints?service_id=$id&interface=admin" | jq -r '.endpoints[].id'); do
			TOKEN=$ADMIN_TOKEN os identity DELETE "/v3/endpoints/$old"
		done
		TOKEN=$ADMIN_TOKEN os identity POST /v3/endpoints \
			'{"endpoint": {"service_id": "'"$id"'", "interface": "admin", "region_id": "RegionOne", "url": "'"$url"'"}}' >/dev/null
	done
}

# os SERVICE METHOD PATH [JSON]: asks the service itself, not the front; volume paths begin behind the project. With V a microversion.
os() {
	local service=$1 method=$2 path=$3 base
	case $service in
	identity) base=http://127.0.0.1:$KEYSTONE ;;
	image) base=http://127.0.0.1:$GLANCE/v2 ;;
	volume) base=http://127.0.0.1:$CINDER/v3/$PROJECT ;;
	compute) base=http://127.0.0.1:$NOVA/v2.1 ;;
	network) base=http://127.0.0.1:$NEUTRON/v2.0 ;;
	esac
	shift 3
	curl -sS --fail-with-body -X "$method" -H "X-Auth-Token: $TOKEN" -H 'Content-Type: application/json' \
		-H "OpenStack-API-Version: $service ${V:-2.79}" "$base$path" ${1:+-d "$1"} || { echo " (from $method $service $path ${1:-})" >&2; return 1; }
}
os_volume() { V=3.0 os volume "$@"; }
os_admin_volume() { # the same as the administrator, whose project is another
	TOKEN=$ADMIN_TOKEN PROJECT=$ADMIN_PROJECT os_volume "$@"
}

# os_image NAME FORMAT FILE: its id
os_image() {
	local id
	id=$(os image POST /images '{"name": "'"$1"'", "disk_format": "'"$2"'", "container_format": "bare"}' | jq -r .id)
	curl -fsS -X PUT -H "X-Auth-Token: $TOKEN" -H 'Content-Type: application/octet-stream' -T "$3" "http://127.0.0.1:$GLANCE/v2/images/$id/file"
	echo "$id"
}

volume_is() { [ "$(os_volume GET "/volumes/$1" | jq -r .volume.status)" = "$2" ]; }
server_is() { [ "$(os compute GET "/servers/$1" | jq -r '.server | select(."OS-EXT-STS:task_state" == null) | .status')" = "$2" ]; }

# What the project has of volumes, snapshots and images: nothing of ours may be in it.
os_things() {
	os_volume GET /volumes/detail | jq -r '.volumes[] | "volume \(.id) \(.name) \(.status)"'
	os_volume GET /snapshots | jq -r '.snapshots[] | "snapshot \(.id) \(.name)"'
	os image GET '/images?limit=1000' | jq -r '.images[] | "image \(.id) \(.name) \(.status)"'
}

# assert_cloud_disk FILE GIB [ORIGINAL]: a disk is what was written at the source, and zeros up to its capacity, which Cinder counts in true
# GiB. Holes are not read.
assert_cloud_disk() {
	local len=0
	assert_eq "size of $1" "$(stat -c %s "$1")" $(($2 << 30))
	if [ -n "${3:-}" ]; then
		len=$(stat -c %s "$3")
		cmp -n "$len" "$1" "$3" || fail "$1 is not $3"
	fi
	python3 - "$1" $len <<-'END' || fail "$1 has something behind its end"
	import errno, os, sys
	disk, at = os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2])
	while True:
	    try:
	        at = os.lseek(disk, at, os.SEEK_DATA)
	    except OSError as e:
	        sys.exit(None if e.errno == errno.ENXIO else e)
	    end = os.lseek(disk, at, os.SEEK_HOLE)
	    while at < end:
	        piece = os.pread(disk, min(1 << 20, end - at), at)
	        if piece.strip(b'\0'):
	            sys.exit(f'there is data in the MiB at {at}')
	        at += len(piece)
	END
}

# os_made COUNT: whether so many of our images are made, and no volume is being read for one any more; a Cinder that ends then leaves it so
os_made() {
	[ "$(os image GET '/images?limit=1000' | jq '[.images[] | select((.name | startswith("vm-import-")) and .status == "active")] | length')" = "$1" ] &&
		[ "$(os_volume GET /volumes/detail | jq '[.volumes[] | select(.status == "uploading")] | length')" = 0 ]
}

front() { # front _faults|_log [CURL-ARGUMENT...]
	local path=$1
	shift
	curl -fsS --cacert "$FRONT_CA" "$@" "$FRONT_URL/$path"
}
front_fault() { front _faults -X POST -d "$1" >/dev/null; }
front_clear() { front _faults -X DELETE >/dev/null; front _log -X DELETE >/dev/null; }
front_hits() { front _faults | jq '[.[].hits // 0] | add'; }
front_saw() { # front_saw REGULAR-EXPRESSION: whether a line of the front's log, METHOD PATH STATUS, matches
	front _log >"$WORK/front-log"
	grep -Eq "$1" "$WORK/front-log"
}

# openstack_source [NAME [SPEC-LINE...]]: Secret and source; SECRET: the Secret's keys but ca_cert, comma-separated as in YAML
openstack_source() {
	local name=${1:-cloud} secret=${SECRET:-}
	[ $# = 0 ] || shift
	[ -n "$secret" ] || secret='username: demo, password: secret, project_name: demo, domain_name: Default'
	cat <<-END
	apiVersion: v1
	kind: Secret
	metadata: {name: $name-credentials, namespace: default}
	stringData:
	$(sed 's/, */\n/g' <<<"$secret" | sed 's/^/  /')
	  ca_cert: |
	$(sed 's/^/    /' "$FRONT_CA")
	---
	apiVersion: $GROUP
	kind: OpenstackSource
	metadata: {name: $name, namespace: default}
	spec:
	  endpoint: $FRONT_URL/identity/v3
	  region: RegionOne
	  interface: admin
	  uploadImageRetryDelay: 1
	  uploadImageRetryCount: 120
	  credentials: {name: $name-credentials, namespace: default}
	$([ $# = 0 ] || printf '  %s\n' "$@")
	---
	END
}

# openstack_import NAME VM [SPEC-LINE...]; the source is $SOURCE_NAME
openstack_import() {
	local name=$1 vm=$2
	shift 2
	cat <<-END
	apiVersion: $GROUP
	kind: VirtualMachineImport
	metadata: {name: $name, namespace: default}
	spec:
	  virtualMachineName: "$vm"
	  targetVirtualMachineName: $name
	  sourceCluster: {apiVersion: $GROUP, kind: OpenstackSource, name: ${SOURCE_NAME:-cloud}, namespace: default}
	$([ $# = 0 ] || printf '  %s\n' "$@")
	---
	END
}
