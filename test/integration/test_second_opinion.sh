#!/bin/bash
# What VMware's own command line exports of the same machines (govc export.ovf, made raw by qemu-img) has the digests that an import says; and
# these exports themselves, imported from a web server as they are and as OVAs, become the machines that come from vSphere.
# needs: vsphere
# timeout: 1200
. "$(dirname "$0")/lib.sh"

need qemu-img nginx
start_vsphere
GOVC=$(outside "$PEERS/govc/build.sh") || skip "govc cannot be built"

export_ovf() { # export_ovf PATH SHA: into $WORK/govc/NAME, with a manifest of these digests
	mkdir -p "$WORK/govc"
	GOVC_PERSIST_SESSION=false "$GOVC" export.ovf -sha "$2" -vm "$1" "$WORK/govc" >"$WORK/said" 2>&1 || fail "govc cannot export $1: $(cat "$WORK/said")"
}
shas=(1 256 512)
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
	export_ovf "$path" "${shas[disks % 3]}"
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

# --- the exports as sources ------------------------------------------------------------------------------------------------

PORT=$(free_port)
start_nginx <<<"access_log off; server { listen 127.0.0.1:$PORT; root $WORK/govc; }"
quoted() { python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1]))' "$1"; }
for name in "${!machines[@]}"; do
	vm=${machines[$name]##*/}
	(cd "$WORK/govc/$vm" && ls ./*.mf >/dev/null && tar -cf "../$name.ova" ./*.ovf ./*.mf ./*.vmdk)
	for form in ovf ova; do
		url=$name.ova
		[ $form = ova ] || url=$(quoted "$vm/$vm.ovf")
		printf 'apiVersion: %s\nkind: OvaSource\nmetadata: {name: %s-%s, namespace: default}\nspec: {url: "http://127.0.0.1:%s/%s"}\n---\n' $GROUP "$form" "$name" "$PORT" "$url"
		SOURCE_KIND=OvaSource SOURCE_NAME=$form-$name import_manifest default "$form-$name" "$vm" "targetVirtualMachineName: $form-$name"
	done
done >"$WORK/packages.yaml"
wait_for 20 curl -fsS -o /dev/null "http://127.0.0.1:$PORT/web-off.ova"
"$VIC" import -q --allow-local-urls -f "$WORK/packages.yaml" -o "$WORK/packages" >"$WORK/printed-packages" || fail "the packages are not imported: $(cat "$WORK/printed-packages")"
cat >"$WORK/same.py" <<'END'
"""Whether two machines are the same but for names and MAC addresses, which an export does not have."""
import sys, yaml
def load(path):
    with open(path) as f:
        vm = yaml.safe_load(f)
    domain = vm["spec"]["template"]["spec"]["domain"]
    domain.get("firmware", {}).pop("uuid", None)
    domain.get("firmware", {}).pop("serial", None)
    for card in domain["devices"].get("interfaces", []):
        card.pop("macAddress", None)
    return {"domain": domain, "notes": vm["metadata"].get("annotations", {}).get("field.cattle.io/description"), "os": vm["metadata"].get("labels", {}).get("harvesterhci.io/os")}
a, b = map(load, sys.argv[1:])
for key in a:
    if a[key] != b[key]:
        sys.exit(f"{key}:\n  {a[key]}\n  {b[key]}")
END
for name in "${!machines[@]}"; do
	for form in ovf ova; do
		/usr/bin/python3 "$WORK/same.py" "$WORK/out/$name/virtualmachine.yaml" "$WORK/packages/$form-$name/virtualmachine.yaml" || fail "the $form of $name is another machine"
		for disk in "$WORK/out/$name"/disk-*.raw; do
			assert_same "$disk" "$WORK/packages/$form-$name/${disk##*/}"
		done
	done
done
note "each the same machine from vSphere, from its OVF and from an OVA of it"
