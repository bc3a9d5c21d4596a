#!/bin/bash
# Images of every form that is read here, made at random, against qemu-img's own reading (formats.py); then what "inspect" and "convert" say of images that
# are damaged, or name what they must not.
# More of them, by hand: FORMATS_IMAGES=5000 FORMATS_SEED=x test/integration/test_formats.sh (0.2 s each).
# timeout: 1200
. "$(dirname "$0")/lib.sh"

need qemu-img qemu-io python3
images=${FORMATS_IMAGES:-64} seed=${FORMATS_SEED:-1}

note "$images images of the seed $seed"
mkdir "$WORK/images"
VIC=$VIC PYTHONDONTWRITEBYTECODE=1 python3 "$SOURCE_DIR/test/integration/formats.py" "$WORK/images" "$images" "$seed" || fail "images are read differently"

note "inspect"
cd "$WORK"
qemu-img create -q -f vmdk -o subformat=twoGbMaxExtentFlat disk.vmdk 3M
qemu-io -f vmdk -c 'write -P 7 1M 64k' disk.vmdk >/dev/null
"$VIC" inspect -q --json disk.vmdk >inspect.json
assert_eq "inspect" "$(jq -c '[.format, .subformat, .capacity, .layers, .readable, (.problems | length), (.extents | length), .extents[1].file, .extents[1].type,
	.extents[1].capacity, .extents[1].size, .data]' inspect.json)" \
	"[\"vmdk\",\"twoGbMaxExtentFlat\",3145728,1,true,0,2,\"$WORK/disk-f001.vmdk\",\"FLAT\",3145728,3145728,65536]"
assert_eq "the digest" "$(jq -r .digest inspect.json)" "$("$VIC" convert -q --digest disk.vmdk disk.raw)"
[ "$(jq .allocated inspect.json)" -ge 65536 ] || fail "allocated: $(jq .allocated inspect.json)"
"$VIC" verify -q disk.raw "$(jq -r .digest inspect.json)"
assert_eq "inspect --fast makes no digest" "$("$VIC" inspect --fast --json disk.vmdk | jq -c '[has("digest"), has("allocated")]')" "[false,true]"
assert_contains "inspect as text" "$("$VIC" inspect -q disk.vmdk)" "format vmdk twoGbMaxExtentFlat"

refused() { # refused REASON-PART FILE: neither convert nor inspect reads it, and both say why
	assert_fails 1 "$VIC" convert -q "$2" refused.raw 2>message
	assert_contains "convert $2" "$(cat message)" "$1"
	assert_fails 1 "$VIC" inspect -q --json "$2" >inspect.json 2>/dev/null
	assert_eq "inspect $2" "$(jq .readable inspect.json)" false
	assert_contains "inspect $2" "$(jq -r '.problems[]' inspect.json)" "$1"
	assert_fails 1 "$VIC" inspect -q "$2" >said 2>&1
	assert_eq "how often inspect says why $2 is not read" "$(grep -cF -- "$(jq -r '.problems[-1]' inspect.json)" said)" 1
}

named() { # named NAME: a descriptor with it
	printf '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 8 FLAT "%s" 0\n' "$1" >named.vmdk
}

note "Images that name files outside of their directory"
mkdir other
head -c 4096 /dev/urandom >secret-flat.vmdk
cp secret-flat.vmdk other/
ln -s /etc/passwd link
mkfifo pipe
ln -s secret-flat.vmdk inside
for name in /etc/passwd ../../x "../$(basename "$WORK")/secret-flat.vmdk" other/secret-flat.vmdk /dev/zero http://127.0.0.1/x nbd://127.0.0.1/x \
	'\\.\PhysicalDrive0' . .. link inside; do
	named "$name"
	refused "$name" named.vmdk
done
for name in /etc/passwd ../../x "../$(basename "$WORK")/secret-flat.vmdk" /dev/zero http://127.0.0.1/x 'C:\x.vmdk' .. link; do
	printf '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=2\nparentFileNameHint="%s"\nRW 8 FLAT "secret-flat.vmdk" 0\n' "$name" >named.vmdk
	refused "$name" named.vmdk
done
named pipe
refused "neither a file nor a block device" named.vmdk
named ''
refused '""' named.vmdk
named "$WORK/secret-flat.vmdk" # its own directory by its own name
"$VIC" convert -q named.vmdk named.raw >/dev/null
assert_same named.raw secret-flat.vmdk
qemu-img create -q -f qcow2 -u -b /etc/passwd -F raw backed.qcow2 4096
refused /etc/passwd backed.qcow2
qemu-img create -q -f qcow2 -u -b 'json:{"driver":"file","filename":"/etc/passwd"}' -F raw backed.qcow2 4096
refused /etc/passwd backed.qcow2
qemu-img create -q -f qcow2 -o data_file=secret-flat.vmdk,data_file_raw=on external.qcow2 4096
refused "keeps its data in another file" external.qcow2
qemu-img create -q -f qcow2 encrypted.qcow2 4096
printf '\x02' | dd of=encrypted.qcow2 bs=1 seek=35 conv=notrunc status=none # the method: LUKS
refused "is encrypted" encrypted.qcow2

note "A parent that was changed, is missing, is the image itself"
qemu-img create -q -f vmdk parent.vmdk 1M
qemu-img create -q -f vmdk -b parent.vmdk -F vmdk child.vmdk
"$VIC" convert -q child.vmdk child.raw >/dev/null
sed -i 's/^CID=.*/CID=0badf00d/' parent.vmdk
refused "it is another disk, or was changed since" child.vmdk
rm parent.vmdk
refused "No such file" child.vmdk
printf '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=1\nparentFileNameHint="loop.vmdk"\nRW 8 FLAT "secret-flat.vmdk" 0\n' >loop.vmdk
refused "more than 63 parents" loop.vmdk
qemu-img create -q -f qcow2 -u -b loop.qcow2 -F qcow2 first.qcow2 4096
mv first.qcow2 loop.qcow2
refused "more than 63 parents" loop.qcow2

note "What is odd but can be read is told"
qemu-img create -q -f qcow2 odd.qcow2 1M
printf '\x03' | dd of=odd.qcow2 bs=1 seek=79 conv=notrunc status=none # dirty, corrupt
"$VIC" convert -q odd.qcow2 odd.raw 2>message >/dev/null
assert_contains "dirty" "$(cat message)" "was in use"
assert_eq "problems" "$("$VIC" inspect -q --json odd.qcow2 | jq -c '[.readable, (.problems | length)]')" "[true,2]"
qemu-img create -q -f vmdk odd.vmdk 1M
printf '\x01' | dd of=odd.vmdk bs=1 seek=72 conv=notrunc status=none
assert_contains "unclean" "$("$VIC" inspect -q odd.vmdk)" "was not closed"

note "What is read is not written over"
qemu-img create -q -f raw below.raw 1M
qemu-io -f raw -c 'write -P 5 0 1M' below.raw >/dev/null
qemu-img create -q -f qcow2 -b below.raw -F raw above.qcow2
qemu-io -f qcow2 -c 'write -P 6 64k 64k' above.qcow2 >/dev/null
qemu-img create -q -f vmdk -o subformat=monolithicFlat split.vmdk 1M
qemu-io -f vmdk -c 'write -P 8 0 1M' split.vmdk >/dev/null
ln -s above.qcow2 above.link
ln above.qcow2 above.hard
ln below.raw below.hard
sums() { sha256sum above.qcow2 below.raw split.vmdk split-flat.vmdk; }
before=$(sums)
apart() { # apart WRITTEN READ ARGUMENT...: the file READ, by whatever name, is not written
	assert_fails 1 "$VIC" convert -q "${@:3}" 2>message
	assert_contains "convert ${*:3}" "$(cat message)" "$1 is the file $2 that is read; name another"
	assert_eq "the files after convert ${*:3}" "$(sums)" "$before"
}
for out in above.qcow2 above.link above.hard ./above.qcow2 "$WORK/above.qcow2"; do apart "$out" above.qcow2 above.qcow2 "$out"; done
apart above.qcow2 above.link -O raw above.link above.qcow2
for out in below.raw below.hard; do
	for resume in '' --resume; do apart "$out" "$WORK/below.raw" -O raw $resume above.qcow2 "$out"; done
done
apart split-flat.vmdk "$WORK/split-flat.vmdk" -O raw split.vmdk split-flat.vmdk
apart below.hard below.raw below.raw below.hard
apart below.raw - - below.raw <below.raw
ln below.raw new.raw.journal
apart new.raw.journal "$WORK/below.raw" --resume above.qcow2 new.raw

note "A stream that must be a file"
for format in qcow2 vmdk vhdx vdi vpc qed parallels; do
	qemu-img convert -q -f raw -O $format below.raw whole.$format
	for from in - whole.pipe; do
		[ $from = - ] || { rm -f whole.pipe && mkfifo whole.pipe && { cat whole.$format >whole.pipe & }; }
		assert_fails 1 "$VIC" convert -q $from piped.raw 2>message <whole.$format
		assert_contains "$format from $from" "$(cat message)" "image, which must be a file that can be read at any place; give its path"
		[ ! -e piped.raw ] || fail "$format from $from leaves a disk"
	done
	"$VIC" convert -q --format raw - piped.raw <whole.$format >/dev/null
	assert_same piped.raw whole.$format
	rm piped.raw
done
gzip -c below.raw >below.raw.gz
assert_fails 1 "$VIC" convert -q - piped.raw <below.raw.gz 2>message
assert_contains "gzip" "$(cat message)" "the input is gzip, which is not read here; unpack it first"

note "A pipe that nobody writes to"
rm -f whole.pipe && mkfifo whole.pipe
"$VIC" convert -q whole.pipe piped.raw 2>message &
waits() { [ "$(ls /proc/$!/task | wc -l)" -gt 1 ]; } # for signals, so that one alone does not end it by itself
wait_for 60 waits
kill -INT $!
status=0
wait $! || status=$?
assert_eq "the status of an interrupted wait" $status 130
assert_contains "what is said of it" "$(cat message)" interrupted
"$VIC" convert -q whole.pipe piped.raw >/dev/null &
cat below.raw >whole.pipe
wait $!
assert_same piped.raw below.raw
rm piped.raw

note "Archives, and nothing at all"
touch machine.ovf
tar -cf archive.tar below.raw
tar --format=posix -cf archive.pax below.raw
tar --format=ustar -cf machine.ova machine.ovf below.raw
python3 -c 'import zipfile; zipfile.ZipFile("archive.zip", "w").write("below.raw")'
: >empty.raw
unread() { # unread FILE MESSAGE-PART: neither as a file nor as a stream
	refused "$1 is $2" "$1"
	assert_fails 1 "$VIC" convert -q - piped.raw 2>message <"$1"
	assert_contains "$1 from a pipe" "$(cat message)" "the input is $2"
}
unread archive.tar "a tar archive, which is not read here; unpack it first"
unread archive.pax "a tar archive, which is not read here; unpack it first"
unread archive.zip "a ZIP archive, which is not read here; unpack it first"
unread machine.ova "an OVA, the archive of a machine, which is not read here; import it with an OvaSource, or unpack it first"
assert_eq "the format of an OVA" "$(jq -r .format inspect.json)" ova
unread below.raw.gz "gzip, which is not read here; unpack it first"
unread empty.raw empty
[ ! -e piped.raw ] && [ ! -e refused.raw ] || fail "a disk is left"
"$VIC" convert -q --format raw archive.tar archive.raw >/dev/null # a disk that holds one
assert_same archive.raw archive.tar

note "verify reads images as inspect does"
digest=$("$VIC" convert -q --digest below.raw same.raw)
for subformat in fixed dynamic; do # a fixed one is told by its end only
	qemu-img convert -q -f raw -O vpc -o subformat=$subformat,force_size=on below.raw $subformat.vhd
done
for image in same.raw whole.{qcow2,vmdk,vhdx,vdi,qed,parallels} {fixed,dynamic}.vhd split.vmdk; do
	[ $image != split.vmdk ] || digest=$("$VIC" convert -q --digest split.vmdk same.raw)
	"$VIC" verify -q $image "$digest" || fail "verify of $image"
	assert_fails 1 "$VIC" verify -q $image vmid2:$(printf '0%.0s' {1..64}) 2>message
	assert_contains "verify of $image" "$(cat message)" "$image is another disk, or was changed: its digest is $digest"
done
outer=$("$VIC" convert -q --digest --format raw whole.qcow2 nested.raw) # a disk on which an image lies
"$VIC" verify -q --format raw nested.raw "$outer"
"$VIC" verify -q --capacity "$(stat -c %s nested.raw)" nested.raw "$outer"
assert_fails 1 "$VIC" verify -q nested.raw "$outer" 2>/dev/null
"$VIC" verify -q --format qcow2 above.qcow2 "$("$VIC" inspect -q above.qcow2 | sed -n 's/^digest //p')"

note "A disk that failed is not left"
qemu-img convert -q -f raw -O vmdk -o subformat=streamOptimized below.raw whole.vmdk
head -c 5000 whole.vmdk >cut.vmdk
failed() { # failed MESSAGE-PART ARGUMENT...
	assert_fails 1 "$VIC" convert -q "${@:2}" 2>message
	assert_contains "convert ${*:2}" "$(cat message)" "$1"
}
for out in half.raw half.qcow2; do
	for there in '' old; do
		[ -z "$there" ] || echo $there >$out
		failed '' cut.vmdk $out
		[ ! -e $out ] || fail "$out is left"
		! grep -q incomplete message || fail "$out is not there, and is called incomplete"
	done
done
echo old >half.raw
failed 'No such file' missing.vmdk half.raw
assert_eq "a file that was not begun" "$(cat half.raw)" old
rm half.raw
failed 'half.raw is incomplete; run the command again once that is mended' --resume cut.vmdk half.raw
! grep -q 'the same command goes on' message || fail "a cut file is said to go on: $(<message)"
[ -e half.raw ] && [ -e half.raw.journal ] || fail "nothing is left to go on with"
mkfifo feed
cat cut.vmdk >feed &
failed 'half.raw is incomplete; the same command goes on' --resume feed half.raw # whatever feeds a pipe may get further
wait $!
cp whole.vmdk cut.vmdk
"$VIC" convert -q --resume cut.vmdk half.raw >/dev/null
assert_same half.raw below.raw

note "What --resume does not go on with is told, once"
head -c 4M /dev/urandom >below.raw
qemu-img convert -q -f raw -O vmdk -o subformat=streamOptimized below.raw whole.vmdk
cp whole.vmdk cut.vmdk
anew() { # anew PART [LINES]: half.raw was begun from cut.vmdk, and is converted from whole.vmdk now
	"$VIC" convert -q --resume whole.vmdk half.raw >/dev/null 2>message || fail "whole.vmdk is not converted: $(<message)"
	assert_eq "lines about $1" "$(wc -l <message)" "${2:-1}"
	[ -z "$1" ] || assert_contains "what is said" "$(<message)" "$1"
	assert_same half.raw below.raw
	[ ! -e half.raw.journal ] || fail "the journal is left"
}
begun() { failed "${1:-}" --resume=1 cut.vmdk half.raw; }
truncate -s $(($(stat -c %s cut.vmdk) / 2)) cut.vmdk
begun
rm half.raw
begun 'half.raw.journal speaks of more than there is of half.raw'
anew 'half.raw.journal was begun with another input, or whole.vmdk was changed since: half.raw is written anew; name another output'
begun
truncate -s 4 half.raw.journal
anew 'the journal half.raw.journal cannot be read'
echo something >half.raw.journal
failed 'half.raw.journal is no journal' --resume whole.vmdk half.raw
assert_eq "another's file" "$(cat half.raw.journal)" something
assert_same half.raw below.raw
rm half.raw.journal
anew '' 0

note "Memory does not grow with what is declared"
qemu-img create -q -f qcow2 -o cluster_size=2M large.qcow2 60T
qemu-img create -q -f vmdk large.vmdk 4T
for image in large.qcow2 large.vmdk; do
	"$VIC" inspect -q --fast "$image" | found "^capacity" || fail "$image cannot be read"
done
