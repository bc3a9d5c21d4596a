#!/bin/bash
# What VMware's own command line exports of the same machines (govc export.ovf, made raw by qemu-img) has the digests that an import says.
# needs: vsphere
# timeout: 600
. "$(dirname "$0")/lib.sh"

need qemu-img
start_vsphere
GOVC=$("$PEERS/govc/build.sh") || skip "govc cannot be built"

export_ovf() { # export_ovf PATH: into $WORK/govc/NAME
	mkdir -p "$WORK/govc"
	GOVC_PERSIST_SESSION=false "$GOVC" export.ovf -vm "$1" "$WORK/govc" >"$WORK/said" 2>&1 || fail "govc cannot export $1: $(cat "$WORK/said")"
}
declare -A machines=(
	[web-off]=/DC1/vm/web-off
	[every]="/DC1/vm/Odd/Every Controller"
	[unicode]="/DC1/vm/Odd/Ünïcode ファイル/MÜLLER_DB 本番 #1"
	[windows]="/DC1/vm/Windows/Secure/Windows Server 2022 (EFI)"
	[snapshots]=/DC1/vm/with-snapshots
)
source_manifest >"$WORK/manifests.yaml"
for name in "${!machines[@]}"; do
	path=${machines[$name]}
	import_manifest default "$name" "${path##*/}" "folder: \"${path%/*}\"" "targetVirtualMachineName: $name" >>"$WORK/manifests.yaml"
done
"$VIC" import -q -f "$WORK/manifests.yaml" -o "$WORK/out" >"$WORK/printed"
disks=0
for name in "${!machines[@]}"; do
	path=${machines[$name]}
	export_ovf "$path"
	i=0
	# In the order of the descriptor, which is that of the machine's devices.
	while IFS= read -r file; do
		raw=$WORK/govc/$name-$i.raw
		qemu-img convert -f vmdk -O raw "$WORK/govc/${path##*/}/$file" "$raw"
		same=''
		# Ours are in the order of the firmware: the digest says which it is.
		for digest in $(sed -n "s|^$WORK/out/$name/disk-[0-9]*.raw .* ||p" "$WORK/printed"); do
			! "$VIC" verify -q "$raw" "$digest" 2>/dev/null || same=$digest
		done
		[ -n "$same" ] || fail "no disk of $name has the digest of what govc exported as $file"
		sed -i "s|\(.*/out/$name/disk-[0-9]*.raw .*\) $same$|\1 matched|" "$WORK/printed"
		rm "$raw"
		i=$((i + 1))
	done < <(python3 - "$WORK/govc/${path##*/}" <<-'END'
	import glob, sys, xml.etree.ElementTree as tree
	for ovf in glob.glob(glob.escape(sys.argv[1]) + "/*.ovf"):
	    for file in tree.parse(ovf).getroot().iter("{http://schemas.dmtf.org/ovf/envelope/1}File"):
	        href = next(v for k, v in file.attrib.items() if k.endswith("href"))
	        if href.endswith(".vmdk"):
	            print(href)
	END
	)
	assert_eq "disks of $name that both have" "$i" "$(grep -c "/out/$name/disk-.* matched$" "$WORK/printed")"
	assert_eq "disks of $name" "$i" "$(vm_state "$path" '.Disks | length')"
	disks=$((disks + i))
	note "$path: $i disks, the same digests"
done
note "$disks disks of ${#machines[@]} machines"
assert_source_clean
