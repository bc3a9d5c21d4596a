#!/bin/bash
# OVF packages on web servers: a corpus of good and hostile ones (ova/corpus.py), over servers that send parts of files and that do not, over https
# with a password, and behind a redirect. Every disk is compared, every refusal read.
# needs: nginx
# timeout: 600
. "$(dirname "$0")/lib.sh"
need nginx python3 qemu-img openssl
here=$SOURCE_DIR/test/integration/ova
corpus=$WORK/corpus
note "$(python3 "$here/corpus.py" "$corpus")"

# --- web servers -----------------------------------------------------------------------------------------------------------

PARTS=$(free_port) WHOLE=$(free_port) TLS=$(free_port) ELSEWHERE=$(free_port)
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
	-keyout "$WORK/tls.key" -out "$WORK/tls.crt" 2>/dev/null
printf 'importer:%s\n' "$(openssl passwd -apr1 s3cret-Word)" >"$WORK/passwords"
start_nginx <<-CONF
	log_format seen '\$server_port \$request_method \$uri \$status bytes=\$body_bytes_sent authorization="\$http_authorization"';
	access_log $WORK/access.log seen;
	root $corpus/www;
	server {
		listen 127.0.0.1:$PARTS;
		location /slow/ { limit_rate 2m; }
		location /denied/ { return 403; }
		location /leads/ { return 302 http://127.0.0.1:$ELSEWHERE/denied/y.ova?token=s3cret; }
	}
	server { listen 127.0.0.1:$WHOLE; max_ranges 0; location /slow/ { limit_rate 2m; } }
	server {
		listen 127.0.0.1:$TLS ssl;
		ssl_certificate $WORK/tls.crt; ssl_certificate_key $WORK/tls.key;
		auth_basic private; auth_basic_user_file $WORK/passwords;
		location /moved/ { return 302 http://127.0.0.1:$ELSEWHERE/elsewhere\$request_uri; }
		location /file/ { return 302 file:///etc/passwd; }
	}
	server { listen 127.0.0.1:$ELSEWHERE; location /elsewhere/moved/ { alias $corpus/www/; } location /denied/ { return 403; } }
CONF
wait_for 20 curl -fsS -o /dev/null "http://127.0.0.1:$PARTS/vmware-sha256.ova"

# --- the corpus ------------------------------------------------------------------------------------------------------------

whole_corpus() { # whole_corpus NAME PORT [stream]
	local name=$1 out=$WORK/$1 port=$2
	shift 2
	mkdir -p "$out"
	/usr/bin/python3 "$here/check.py" manifests "$corpus" "http://127.0.0.1:$port" "$@" >"$out.yaml"
	"$VIC" import -v --allow-local-urls -f "$out.yaml" -o "$out" >"$out/printed" 2>"$out/log" || true # some fail, as they should
	/usr/bin/python3 "$here/check.py" results "$corpus" "$out" "$@" || { grep -E 'level=(warn|error)' "$out/log" | tail -n 20; fail "$name: not as it should be"; }
	! grep -q 'Sanitizer' "$out/log" || fail "$name: $(grep -m1 Sanitizer "$out/log")"
}
whole_corpus parts "$PARTS"
note "the corpus from a server that sends parts of files"
# A disk whose content is wrong is fetched once more, which is told, and given up then.
assert_eq "what is said of a damaged disk" "$(grep -c 'default/bad-vmdk-grain: disk 0 (disk1.vmdk) is fetched again (try [0-9]*): grain 51' "$WORK/parts/log")" 1
grep -q 'grain 51 .*; it was fetched twice and is damaged in the same place' "$WORK/parts/objects/virtualmachineimport-default-bad-vmdk-grain.yaml" ||
	fail "a damaged disk: $(grep message: "$WORK/parts/objects/virtualmachineimport-default-bad-vmdk-grain.yaml")"
whole_corpus whole "$WHOLE" stream
note "the corpus from a server that does not"

# A server that sends no parts is read once for the disks; the looks at the descriptor break off.
mkdir -p "$WORK/large"
truncate -s 268435456 "$WORK/large/disk.img"
head -c 1048576 /dev/urandom | dd of="$WORK/large/disk.img" bs=1M seek=200 conv=notrunc status=none
sed 's/6291456/268435456/; s/disk1.vmdk/disk.img/; s/ovf:size="[0-9]*"//' >"$WORK/large/vm.ovf" < <(tar -xOf "$corpus/www/signed.ova" vm.ovf)
tar -C "$WORK/large" -cf "$corpus/www/large.ova" vm.ovf disk.img
one_plain() { # one_plain NAME URL: as its manifests
	printf 'apiVersion: %s\nkind: OvaSource\nmetadata: {name: %s, namespace: default}\nspec: {url: "%s"}\n---\n' $GROUP "$1" "$2"
	SOURCE_KIND=OvaSource SOURCE_NAME=$1 import_manifest default "$1" vm "targetVirtualMachineName: $1"
}
one_plain large "http://127.0.0.1:$WHOLE/large.ova" >"$WORK/large.yaml"
"$VIC" import -q --allow-local-urls -f "$WORK/large.yaml" -o "$WORK/large" >"$WORK/printed" 2>"$WORK/err" || fail "$(cat "$WORK/err")"
assert_same "$WORK/large/large/disk-0.raw" "$WORK/large/disk.img"
logged() { grep -q "^$WHOLE GET /large.ova 200 bytes=$(stat -c %s "$corpus/www/large.ova") " "$WORK/access.log"; }
wait_for 30 logged # the server may do that when the import has ended
sent=$(awk -v port="$WHOLE" '$1 == port && $3 == "/large.ova" && $2 == "GET" { sub("bytes=", "", $5); s += $5 } END { print s }' "$WORK/access.log")
note "a server that sends no parts of files sent $sent bytes of an OVA of $(stat -c %s "$corpus/www/large.ova")"
[ "$sent" -lt $((268435456 * 3 / 2)) ] || fail "the OVA was read more than once"
rm -r "$WORK/large"/* "$corpus/www/large.ova"

# --- plan ------------------------------------------------------------------------------------------------------------------

plan() { # plan NAME URL: in $WORK/plan
	one_plain "$1" "$2" >"$WORK/plan.yaml"
	"$VIC" plan --allow-local-urls -o json -f "$WORK/plan.yaml" >"$WORK/plan" 2>"$WORK/err"
}
of_plan() { jq -r ".imports[0] | $1" "$WORK/plan"; }
ova=$corpus/www/signed.ova
disk=$(tar -tvf "$ova" | awk '$6 == "disk1.vmdk" { print $3 }')
plan parts "http://127.0.0.1:$PARTS/signed.ova" || fail "$(<"$WORK/plan")"
assert_eq "bytes to fetch where the server sends parts" "$(of_plan .bytes)" "$disk"
assert_eq "the time, from a sample" "$(of_plan '.seconds > 0 and .bytesPerSecond > 0')" true
plan whole "http://127.0.0.1:$WHOLE/signed.ova" || fail "$(<"$WORK/plan")"
assert_eq "bytes to fetch where it does not" "$(of_plan .bytes)" "$(stat -c %s "$ova")"
assert_eq "the time, from a sample" "$(of_plan '.seconds > 0 and .bytesPerSecond > 0')" true
assert_fails 3 plan gone "http://127.0.0.1:$PARTS/not-there.ova"
assert_contains "the problem of a file that is not there" "$(of_plan '.problems[0]')" "there is no file at spec.url; correct it"
# A capacity that is not the disk's is told before anything is fetched, where the file's beginning can be had.
for url in capacity-small capacity-large; do
	assert_fails 3 plan wrong "http://127.0.0.1:$PARTS/bad-$url.ova"
	assert_contains "the problem of $url" "$(of_plan '.problems[0]')" "but its file disk1.vmdk is a vmdk image of 6291456 bytes: correct ovf:capacity"
done
assert_fails 3 plan wrong "http://127.0.0.1:$PARTS/bad-qcow2-capacity.ova"
assert_contains "the problem of a qcow2 image" "$(of_plan '.problems[0]')" "1048576 bytes, but its file d.qcow2 is a qcow2 image of 6291456 bytes"
note "plan: bytes, time, and capacities that are wrong"

# --- a member that is larger than the 8 GiB of an octal size ------------------------------------------------------------------

large_members() { # large_members FORMAT: before the disk is a file of 9 GiB that nobody needs
	tar -xOf "$corpus/www/signed.ova" disk1.vmdk >"$WORK/large/disk1.vmdk"
	tar -xOf "$corpus/www/signed.ova" vm.ovf >"$WORK/large/vm.ovf"
	/usr/bin/python3 - "$WORK/large" "$1" "$corpus/www/large.ova" <<-'PYTHON'
	import sys, tarfile
	directory, form, out = sys.argv[1], getattr(tarfile, sys.argv[2]), open(sys.argv[3], 'wb')
	for name in 'vm.ovf', 'x' * 150 + '.iso', 'disk1.vmdk':
	    info = tarfile.TarInfo(name)
	    data = b'' if name.endswith('.iso') else open(directory + '/' + name, 'rb').read()
	    info.size = len(data) or 9 << 30
	    out.write(info.tobuf(form))
	    at = out.tell()
	    out.write(data)
	    out.seek(at + (info.size + 511 & -512))
	out.write(bytes(1024))
	PYTHON
}
for form in GNU_FORMAT PAX_FORMAT; do
	large_members $form
	one_plain large "http://127.0.0.1:$PARTS/large.ova" >"$WORK/large.yaml"
	"$VIC" import -q --allow-local-urls -f "$WORK/large.yaml" -o "$WORK/large" >"$WORK/printed" 2>"$WORK/err" || fail "$(cat "$WORK/err")"
	assert_same "$WORK/large/large/disk-0.raw" "$corpus/raw/a.raw"
	rm -r "$WORK/large"/* "$corpus/www/large.ova"
done
note "members beyond 9 GiB, in GNU and pax form"

# --- memory ----------------------------------------------------------------------------------------------------------------

head -c 33554432 /dev/urandom >"$WORK/large/a.raw"
truncate -s 67108864 "$WORK/large/a.raw"
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$WORK/large/a.raw" "$WORK/large/disk0.vmdk"
for i in $(seq 7); do ln "$WORK/large/disk0.vmdk" "$WORK/large/disk$i.vmdk"; done
many() { # many COUNT: an OVA of so many disks
	local i last=$(($1 - 1))
	{
		sed -n '1,/<References>/p' "$WORK/large/head"
		for i in $(seq 0 $last); do echo "<File ovf:id=\"f$i\" ovf:href=\"disk$i.vmdk\"/>"; done
		echo '</References><DiskSection><Info>d</Info>'
		for i in $(seq 0 $last); do echo "<Disk ovf:diskId=\"d$i\" ovf:capacity=\"67108864\" ovf:fileRef=\"f$i\"/>"; done
		echo '</DiskSection><VirtualSystem ovf:id="vm"><Info>v</Info><Name>vm</Name><VirtualHardwareSection><Info>h</Info>'
		echo '<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>'
		echo '<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>'
		echo '<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>'
		for i in $(seq 0 $last); do
			echo "<Item><rasd:AddressOnParent>$i</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d$i</rasd:HostResource><rasd:InstanceID>$((i + 4))</rasd:InstanceID>"
			echo '<rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>'
		done
		echo '</VirtualHardwareSection></VirtualSystem></Envelope>'
	} >"$WORK/large/vm.ovf"
	tar -C "$WORK/large" --hard-dereference -cf "$corpus/www/many.ova" vm.ovf $(seq -f disk%g.vmdk 0 $last)
}
printf '%s\n' '<?xml version="1.0"?>' '<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"' \
	' xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">' '<References>' >"$WORK/large/head"
memory() { # memory COUNT PORT MIB: an import of so many disks takes no more
	local pid peak
	one_plain many "http://127.0.0.1:$2/many.ova" >"$WORK/many.yaml"
	"$VIC" import -q --allow-local-urls -f "$WORK/many.yaml" -o "$WORK/many" >"$WORK/printed" 2>"$WORK/err" &
	pid=$!
	background+=($pid)
	peak=$(peak_of $pid)
	wait $pid || fail "$(cat "$WORK/err")"
	assert_same "$WORK/many/many/disk-$(($1 - 1)).raw" "$WORK/large/a.raw"
	assert_peak "an OVA of $1 disks, from port $2" "$peak" "$3"
	rm -r "$WORK/many"
}
many 1
memory 1 "$PARTS" 30
memory 1 "$WHOLE" 30
many 8
memory 8 "$PARTS" 48
memory 8 "$WHOLE" 48

# --- a package that another takes the place of, between two runs of one import --------------------------------------------------------

# put CONTENT: another package of two disks of the same capacities, as an OVA and as files beside their descriptor
put() {
	rm -f "$WORK/large"/disk[0-7].vmdk "$WORK/large/many.mf"
	for i in 0 1; do
		head -c $((i ? 12582912 : 1048576)) /dev/urandom >"$WORK/large/$1$i.raw"
		truncate -s 67108864 "$WORK/large/$1$i.raw"
		qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$WORK/large/$1$i.raw" "$WORK/large/disk$i.vmdk"
	done
	many 2
	rm -rf "$corpus/www/slow"
	mkdir "$corpus/www/slow"
	mv "$corpus/www/many.ova" "$corpus/www/slow"
	cp "$WORK/large/vm.ovf" "$WORK/large"/disk[01].vmdk "$corpus/www/slow"
}
under_way() { # under_way DIRECTORY URL: some of the second disk is there, and the first where it can be before the package is through
	[ "$(stat -c %b "$1/disk-1.raw")" -gt 4096 ] && { [[ $2 = *:$WHOLE/* ]] || [ -e "$1/.disk-0.raw.journal" ]; }
}
replaced() { # replaced URL
	local pid out=$WORK/slow/slow
	put old
	one_plain slow "$1" >"$WORK/slow.yaml"
	"$VIC" import -q --allow-local-urls -f "$WORK/slow.yaml" -o "$WORK/slow" >"$WORK/printed" 2>"$WORK/err" &
	pid=$!
	background+=($pid)
	wait_for 120 under_way "$out" "$1"
	kill -INT $pid
	wait $pid && fail "$1: ended before it was interrupted"
	[ ! -e "$out/.disk-1.raw.journal" ] || fail "$1: the second disk is there already"
	put new
	"$VIC" import --allow-local-urls -f "$WORK/slow.yaml" -o "$WORK/slow" >"$WORK/printed" 2>"$WORK/err" || fail "$1: $(<"$WORK/err")"
	for i in 0 1; do assert_same "$out/disk-$i.raw" "$WORK/large/new$i.raw"; done
	assert_contains "what is said of $1" "$(<"$WORK/err")" "every disk is fetched again: what is at the source is not what was begun with"
	rm -r "$WORK/slow"
}
replaced "http://127.0.0.1:$PARTS/slow/many.ova"
replaced "http://127.0.0.1:$WHOLE/slow/many.ova"
replaced "http://127.0.0.1:$PARTS/slow/vm.ovf"
note "a package that was replaced between two runs"
rm -r "$WORK/large" "$corpus/www/slow"

# A disk that turns out to be larger than its directory has room for: said at once, and not fetched again and again.
mkdir -p "$WORK/full/full"
head -c 6291456 /dev/urandom >"$WORK/full/disk.img"
sed 's/disk1.vmdk/disk.img/; s/ovf:size="[0-9]*"//; s/ovf:capacity=/ovf:populatedSize="1024" ovf:capacity=/' >"$WORK/full/vm.ovf" \
	< <(tar -xOf "$corpus/www/signed.ova" vm.ovf)
tar -C "$WORK/full" -cf "$corpus/www/full.ova" vm.ovf disk.img
one_plain full "http://127.0.0.1:$PARTS/full.ova" >"$WORK/full.yaml"
mount -t tmpfs -o size=4m none "$WORK/full/full" && {
	status=0
	"$VIC" import -q --allow-local-urls -f "$WORK/full.yaml" -o "$WORK/full" >"$WORK/printed" 2>"$WORK/err" || status=$?
	umount "$WORK/full/full"
	assert_eq "exit status of an import into a full directory" $status 1
	assert_contains "what it says" "$(<"$WORK/err")" "$WORK/full/full/disk-0.raw: No space left on device; make room there"
	sent=$(awk -v port="$PARTS" '$1 == port && $3 == "/full.ova" { sub("bytes=", "", $5); s += $5 } END { print s }' "$WORK/access.log")
	[ "$sent" -lt $((3 * 6291456)) ] || fail "$sent bytes were fetched of a disk of 6291456"
	note "a directory that is too small"
}

# --- https, passwords, redirects -------------------------------------------------------------------------------------------

one() { # one NAME PATH PASSWORD: as its manifests
	cat <<-YAML
	apiVersion: v1
	kind: Secret
	metadata: {name: $1, namespace: default}
	stringData:
	  username: importer
	  password: $3
	  ca.crt: |
	$(sed 's/^/    /' "$WORK/tls.crt")
	---
	apiVersion: $GROUP
	kind: OvaSource
	metadata: {name: $1, namespace: default}
	spec: {url: "https://localhost:$TLS/$2", credentials: {name: $1, namespace: default}}
	---
	$(SOURCE_KIND=OvaSource SOURCE_NAME=$1 import_manifest default "$1" web "targetVirtualMachineName: $1")
	YAML
}
import_one() { "$VIC" import ${LOCAL---allow-local-urls} -f "$WORK/$1.yaml" -o "$WORK/$1" >"$WORK/printed" 2>"$WORK/err"; }
one tls vmware-sha256.ova s3cret-Word >"$WORK/tls.yaml"
import_one tls
assert_same "$WORK/tls/tls/disk-0.raw" "$corpus/raw/a.raw"
! grep -rq 's3cret-Word' "$WORK/tls/objects" || fail "the password is in the objects"
note "https with a password"

one moved moved/vmware-sha256.ova s3cret-Word >"$WORK/moved.yaml"
import_one moved
assert_same "$WORK/moved/moved/disk-1.raw" "$corpus/raw/b.raw"
wait_for 30 grep -q "^$ELSEWHERE .*authorization=\"-\"" "$WORK/access.log"
! grep "^$ELSEWHERE " "$WORK/access.log" | found -v 'authorization="-"' || fail "another host was given the password"
note "a redirect to another host, which is told no password"

fails() { # fails NAME PART
	assert_fails 1 import_one "$1"
	assert_contains "what $1 says" "$(cat "$WORK/err")" "$2"
	note "$(tail -n 1 "$WORK/err" | cut -c1-200)"
}
one away file/x.ova s3cret-Word >"$WORK/away.yaml"
fails away "redirect"
one wrong vmware-sha256.ova another >"$WORK/wrong.yaml"
fails wrong "(the Secret default/wrong) are refused"
one lacks vmware-sha256.ova s3cret-Word | sed 's/^  password:/  pasword:/' >"$WORK/lacks.yaml"
fails lacks "the server wants credentials, and the Secret default/lacks lacks the key password"
assert_contains "of a key that is misspelt" "$(<"$WORK/err")" \
	'the Secret default/lacks has the key "pasword" (is it password?), which is not known; known are username, password, ca.crt'
one plain-data vmware-sha256.ova s3cret-Word | sed 's/^stringData:/data:/' >"$WORK/plain-data.yaml"
fails plain-data "is not base64 of a text, as all under data: must be; write plain text under stringData:"
one strange vmware-sha256.ova s3cret-Word | sed 's/^  ca.crt:/  caCert:/' >"$WORK/strange.yaml"
fails strange "it was signed by none of the system's CAs: put its CA's certificate into the key ca.crt of the Secret default/strange"
assert_contains "of a key that is misspelt" "$(<"$WORK/err")" 'has the key "caCert" (is it ca.crt?), which is not known'
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=other -keyout /dev/null -out "$WORK/other.crt" 2>/dev/null
{ mv "$WORK/tls.crt" "$WORK/tls.kept" && cp "$WORK/other.crt" "$WORK/tls.crt" && one other vmware-sha256.ova s3cret-Word >"$WORK/other.yaml"; mv "$WORK/tls.kept" "$WORK/tls.crt"; }
fails other "it was not signed by the CA that the Secret default/other gives in ca.crt"
# Whom 403 refuses, and where, as far as that can be told.
one_plain denied "http://127.0.0.1:$PARTS/denied/x.ova?token=s3cret" >"$WORK/denied.yaml"
fails denied "access is refused; correct spec.url (one that is signed may have expired), or name a Secret"
one_plain leads "http://127.0.0.1:$PARTS/leads/x.ova" >"$WORK/leads.yaml"
fails leads "http://127.0.0.1:$PARTS/leads/x.ova, redirected to http://127.0.0.1:$ELSEWHERE/denied/y.ova, answered with status 403"
assert_contains "access" "$(<"$WORK/err")" "access is refused; let everybody who has the URL that was redirected to read the file"
one broken vmware-sha256.ova s3cret-Word | sed 's/^    MII/    AAAA/' >"$WORK/broken.yaml"
fails broken "ca.crt"
# What a user names in a URL may not be this machine's own, unless its owner says so.
one local vmware-sha256.ova s3cret-Word >"$WORK/local.yaml"
LOCAL='' fails local "loopback"

# An import that names no machine is refused, and harms nobody.
one_plain nameless "http://127.0.0.1:$PARTS/signed.ova" | sed '/irtualMachineName:/d' >"$WORK/nameless.yaml"
fails nameless "spec.virtualMachineName is empty; name the virtual machine at the source (with an OVA of one machine any name does"
one_plain impossible "http://127.0.0.1:$PARTS/signed.ova" | sed 's|^spec: *$|&\n  storageClass: Fast_Disks\n  networkMapping: [{sourceNetwork: lan, destinationNetwork: default/VM Network}]|' >"$WORK/impossible.yaml"
fails impossible 'spec.storageClass "Fast_Disks" is no name of lower-case letters'
assert_contains "of names that are impossible" "$(<"$WORK/err")" 'spec.networkMapping[0].destinationNetwork "default/VM Network" is neither NAME nor'

# --- what a run does, and does not ------------------------------------------------------------------------------------------

# appliance URL IMPORT [LINE...]: an import from the source of that name
appliance() {
	local url=$1 name=$2
	shift 2
	printf 'apiVersion: %s\nkind: OvaSource\nmetadata: {name: appliance, namespace: default}\nspec: {url: "%s"}\n---\n' $GROUP "$url"
	SOURCE_KIND=OvaSource SOURCE_NAME=appliance import_manifest default "$name" vm "targetVirtualMachineName: $name" "$@"
}
into_runs() { "$VIC" import --allow-local-urls -f "$1" -o "$WORK/runs" >"$WORK/printed" 2>"$WORK/err"; }
# One that was interrupted, and one that failed, are not gone on with by a run of other files: the source may be another by then.
appliance "http://127.0.0.1:1/away.ova" slow >"$WORK/slow.yaml"
"$VIC" import --allow-local-urls -f "$WORK/slow.yaml" -o "$WORK/runs" >"$WORK/printed" 2>"$WORK/err" &
pid=$!
background+=($pid)
wait_for 60 grep -q 'default/slow.*127.0.0.1:1.*giving up' "$WORK/err"
kill -INT $pid
assert_fails 130 wait $pid
one_plain gone "http://127.0.0.1:$PARTS/not-there.ova" >"$WORK/gone.yaml"
assert_fails 1 into_runs "$WORK/gone.yaml"
! grep -q default/slow "$WORK/err" || fail "another run's import is told: $(<"$WORK/err")"
mkdir "$WORK/before"
cp "$WORK/runs/objects"/virtualmachineimport-default-{slow,gone}.yaml "$WORK/before"
appliance "http://127.0.0.1:$PARTS/signed.ova" other >"$WORK/other.yaml"
into_runs "$WORK/other.yaml" || fail "an import that other files name: $(<"$WORK/err")"
! grep -Eq 'default/(slow|gone)' "$WORK/err" || fail "another run's import is told: $(<"$WORK/err")"
[ -e "$WORK/runs/other/virtualmachine.yaml" ] && [ ! -e "$WORK/runs/slow" ] || fail "$(ls "$WORK/runs"): not what the file names"
for name in slow gone; do cmp "$WORK/before/virtualmachineimport-default-$name.yaml" "$WORK/runs/objects/virtualmachineimport-default-$name.yaml"; done
# Mended, they are gone on with, and nothing is told of what was wrong before.
appliance "http://127.0.0.1:$PARTS/signed.ova" slow >"$WORK/slow.yaml"
into_runs "$WORK/slow.yaml" || fail "$(<"$WORK/err")"
! grep -q '127.0.0.1:1: ' "$WORK/err" || fail "an earlier run's trouble is told: $(<"$WORK/err")"
one_plain nameless "http://127.0.0.1:$PARTS/signed.ova" >"$WORK/nameless.yaml"
import_one nameless || fail "$(<"$WORK/err")"
! grep -q 'Invalid' "$WORK/err" || fail "an earlier run's status is told: $(<"$WORK/err")"
note "a run does what its files name, and tells what is so now"

# Two documents of one name: which one is meant, nobody can tell.
appliance "http://127.0.0.1:$PARTS/vmware-sha256.ova" third >"$WORK/third.yaml"
for command in "plan" "import -o $WORK/twice"; do
	# shellcheck disable=SC2086 # the words of the command
	assert_fails 1 "$VIC" $command --allow-local-urls -f "$WORK/other.yaml" -f "$WORK/third.yaml" >"$WORK/printed" 2>&1
	assert_contains "two sources of one name" "$(<"$WORK/printed")" \
		"third.yaml, document 1: the OvaSource default/appliance is in $WORK/other.yaml, document 1, too, and differs"
done
"$VIC" plan --allow-local-urls -f "$WORK/other.yaml" -f "$WORK/other.yaml" >"$WORK/printed" 2>&1 || fail "the same twice: $(<"$WORK/printed")"

# Two machines of one name: the second is refused before it begins.
{ appliance "http://127.0.0.1:$PARTS/signed.ova" same; appliance "http://127.0.0.1:$PARTS/signed.ova" same | sed 's/{name: same/{name: again/'; } >"$WORK/same.yaml"
assert_fails 3 "$VIC" plan --allow-local-urls -f "$WORK/same.yaml" >"$WORK/printed" 2>&1
assert_contains "the plan of two" "$(<"$WORK/printed")" "default/again: its machine would be named same, as that of the import default/same"
assert_fails 1 into_runs "$WORK/same.yaml"
grep -Eq 'The import cannot start: .*/runs/same belongs to the import default/(same|again); choose' "$WORK/err" || fail "two of one name: $(<"$WORK/err")"
[ -e "$WORK/runs/same/virtualmachine.yaml" ] || fail "the first of two is not there"
note "two of one name"
