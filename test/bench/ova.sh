#!/usr/bin/env bash
# An OVA from a web server (nginx): ours, from login to synced disk, against what one does by hand: curl piped into tar, then qemu-img convert
# with the best of its flags. Both end when the storage has the disk (fdatasync). Ours then reads the disk again and compares it, which the way by
# hand does not; without that (--no-verify) it is measured, too.
#   VIC=PROGRAM      what to measure (default: the release build)
#   BENCH_GIB=8      size of the disk; convert.sh makes it, and its streamOptimized VMDK
#   BENCH_RUNS=2     the fastest run of each counts; they take turns
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
vic=${VIC:-$here/build/release/controller/vm-import-controller}
gib=${BENCH_GIB:-8}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/bench
raw=$cache/disk-$gib.raw vmdk=$cache/disk-$gib.vmdk

[ -x "$vic" ] || { echo "ova.sh: build $vic first, or name another in VIC" >&2; exit 2; }
[ -e "$vmdk" ] || { echo "ova.sh: run convert.sh first, it makes the disk" >&2; exit 2; }
for tool in nginx curl tar qemu-img openssl; do command -v $tool >/dev/null || { echo "ova.sh: $tool is missing" >&2; exit 77; }; done

work=$(mktemp -d "$cache/run.XXXXXX")
nginx_pid=''
trap '[ -z "$nginx_pid" ] || kill "$nginx_pid"; rm -rf "$work"' EXIT
mkdir "$work/www"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/vm.ovf" <<END
<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References><File ovf:id="f" ovf:href="disk-$gib.vmdk" ovf:size="$(stat -c %s "$vmdk")"/></References>
<DiskSection><Info>d</Info><Disk ovf:diskId="d" ovf:capacity="$(stat -c %s "$raw")" ovf:fileRef="f"/></DiskSection>
<VirtualSystem ovf:id="bench"><Info>v</Info><Name>bench</Name><VirtualHardwareSection><Info>h</Info>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType>
<rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
<rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item></VirtualHardwareSection></VirtualSystem></Envelope>
END
# The manifest is verified as the bytes pass, by ours only: the way by hand leaves that out.
{
	echo "SHA256(vm.ovf)= $(sha256sum <"$work/vm.ovf" | cut -d' ' -f1)"
	echo "SHA256(disk-$gib.vmdk)= $(sha256sum <"$vmdk" | cut -d' ' -f1)"
} >"$work/vm.mf"
tar -cf "$work/www/vm.ova" -C "$work" vm.ovf vm.mf -C "$cache" "disk-$gib.vmdk"
cat >"$work/nginx.conf" <<END
daemon off; user root; pid $work/nginx.pid; error_log $work/nginx.log;
events {}
http {
	access_log off; sendfile on; root $work/www;
	client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3; uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
	server { listen 127.0.0.1:$port; }
}
END
nginx -c "$work/nginx.conf" &
nginx_pid=$!
for _ in $(seq 100); do ! curl -fsSI -o "$work/head" "http://127.0.0.1:$port/vm.ova" 2>/dev/null || break; sleep 0.1; done
cat >"$work/manifests.yaml" <<END
apiVersion: migration.harvesterhci.io/v1beta1
kind: OvaSource
metadata: {name: web}
spec: {url: "http://127.0.0.1:$port/vm.ova"}
---
apiVersion: migration.harvesterhci.io/v1beta1
kind: VirtualMachineImport
metadata: {name: bench}
spec: {virtualMachineName: bench, sourceCluster: {kind: OvaSource, name: web}}
END

now() { date +%s%N; }
ours() {
	"$vic" import --quiet --allow-local-urls "$@" -f "$work/manifests.yaml" -o "$work/out" >"$work/said" &
	local pid=$!
	while sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' /proc/$pid/status 2>/dev/null; do sleep 0.1; done >"$work/rss"
	wait $pid
}
unverified() { ours --no-verify; }
by_hand() {
	mkdir "$work/hand"
	curl -fsS "http://127.0.0.1:$port/vm.ova" | tar -C "$work/hand" -xf -
	du -B1 --total "$work/hand"/* | tail -n 1 | cut -f1 >"$work/hand-bytes"
	qemu-img convert -f vmdk -O raw -m 16 -W "$work/hand/disk-$gib.vmdk" "$work/hand/disk.raw"
	sync "$work/hand/disk.raw"
}
best() { # best NAME COMMAND: the least microseconds so far in best_NAME
	local start took
	sync
	start=$(now)
	$2
	took=$((($(now) - start) / 1000))
	declare -n least=best_$1
	[ -n "${least:-}" ] && [ "$least" -le $took ] || least=$took
}
for _ in $(seq "${BENCH_RUNS:-2}"); do
	rm -rf "$work/out" "$work/hand"
	best ours ours
	cmp "$raw" "$work/out/bench/disk-0.raw" || { echo "ova.sh: the disk is not the same" >&2; exit 1; }
	scratch=$(du -B1 "$work/out/bench/disk-0.raw" | cut -f1)
	rm -rf "$work/out"
	best unverified unverified
	rm -rf "$work/out"
	best hand by_hand
	hand_scratch=$(($(cat "$work/hand-bytes") + $(du -B1 "$work/hand/disk.raw" | cut -f1)))
	rm -rf "$work/hand"
done
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'; }
echo "ratio ova_speed_vs_curl_tar_qemu_img $(ratio "$best_hand" "$best_ours")"
echo "ratio ova_no_verify_speed_vs_curl_tar_qemu_img $(ratio "$best_hand" "$best_unverified")"
echo "value ova_import_seconds $(ratio "$best_ours" 1000000) s"
echo "value ova_import_no_verify_seconds $(ratio "$best_unverified" 1000000) s"
echo "value curl_tar_qemu_img_seconds $(ratio "$best_hand" 1000000) s"
echo "value ova_peak_rss $(sort -n "$work/rss" | tail -1) KiB"
echo "ratio ova_scratch_vs_allocated $(ratio "$scratch" "$(du -B1 "$raw" | cut -f1)")"
echo "ratio by_hand_scratch_vs_allocated $(ratio "$hand_scratch" "$(du -B1 "$raw" | cut -f1)")"
