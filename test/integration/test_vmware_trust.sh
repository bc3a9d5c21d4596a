#!/bin/bash
# Without a CA in the Secret: a vCenter's certificate is pinned when it is seen first, and another one refused, unless the Secret or the
# system's CAs vouch for it.
# needs: vsphere
# timeout: 600
. "$(dirname "$0")/lib.sh"

VSPHERE_PORT=$(free_port)
export VSPHERE_PORT
out=$WORK/out
fingerprint() { openssl x509 -in "$VSPHERE_CA" -noout -fingerprint -sha256 | sed 's/.*=//'; }
# import_from NAME VM [SECRET-LINE]: with no caCert in the Secret
import_from() {
	{ source_manifest | sed "/caCert: |/,/END CERT/d; s|^  password: .*|&${3:+\n  $3}|"; import_manifest default "$1" "$2" "targetVirtualMachineName: $1"; } >"$WORK/$1.yaml"
	"$VIC" import -f "$WORK/$1.yaml" -o "$out" >/dev/null 2>"$WORK/err"
}
pinned() { sed -n 's/^ *fingerprint: *"\{0,1\}\([0-9A-F:]*\)"\{0,1\}$/\1/p' "$out/objects/vmwaresource-default-vcenter.yaml"; }
new_certificate() { # the same vCenter at the same place, with another certificate
	stop_vsphere
	rm -f "$WORK"/vsphere/certs/endpoint.*
	start_vsphere
}

start_vsphere
first=$(fingerprint)
import_from first A/twin
assert_eq "what the source's status shows" "$(pinned)" "$first"
import_from again B/twin

new_certificate
second=$(fingerprint)
[ "$first" != "$second" ] || fail "the certificate is the same"
assert_fails 1 import_from refused with-snapshots
for part in "it is not the one that was pinned on first use, SHA-256 $first" "SHA-256 $second" caCert thumbprint; do
	assert_contains "what the command says" "$(cat "$WORK/err")" "$part"
done
note "$(tail -n 1 "$WORK/err" | cut -c1-300)"
assert_eq "the pin after a refusal" "$(pinned)" "$first"
grep -q 'status: clusterNotReady' "$out/objects/vmwaresource-default-vcenter.yaml" || fail "the source is ready"
assert_eq "sessions" "$(admin_state '.openSessions | length')" 0

# The user's word counts, and is no first use.
import_from allowed A/twin "thumbprint: \"$second\""
assert_eq "the pin when the Secret tells" "$(pinned)" ""
import_from anew B/twin
assert_eq "the pin of a new first use" "$(pinned)" "$second"

# An authority that the system trusts may renew it.
if [ "$(id -u)" = 0 ] && bundle=$(curl-config --ca 2>/dev/null) && [ -e "$bundle" ] && unshare -m true 2>/dev/null; then
	new_certificate
	assert_fails 1 import_from unknown web-off
	cat "$bundle" "$VSPHERE_CA" >"$WORK/bundle.crt"
	export -f import_from source_manifest import_manifest
	export VIC WORK out GROUP VSPHERE_CA VSPHERE_URL VSPHERE_USER VSPHERE_PASSWORD
	unshare -m bash -euc "mount --bind '$WORK/bundle.crt' '$bundle'; import_from known A/twin" || fail "refused: $(tail -n 3 "$WORK/err")"
	assert_eq "the pin after a renewal" "$(pinned)" "$(fingerprint)"
	import_from after B/twin
	note "a certificate of a known authority takes the place of another"
fi
assert_source_clean
