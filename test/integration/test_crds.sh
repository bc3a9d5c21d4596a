#!/bin/bash
# The custom resource definitions on a real API server: accepted without a warning, explained in every field, Harvester's manifests unchanged.
# needs: kube
# timeout: 600
. "$(dirname "$0")/lib.sh"

start_kube controller-manager
kubectl apply --dry-run=server -f "$SOURCE_DIR/crds/" >"$WORK/applied" 2>&1
! grep -i warning "$WORK/applied" || fail "the server warns"

kubectl apply --validate=strict -f "$SOURCE_DIR/test/integration/manifests/harvester-docs.yaml" >/dev/null
note "the documentation's manifests apply"
assert_eq "what the category lists" "$(kubectl get vm-import -o name 2>/dev/null | wc -l)" 6
kubectl get vmimport alpine-export-test >/dev/null

for kind in virtualmachineimport vmwaresource openstacksource ovasource kvmsource; do
	kubectl explain "$kind" --recursive >/dev/null
	assert_contains "explain $kind" "$(kubectl explain $kind.spec)" "DESCRIPTION"
done
explained=$(kubectl explain virtualmachineimport.spec.networkMapping)
for part in sourceNetwork destinationNetwork networkInterfaceModel NetworkAttachmentDefinition; do assert_contains explain "$explained" $part; done
assert_contains "explain of a status field" "$(kubectl explain virtualmachineimport.status.sourceLedger)" "not yet undone"

columns() { kubectl get "$1" "${@:2}" 2>/dev/null | sed -n 1p | tr -s ' '; }
assert_eq columns "$(columns virtualmachineimports)" "NAME STATUS PROGRESS VM AGE"
assert_contains "wide columns" "$(columns virtualmachineimports -o wide)" "MESSAGE"
assert_contains "columns of a source" "$(columns vmwaresources)" "NAME STATUS ENDPOINT"

refused() { # refused PATCH PART
	local out
	out=$(kubectl patch virtualmachineimport from-the-ui --type=merge -p "$1" 2>&1) && fail "accepted: $1"
	assert_contains "the refusal" "$out" "$2"
}
refused '{"spec":{"defaultDiskBusType":"floppy"}}' 'Unsupported value: "floppy"'
refused '{"spec":{"targetPowerState":"maybe"}}' 'Unsupported value: "maybe"'
refused '{"spec":{"gracefulShutdownTimeoutSeconds":-1}}' 'greater than or equal to 0'
kubectl patch virtualmachineimport from-the-ui --type=merge -p '{"spec":{"targetPowerState":"off","sourceRecovery":"PowerOn"}}' >/dev/null

# The status is a resource of its own: it cannot be set together with the spec.
kubectl patch virtualmachineimport from-the-ui --subresource=status --type=merge -p '{"status":{"importStatus":"sourceReady","progress":3}}' >/dev/null
kubectl patch virtualmachineimport from-the-ui --type=merge -p '{"spec":{"folder":"x"},"status":{"importStatus":"changed"}}' >/dev/null
assert_eq "the status" "$(import_field default from-the-ui '{.status.importStatus} {.spec.folder}')" "sourceReady x"
