#!/bin/bash
# A conversion that is cut at every write, by kill -9 and by power loss, or that meets a full or broken disk, goes on and ends right; and
# what was right is not written again.
# timeout: 1800
. "$(dirname "$0")/lib.sh"

need qemu-img python3
FAULT_LAYER=${FAULT_LAYER:-$SOURCE_DIR/build/dev/test/integration/fault_layer.so}
out=$WORK/out.raw

# Blocks of a MiB: full, empty, with holes, with less than a page; the last one is short.
cat >"$WORK/make.py" <<'END'
import random, sys
r = random.Random(7)
def block(kind):
    if kind == 0: return bytes(1 << 20)
    if kind == 1: return r.randbytes(1 << 20)
    if kind == 2: return b''.join(r.randbytes(65536) if r.random() < .5 else bytes(65536) for _ in range(16))
    if kind == 3: return b''.join(r.randbytes(4096) if r.random() < .5 else bytes(4096) for _ in range(256))
    return bytes(300000) + b'x' + bytes((1 << 20) - 300001)
disk = b''.join(block(k) for k in (1, 1, 0, 2, 3, 0, 0, 1, 4, 2, 1, 0, 3, 1)) + r.randbytes(70144)
open(sys.argv[1] + 'disk.raw', 'wb').write(disk)
def changed(name, change):
    other = bytearray(disk)
    change(other)
    open(sys.argv[1] + name + '.raw', 'wb').write(other)
def empty(d): d[3 << 20:4 << 20] = bytes(1 << 20)
def fill(d): d[5 << 20:(5 << 20) + 5000] = r.randbytes(5000)
def flip(d): d[(9 << 20) + 12345] ^= 1
changed('emptied', empty)
changed('filled', fill)
changed('flipped', flip)
changed('changed', lambda d: (empty(d), fill(d), flip(d)))
END
python3 "$WORK/make.py" "$WORK/"
for disk in disk changed emptied filled flipped; do
	qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$WORK/$disk.raw" "$WORK/$disk.vmdk"
done

faulty() {
	env FAULT_FILES=out.raw FAULT_REPORT="$WORK/report" LD_PRELOAD="$FAULT_LAYER" \
		ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0" "$@"
}
# convert_cut KIND AT SEED INPUT: a conversion with a fault; its report is in $WORK/report, what it says in $WORK/said.
convert_cut() {
	rm -f "$WORK/report"
	{ # the shell says who was killed
		faulty FAULT_KIND=$1 FAULT_AT=$2 FAULT_SEED=$3 "$VIC" convert -q --digest --resume=1 - "$out" <"$4" >"$WORK/said" 2>&1
	} 2>/dev/null
}
# resumed INPUT RAW WHAT: goes on without a fault, and prints how many bytes that wrote
resumed() {
	convert_cut none 0 0 "$1" || fail "$3: not resumed: $(<"$WORK/said")"
	cmp -s "$out" "$2" || fail "$3: the disk is not the same"
	[ ! -e "$out.journal" ] || fail "$3: the journal is still there"
	cat "$WORK/report"
}
fresh() { rm -f "$out" "$out.journal"; }

fresh
all=$(resumed "$WORK/disk.vmdk" "$WORK/disk.raw" "a whole run")
operations=${all% *} all_bytes=${all#* }
((operations > 30)) || fail "only $operations operations: the layer does not see them"
note "a whole run has $operations operations and writes $all_bytes bytes"

# A power loss at each operation, and a kill, after which all is there that was written, at some.
for kind in kill power; do
	step=1
	[ $kind = power ] || step=3
	for ((at = 1; at <= operations; at += step)); do
		fresh
		if convert_cut $kind $at $at "$WORK/disk.vmdk"; then
			((at > operations - 10)) || fail "$kind at $at did not cut"
			continue
		fi
		# Half of them are cut once more, somewhere else; some meet a source that was changed in between.
		((at % 2)) || convert_cut $kind $((at * 7 % operations + 1)) $((at + 1000)) "$WORK/disk.vmdk" || :
		disk=disk
		((at % 3)) || disk=changed
		resumed "$WORK/$disk.vmdk" "$WORK/$disk.raw" "$kind at $at, then $disk" >/dev/null
	done
	note "cut by $kind at operations 1 to $operations"
done
for ((at = 12; at <= operations; at += 9)); do
	for seed in 1 2 3; do
		fresh
		convert_cut power $at $seed "$WORK/disk.vmdk" || :
		resumed "$WORK/disk.vmdk" "$WORK/disk.raw" "power at $at with seed $seed" >/dev/null
	done
done
note "power losses of several kinds"

# A source that is another one in a try that is cut, and then the first one again: no record of the first may be left of what was changed.
fresh
convert_cut kill $((operations - 3)) 0 "$WORK/disk.vmdk" && fail "was not cut"
for file in "$out" "$out.journal"; do cp --sparse=always "$file" "$file.kept"; done
for ((at = 3; at < 60; at++)); do
	for file in "$out" "$out.journal"; do cp --sparse=always "$file.kept" "$file"; done
	case $((at % 3)) in 0) disk=emptied ;; 1) disk=filled ;; 2) disk=flipped ;; esac
	kind=power
	((at % 2)) || kind=kill
	convert_cut $kind $((at / 3)) $at "$WORK/$disk.vmdk" || :
	resumed "$WORK/disk.vmdk" "$WORK/disk.raw" "$disk, and back, $kind at $((at / 3))" >/dev/null
done
note "changed to and fro"

# Near the end of a larger disk nearly nothing is left to be written.
head -c 64M /dev/urandom >"$WORK/large.raw"
fresh
large=$(resumed "$WORK/large.raw" "$WORK/large.raw" "a large disk")
fresh
convert_cut kill $((${large% *} - 10)) 0 "$WORK/large.raw" && fail "was not cut"
left=$(resumed "$WORK/large.raw" "$WORK/large.raw" "late")
note "cut late, the second run writes ${left#* } of ${large#* } bytes"
((${left#* } * 4 < ${large#* })) || fail "the second run wrote ${left#* } of ${large#* } bytes"

# A full and a broken disk: the error names the file and the bytes that are missing; with space given it goes on.
for kind in ENOSPC EIO; do
	for ((at = 3; at <= operations - 10; at += 9)); do
		fresh
		convert_cut $kind $at 0 "$WORK/disk.vmdk" && fail "$kind at $at was not noticed"
		[[ $(<"$WORK/said") =~ (bytes).*$out ]] || fail "$kind at $at: \"$(<"$WORK/said")\" does not name the bytes and the file"
		resumed "$WORK/disk.vmdk" "$WORK/disk.raw" "$kind at $at" >/dev/null
	done
	((at = ${large% *} * 3 / 4))
	fresh
	convert_cut $kind $at 0 "$WORK/large.raw" && fail "$kind at $at was not noticed"
	left=$(resumed "$WORK/large.raw" "$WORK/large.raw" "$kind at $at")
	((${left#* } * 2 < ${large#* })) || fail "after $kind the second run wrote ${left#* } of ${large#* } bytes"
done
note "a full and a broken disk"

# A sync that fails takes with it what was written before, and the next one succeeds: nothing of that may be taken for written.
for ((at = 8; at < operations - 3; at += 15)); do
	fresh
	convert_cut sync $at $at "$WORK/disk.vmdk" && fail "a failed sync at $at was not noticed"
	assert_contains "a failed sync at $at" "$(<"$WORK/said")" "cannot"
	resumed "$WORK/disk.vmdk" "$WORK/disk.raw" "a failed sync at $at" >/dev/null
done
fresh
convert_cut sync $((${large% *} / 2)) 1 "$WORK/large.raw" && fail "a failed sync was not noticed"
resumed "$WORK/large.raw" "$WORK/large.raw" "a failed sync" >/dev/null
note "syncs that fail"

# A qcow2 image that was cut is none, or is right: its header comes last. It cannot be gone on with, and says so.
image=$WORK/out.raw.qcow2
qcow2_cut() { # qcow2_cut KIND AT
	rm -f "$image" "$WORK/report"
	{ faulty FAULT_KIND=$1 FAULT_AT=$2 FAULT_SEED=$2 "$VIC" convert -q --sync "$WORK/disk.vmdk" "$image" >"$WORK/said" 2>&1; } 2>/dev/null
}
qcow2_right() { qemu-img check -q -f qcow2 "$image" && qemu-img compare -q -f qcow2 -F raw "$image" "$WORK/disk.raw"; }
qcow2_cut none 0 && qcow2_right || fail "the qcow2 image is not the disk"
operations=$(cut -d' ' -f1 "$WORK/report") whole=0
for ((at = 1; at <= operations; at += at < operations - 15 ? 4 : 1)); do
	if qcow2_cut power $at; then continue; fi
	[ "$(head -c 3 "$image" 2>/dev/null | tr -d '\0')" = QFI ] || continue
	whole=$((whole + 1))
	qcow2_right || fail "power at $at of $operations left a broken qcow2 image"
done
((whole <= 3)) || fail "$whole cuts left an image: the header does not come last"
assert_fails 2 "$VIC" convert -q --resume "$WORK/disk.vmdk" "$image" 2>"$WORK/said"
assert_contains "the error of --resume" "$(<"$WORK/said")" "a qcow2 image that was cut cannot be gone on with"
note "qcow2 images are whole or none, cut at operations 1 to $operations ($whole were whole)"

# Storage that changes what it is given is found out when the disk is read again, and the next try mends it.
verified() { { faulty "$@" "$VIC" convert -q --verify --resume=1 - "$out" <"$WORK/disk.vmdk" >"$WORK/said" 2>&1; } 2>/dev/null; }
flipped=0
for ((at = 2; at < 100 && flipped < 4; at += 2)); do
	fresh
	verified FAULT_KIND=flip FAULT_AT=$at && continue # another operation than a write of the disk
	assert_contains "the error of a flipped bit" "$(<"$WORK/said")" "$out holds another disk than was written to it"
	verified FAULT_KIND=none || fail "flip at $at: the next try does not mend it"
	assert_same "$out" "$WORK/disk.raw"
	flipped=$((flipped + 1))
done
((flipped == 4)) || fail "only $flipped flipped bits were noticed"
fresh
verified FAULT_KIND=none || fail "a disk that is right does not pass: $(<"$WORK/said")"
note "flipped bits are noticed"

# A limit on the file's size is an error like others.
fresh
(ulimit -f 4096; exec "$VIC" convert -q "$WORK/disk.vmdk" "$out") 2>"$WORK/said" && fail "the limit was not noticed"
assert_contains "the error at the limit" "$(<"$WORK/said")" "$out"
assert_contains "the error at the limit" "$(<"$WORK/said")" "bytes"

# What is not synced may be refused when it is closed.
for to in "$out" "$image"; do
	faulty FAULT_KIND=close "$VIC" convert -q "$WORK/disk.vmdk" "$to" >"$WORK/said" 2>&1 && fail "the failed close of $to was not noticed"
	assert_contains "the error of a failed close" "$(<"$WORK/said")" "cannot write $to to its end: Disk quota exceeded"
done

# A raw file is not even read again.
fresh
cp "$WORK/large.raw" "$WORK/in.raw"
raw() { { faulty "$@" "$VIC" convert -q --digest --resume=1 --format raw "$WORK/in.raw" "$out"; } 2>/dev/null; }
raw FAULT_KIND=kill FAULT_AT=$((${large% *} - 10)) && fail "was not cut"
raw FAULT_KIND=none >"$WORK/digest"
assert_same "$out" "$WORK/large.raw"
left=$(cut -d' ' -f2 "$WORK/report")
((left * 4 < ${large#* })) || fail "the raw file was written again: $left bytes"
"$VIC" verify -q "$out" "$(<"$WORK/digest")" || fail "its digest is not that of what is there"
# ... unless it was changed.
fresh
raw FAULT_KIND=kill FAULT_AT=$((${large% *} - 10)) && fail "was not cut"
printf 'changed' | dd of="$WORK/in.raw" bs=1 seek=5000000 conv=notrunc status=none
raw FAULT_KIND=none >"$WORK/digest"
assert_same "$out" "$WORK/in.raw"
assert_fails 1 "$VIC" verify -q "$WORK/large.raw" "$(<"$WORK/digest")" 2>/dev/null
# ... or another one was written there meanwhile, without a journal.
fresh
cp "$WORK/large.raw" "$WORK/in.raw"
raw FAULT_KIND=kill FAULT_AT=$((${large% *} - 10)) && fail "was not cut"
head -c 64M /dev/zero | tr '\0' x >"$WORK/other.raw"
"$VIC" convert -q --format raw "$WORK/other.raw" "$out" >/dev/null
raw FAULT_KIND=none >/dev/null
assert_same "$out" "$WORK/in.raw"
# ... or read as another disk: the one in it, then the file itself.
fresh
qemu-img convert -f raw -O qcow2 "$WORK/large.raw" "$WORK/in.raw"
as() { { faulty "${@:2}" "$VIC" convert -q --digest --resume=1 --format $1 "$WORK/in.raw" "$out"; } 2>/dev/null; }
as qcow2 FAULT_KIND=kill FAULT_AT=$((${large% *} - 10)) && fail "was not cut"
as raw FAULT_KIND=none >/dev/null
assert_same "$out" "$WORK/in.raw"
note "raw files go on where they were"
