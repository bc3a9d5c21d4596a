#!/bin/bash
# What becomes of a machine, and whether govc says the same of it: mapping.json has machines as the peer's inventory describes them, and the KubeVirt object that each must give,
# what preflight must say, and what the user is told.
# needs: vsphere
# timeout: 600
. "$(dirname "$0")/lib.sh"

VMWARE_PROBE=${VMWARE_PROBE:-$SOURCE_DIR/build/dev/test/integration/vmware_probe}
[ -x "$VMWARE_PROBE" ] || fail "there is no program $VMWARE_PROBE"
table=$SOURCE_DIR/test/integration/mapping.json
jq '{user: "administrator@vsphere.local", password: "pass", datacenters: [{name: "DC1", datastores: ["datastore1", "lost"], inaccessible: ["lost"],
	hosts: [{name: "esx1.test", address: "127.0.0.11:0"}],
	networks: [{name: "VM Network"}, {name: "VLAN 10%2f20"}, {name: "本番 Netz"}, {name: "dvs-prod", kind: "distributed"}, {name: "nsx-seg", kind: "opaque"}],
	vms: map({name: .case, disks: [{capacityMB: 8}]} + .vm)}]}' "$table" >"$WORK/inventory.json"
start_vsphere "$WORK/inventory.json"
SECRET=$(jq -n --arg u "$VSPHERE_USER" --arg p "$VSPHERE_PASSWORD" --rawfile ca "$VSPHERE_CA" '{username: $u, password: $p, caCert: $ca}')
export SECRET VSPHERE_DC=DC1
# govc's view of the same machines, which must not differ from ours.
govc=$(outside "$PEERS/govc/build.sh") || skip "govc cannot be built"
export GOVC_PERSIST_SESSION=false
mapfile -t refs < <(admin_state '.vms[].Ref | "VirtualMachine:" + .')
"$govc" vm.info -json "${refs[@]}" >"$WORK/govc.json"
python3 "$SOURCE_DIR/test/integration/mapping.py" "$VMWARE_PROBE" "$table" "$WORK/govc.json"
assert_source_clean
