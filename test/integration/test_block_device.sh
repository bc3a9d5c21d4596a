#!/bin/bash
# A disk onto a block device that held other things: holes become zeros, what lies behind the disk is left alone, a device that is too
# small, in use or fails is an error. Needs root and loop devices; where the machine (a container) has none the kernel is not there to be
# tested, and the test is skipped, in CI, too.
# timeout: 600
. "$(dirname "$0")/lib.sh"

need qemu-img losetup mkfs.ext4
if [ "$(id -u)" != 0 ] || [ ! -e /dev/loop-control ]; then
	note "SKIPPED: loop devices need root and /dev/loop-control"
	exit 77
fi
FAULT_LAYER=${FAULT_LAYER:-$SOURCE_DIR/build/dev/test/integration/fault_layer.so}
device=
trap 'status=$?; trap - ERR; set +e; [ -z "$device" ] || { rm -f "$device.journal"; losetup -d "$device"; }; (exit $status); finish' EXIT

attach() { # attach BYTES: $device, full of garbage
	[ -z "$device" ] || losetup -d "$device"
	device=
	head -c "$1" /dev/urandom >"$WORK/backing"
	device=$(losetup -f --show "$WORK/backing")
}

size=$((24 * 1024 * 1024 + 512 * 5))
truncate -s $size "$WORK/disk.raw"
for at in 0 3 4 11 23; do
	head -c 700000 /dev/urandom | dd of="$WORK/disk.raw" bs=1M seek=$at conv=notrunc status=none
done
head -c 512 /dev/urandom | dd of="$WORK/disk.raw" bs=512 seek=$((size / 512 - 1)) conv=notrunc status=none
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$WORK/disk.raw" "$WORK/disk.vmdk"

check() { # check WHAT
	cmp -n $size "$device" "$WORK/disk.raw" || fail "$1: the device differs from the disk"
	cmp -i $size "$device" "$WORK/before" || fail "$1: what lies behind the disk was changed"
	"$VIC" verify -q --capacity $size "$device" "$digest" || fail "$1: the digest is not that of the device"
}

for way in holes nopunch; do
	for input in vmdk raw stream; do
		attach $((32 * 1024 * 1024))
		cp "$WORK/backing" "$WORK/before"
		convert() {
			FAULT_FILES=$device FAULT_KIND=$way LD_PRELOAD=$FAULT_LAYER ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0 \
				"$VIC" convert -q --digest "$@" "$device"
		}
		case $input in
		vmdk) digest=$(convert "$WORK/disk.vmdk") ;;
		raw) digest=$(convert --capacity $size "$WORK/disk.raw") ;;
		stream) digest=$(convert - <"$WORK/disk.raw") ;; # its length is not known before its end
		esac
		check "$input, $way"
	done
done
note "a device is what the disk is"

faulty() { # faulty VARIABLE=VALUE... COMMAND...: with a device that fails
	env FAULT_FILES="$device" LD_PRELOAD="$FAULT_LAYER" ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0" "$@"
}
for input in vmdk raw; do
	attach $((32 * 1024 * 1024))
	resume=("$VIC" convert -q --digest --resume=1 "$WORK/disk.$input" "$device")
	faulty FAULT_REPORT="$WORK/report" "${resume[@]}" >/dev/null
	read -r operations _ <"$WORK/report"
	for way in EIO kill; do
		attach $((32 * 1024 * 1024))
		cp "$WORK/backing" "$WORK/before"
		{ faulty FAULT_KIND=$way FAULT_AT=$((operations - 3)) "${resume[@]}" >/dev/null 2>&1; } 2>/dev/null && fail "$input, $way: was not cut"
		[ "$(stat -c %s "$device.journal")" -gt 64 ] || fail "$input, $way: nothing was noted to go on from"
		digest=$("${resume[@]}")
		check "$input, gone on with after $way"
	done
done
note "a device is gone on with"
# Read from one that is changed meanwhile.
attach $((32 * 1024 * 1024))
file() { FAULT_FILES=$WORK/file "$@" "$VIC" convert -q --resume=1 "$device" "$WORK/file"; }
{ file env FAULT_KIND=kill FAULT_AT=100 LD_PRELOAD="$FAULT_LAYER" ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0"; } 2>/dev/null && fail "was not cut"
head -c 1000000 /dev/urandom | dd of="$device" conv=notrunc,fsync status=none
file env >/dev/null
cmp "$device" "$WORK/file" || fail "what was changed on the device is missing"

# An image on a device names no other devices, which are all beside it.
attach $((32 * 1024 * 1024))
qemu-img create -q -f qcow2 -u -b "${device##*/}" -F raw "$WORK/names.qcow2" 1M
dd if="$WORK/names.qcow2" of="$device" conv=notrunc,fsync status=none
assert_fails 1 "$VIC" convert -q "$device" "$WORK/file" 2>"$WORK/said"
assert_contains "the error of an image that names a device" "$(<"$WORK/said")" "${device##*/}\", and no other files may be read here"

attach $((16 * 1024 * 1024))
assert_fails 1 "$VIC" convert -q "$WORK/disk.vmdk" "$device" 2>"$WORK/said"
assert_contains "the error of a small device" "$(<"$WORK/said")" "$device has 16777216 bytes, the disk $size: $((size - 16777216)) bytes are missing"
assert_fails 1 "$VIC" convert -q - "$device" <"$WORK/disk.raw" 2>"$WORK/said"
assert_contains "the error of a small device and a stream" "$(<"$WORK/said")" "$device"

attach $((32 * 1024 * 1024))
mkfs.ext4 -q "$device"
mkdir "$WORK/mnt"
mount "$device" "$WORK/mnt"
assert_fails 1 "$VIC" convert -q "$WORK/disk.vmdk" "$device" 2>"$WORK/said"
umount "$WORK/mnt"
assert_contains "the error of a mounted device" "$(<"$WORK/said")" "is in use"
e2fsck -fn "$device" >/dev/null 2>&1 || fail "the mounted device was written to"

# The storage behind the device shrinks: before, and while it is written.
attach $((32 * 1024 * 1024))
truncate -s 8M "$WORK/backing"
losetup -c "$device"
assert_fails 1 "$VIC" convert -q "$WORK/disk.vmdk" "$device" 2>"$WORK/said"
assert_contains "the error of a device that shrank" "$(<"$WORK/said")" "$((size - 8 * 1024 * 1024)) bytes are missing"
attach $((32 * 1024 * 1024))
assert_fails 1 env FAULT_FILES="$device" FAULT_KIND=EIO FAULT_AT=4 LD_PRELOAD="$FAULT_LAYER" \
	ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0" "$VIC" convert -q "$WORK/disk.vmdk" "$device" 2>"$WORK/said"
assert_contains "the error of a device that fails" "$(<"$WORK/said")" "bytes at"
assert_contains "the error of a device that fails" "$(<"$WORK/said")" "$device"
note "errors name the device"
