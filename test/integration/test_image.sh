#!/bin/bash
# The image, built for real by buildah from Dockerfile: small, nothing in it that is not used, a hardened program, no root. The programs
# work in it, on a root file system that cannot be written to.
# timeout: 1700
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || skip "buildah needs root here"
need readelf qemu-img
build_image
root=$IMAGE/rootfs program=$IMAGE/rootfs/usr/bin/vm-import-controller

read -r all ours <"$IMAGE/size"
[ "$all" -lt 120000000 ] || fail "the image has $all bytes, more than 120 MB"
[ "$ours" -lt 3000000 ] || fail "the program has $ours bytes"
du -b "$root"/usr/lib/x86_64-linux-gnu/* | sort -rn | awk 'NR <= 5 { sub(".*/", "", $2); printf "         %5.1f MB %s\n", $1 / 1e6, $2 }'

assert_eq "user" "$(jq -r .User "$IMAGE/config.json")" 65532:65532
assert_eq "entry point" "$(jq -rc '[.Entrypoint, .Cmd]' "$IMAGE/config.json")" '[["/usr/bin/vm-import-controller"],null]'
assert_eq "programs" "$(ls "$root/usr/bin" | paste -sd' ')" "qemu-img vm-import-controller"
assert_eq "files with another's rights" "$(find "$root" -perm /6000)" ''
assert_eq "what everybody may write to" "$(cd "$root" && find . ! -type l -perm -o=w | sort | paste -sd' ')" "./tmp ./var/tmp"
assert_eq "what is not root's" "$(find "$root" ! -user root)" ''
for package in libc6 libcurl4 libssl3 libwebsockets17 qemu-utils ca-certificates; do
	grep -q '^Version: ' "$root/var/lib/dpkg/status.d/$package" || fail "scanners do not see $package"
	[ -s "$root/usr/share/doc/$package/copyright" ] || fail "the licence of $package is missing"
done

# Hardening.
says() { [[ $2 =~ $3 ]] || fail "$1: $2"; }
says "position-independent" "$(readelf -hW "$program")" 'Type: +DYN'
says "all relocations before the start" "$(readelf -dW "$program")" 'FLAGS_1\) +Flags: NOW PIE'
says "relocations read-only" "$(readelf -lW "$program")" GNU_RELRO
says "no executable stack" "$(readelf -lW "$program")" 'GNU_STACK +(0x[0-9a-f]+ +){5}RW '
says "control-flow enforcement" "$(readelf -nW "$program")" 'x86 feature: IBT, SHSTK'
symbols=$(readelf -W --dyn-syms "$program")
says "stack protector" "$symbols" __stack_chk_fail
for checked in memcpy snprintf read; do says "checked $checked" "$symbols" "__${checked}_chk"; done
[[ $(readelf -dW "$program") != *R*PATH* ]] || fail "the program has a path of its own for libraries"
! readelf -SW "$program" | found '\.debug_info' || fail "the program is not stripped"
# Level 3 leaves no trace of its own in the program: it is what the build is told.
grep -q 'add_compile_definitions(_FORTIFY_SOURCE=3)' "$SOURCE_DIR/cmake/Options.cmake" || fail "FORTIFY is not at level 3"
says "writable and executable memory" "$(readelf -lW "$program" | grep -c RWE || true)" '^0$'
note "hardened: PIE, RELRO, NOW, stack protector, FORTIFY, CET; no setuid files, no shell, user 65532"

# In it: with a root that cannot be written to, as nobody in particular, with /tmp alone.
inside() {
	unshare --mount -- bash -c 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && mount --bind "$2" "$1/tmp" &&
		exec unshare --root="$1" --setuid 65532 --setgid 65532 "${@:3}"' - "$root" "$WORK/tmp" "$@"
}
mkdir -m 1777 "$WORK/tmp"
says version "$(inside /usr/bin/vm-import-controller version)" "^vm-import-controller [0-9]"
head -c 3000000 /dev/urandom >"$WORK/tmp/disk.raw"
truncate -s 8M "$WORK/tmp/disk.raw"
chmod a+r "$WORK/tmp/disk.raw"
inside /usr/bin/qemu-img convert -O vmdk -o subformat=streamOptimized /tmp/disk.raw /tmp/disk.vmdk
inside /usr/bin/vm-import-controller convert -q /tmp/disk.vmdk /tmp/out.raw >/dev/null
assert_same "$WORK/tmp/out.raw" "$WORK/tmp/disk.raw"
status=0
output=$(inside /usr/bin/vm-import-controller convert -q /tmp/disk.vmdk /out.raw 2>&1) || status=$?
assert_eq "status of a write outside /tmp" $status 1
assert_contains "a write outside /tmp" "$output" "Read-only file system"
note "convert and qemu-img work in it"
