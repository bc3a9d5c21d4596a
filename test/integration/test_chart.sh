#!/bin/bash
# The chart: what is generated from it is up to date, every combination of values is accepted by a real API server, wrong values are
# refused, and a release of Harvester's own chart is upgraded to ours and uninstalled.
# needs: kube
# timeout: 600
. "$(dirname "$0")/lib.sh"
KUBE_CRDS=no
need python3 jq
start_kube controller-manager
start_helm
promtool=$(outside "$PEERS/prometheus/build.sh")/promtool || skip "promtool cannot be built"
chart=$SOURCE_DIR/deploy/chart
version=$(sed -n 's/^version: //p' "$chart/Chart.yaml")
release=harvester-vm-import-controller
kubectl apply --server-side -f "$HELM_CRDS" >/dev/null
kubectl create namespace harvester-system >/dev/null
kubectl wait --for=condition=Established --timeout=180s -f "$HELM_CRDS" >/dev/null

"$SOURCE_DIR/deploy/chart.sh" check
"$HELM" lint --strict --quiet "$chart"
note "helm lint --strict; deploy/manifests.yaml and the README's table are up to date"

# --- what the templates say ----------------------------------------------------------------------------------------------

render() { "$HELM" template $release "$chart" --namespace harvester-system "$@"; }
# objects [HELM-OPTION...]: what is rendered as JSON lines; rendered once for the same options
objects() {
	local rendered
	rendered=$WORK/objects-$(md5sum <<<"$*" | cut -c1-32)
	if [ ! -e "$rendered" ]; then
		render "$@" | kubectl create --dry-run=client -o json -f - | jq -c 'if .kind == "List" then .items[] else . end' >"$rendered.new"
		mv "$rendered.new" "$rendered"
	fi
	cat "$rendered"
}
# says WHAT WANTED JQ [HELM-OPTION...]: what JQ finds in the rendered objects, in a line
says() {
	local what=$1 wanted=$2 filter=$3
	shift 3
	assert_eq "$what" "$(objects "$@" | jq -rc "$filter" | paste -sd' ')" "$wanted"
}
pod='select(.kind == "Deployment") | .spec.template.spec'
container="$pod | .containers[0]"
claim='select(.kind == "PersistentVolumeClaim") | .spec'

says "objects by default" "ServiceAccount ClusterRole ClusterRoleBinding Role RoleBinding Service Deployment" .kind
says "image" "vm-import-controller:$version" "$container.image"
says "image, set" example.com/a:b-1 "$container.image" --set image.repository=example.com/a,image.tag=b-1
says "pull policy" Always "$container.imagePullPolicy" --set image.pullPolicy=Always
says "pull secrets" one "$pod.imagePullSecrets[].name" --set 'imagePullSecrets[0].name=one'
says "scratch without a claim" '{"emptyDir":{},"name":"storage"}' "$pod.volumes[]"
says "scratch, limited" '{"sizeLimit":"50Gi"}' "$pod.volumes[].emptyDir" --set scratchSizeLimit=50Gi
says "scratch with a claim" $release "$pod.volumes[].persistentVolumeClaim.claimName" --set pvcClaim.enabled=true
says "claim" '200Gi null ["ReadWriteOnce"]' "$claim | .resources.requests.storage, .storageClassName, .accessModes" --set pvcClaim.enabled=true
says "class by the documented name" fast "$claim.storageClassName" --set pvcClaim.enabled=true,pvcClaim.storageClassName=fast
says "class by the template's name" fast "$claim.storageClassName" --set pvcClaim.enabled=true,pvcClaim.storageClass=fast
says "class, both" fast "$claim.storageClassName" --set pvcClaim.enabled=true,pvcClaim.storageClass=fast,pvcClaim.storageClassName=slow
says "no class" '""' "$claim.storageClassName | tojson" --set pvcClaim.enabled=true,pvcClaim.storageClassName=-
says "one replica" '1 Recreate' 'select(.kind == "Deployment").spec | .replicas, .strategy.type'
says "two replicas" '2 RollingUpdate' 'select(.kind == "Deployment").spec | .replicas, .strategy.type' --set replicaCount=2
says "arguments" '["run","--leader-elect=auto","--streams=3","--workers=9"]' "$container.args" --set controller.streams=3,controller.workers=9
says "election among several" --leader-elect=true "$container.args[] | select(startswith(\"--leader\"))" --set replicaCount=3
with_tls=(--set 'tls.enabled=true,tls.secretName=image-server')
says "HTTPS" '--tls-certificate=/etc/vm-import-controller/tls/tls.crt --tls-key=/etc/vm-import-controller/tls/tls.key' \
	"$container.args[] | select(startswith(\"--tls\"))" "${with_tls[@]}"
says "probes by HTTPS" 'HTTPS HTTPS HTTPS' "$container | .startupProbe, .livenessProbe, .readinessProbe | .httpGet.scheme" "${with_tls[@]}"
says "certificate" '{"defaultMode":288,"secretName":"image-server"}' "$pod.volumes[] | select(.name == \"tls\").secret" "${with_tls[@]}"
says "metrics by HTTPS" '["https",true]' 'select(.kind == "ServiceMonitor").spec.endpoints[] | [.scheme, .tlsConfig.insecureSkipVerify]' "${with_tls[@]}" \
	--set serviceMonitor.enabled=true
says "alerts" 9 'select(.kind == "PrometheusRule").spec.groups[].rules | length' --set prometheusRule.enabled=true
says "alerts of another name" 'mine true' 'select(.kind == "PrometheusRule") | .metadata.labels.release, (tojson | test("job=.{1,3}other") and (test("job=.{1,3}vm-import") | not))' \
	--set prometheusRule.enabled=true,prometheusRule.labels.release=mine,service.name=other
says "dashboard" '"1" VM imports' 'select(.metadata.name | endswith("-dashboard")) | (.metadata.labels.grafana_dashboard | tojson), (.data["vm-import.json"] | fromjson.title)' \
	--set grafanaDashboard.enabled=true
says "spread, nobody else disturbed" '0 1' 'select(.kind == "Deployment").spec.strategy.rollingUpdate | .maxSurge, .maxUnavailable' --set replicaCount=2
says "priority" high "$pod.priorityClassName" --set priorityClassName=high
says "group of the scratch volume" 65532 "$pod.securityContext.fsGroup"
says "egress" '[{"ports":[{"port":443}]}]' 'select(.kind == "NetworkPolicy").spec.egress' --set-json 'networkPolicy={"enabled":true,"egress":[{"ports":[{"port":443}]}]}'
says "address" harvester-vm-import-controller.harvester-system.svc "$container.env[] | select(.name == \"SVC_ADDRESS\").value"
says "address, set" 192.0.2.1 "$container.env[] | select(.name == \"SVC_ADDRESS\").value" --set service.address=192.0.2.1
says "log" 'true json' "$container.env[] | select(.name == \"DEBUG\" or .name == \"LOG_FORMAT\").value" --set log.debug=true,log.format=json
says "no probes" 0 "$container | [keys[] | select(endswith(\"Probe\"))] | length" --set probes.enabled=false
says "probes" '/healthz /healthz /readyz' "$container | .startupProbe, .livenessProbe, .readinessProbe | .httpGet.path"
says "root, as users of Harvester's chart may ask for" '0 false' "$container.securityContext | .runAsUser, .runAsNonRoot" --set securityContext.runAsUser=0
says "account that is there" 'mine mine mine' 'if .kind == "ClusterRoleBinding" or .kind == "RoleBinding" then .subjects[].name else '"$pod"'.serviceAccountName end' \
	--set serviceAccount.create=false,serviceAccount.name=mine
says "no role" 'ServiceAccount Service Deployment' .kind --set rbac.create=false
says "names" other 'select(.kind == "Deployment").metadata.name' --set fullnameOverride=other
says "spread over the pod's own labels" $release "$pod.topologySpreadConstraints[0].labelSelector.matchLabels[\"app.kubernetes.io/name\"]" \
	--set 'topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].whenUnsatisfiable=DoNotSchedule'
says "the label that Harvester looks for" $release 'select(.kind == "Deployment").spec.template.metadata.labels["app.kubernetes.io/name"]'
# Nothing is allowed by "*".
[ "$(objects | jq -c 'select(.kind == "ClusterRole" or .kind == "Role") | .rules[] | select([.verbs, .resources, .apiGroups] | flatten | index("*"))')" = "" ] || fail "a rule allows everything"
note "the templates say what they should"

# Each value of Harvester's chart is one of ours.
for value in replicaCount image.repository image.pullPolicy image.tag imagePullSecrets nameOverride fullnameOverride serviceAccount.create \
	serviceAccount.annotations serviceAccount.name podAnnotations podSecurityContext securityContext nodeSelector tolerations affinity \
	resources.requests.cpu resources.limits.memory pvcClaim.enabled pvcClaim.size pvcClaim.storageClassName; do
	grep -q "^| \`$value\` " "$chart/README.md" || fail "there is no value $value"
done

# --- a real API server accepts them --------------------------------------------------------------------------------------

cat >"$WORK/harvester.yaml" <<'END'
# What the values of Harvester's chart are
replicaCount: 1
image: {repository: rancher/harvester-vm-import-controller, pullPolicy: Always, tag: main-head}
imagePullSecrets: []
nameOverride: ""
fullnameOverride: ""
serviceAccount: {create: true, annotations: {}, name: ""}
podAnnotations: {}
podSecurityContext: {}
securityContext: {runAsUser: 0}
nodeSelector: {}
tolerations: []
affinity:
  nodeAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - {weight: 1, preference: {matchExpressions: [{key: node-role.kubernetes.io/control-plane, operator: DoesNotExist}]}}
resources: {requests: {cpu: "0.5", memory: 2Gi}, limits: {cpu: "2", memory: 4Gi}}
pvcClaim: {enabled: true, size: 200Gi, storageClassName: longhorn}
END
accepted=0
accepts() { # accepts HELM-OPTION...
	render "$@" | kubectl apply --dry-run=server -f - >"$WORK/applied" 2>&1 || fail "the API server refuses what $* makes: $(cat "$WORK/applied")"
	! grep -i warning "$WORK/applied" || fail "the API server warns of what $* makes"
	accepted=$((accepted + 1))
}
accepts
accepts --values "$WORK/harvester.yaml"
accepts --set pvcClaim.enabled=true,pvcClaim.storageClassName=longhorn
accepts --set pvcClaim.enabled=true,pvcClaim.storageClassName=-,pvcClaim.size=1.5Ti
accepts --set replicaCount=3,pvcClaim.enabled=true,pvcClaim.accessModes={ReadWriteMany},podDisruptionBudget.enabled=true
accepts --set podDisruptionBudget.enabled=true,podDisruptionBudget.maxUnavailable=50%
accepts --set networkPolicy.enabled=true
accepts --set-json 'networkPolicy={"enabled":true,"ingressFrom":[{"namespaceSelector":{"matchLabels":{"a":"b"}}}],"egress":[{"ports":[{"port":443}],"to":[{"ipBlock":{"cidr":"192.0.2.0/24"}}]}]}'
accepts --set serviceMonitor.enabled=true,serviceMonitor.interval=1m30s,serviceMonitor.labels.release=monitoring
accepts --set priorityClassName=system-cluster-critical,terminationGracePeriodSeconds=120,scratchSizeLimit=100Gi
accepts --set-json 'topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"kubernetes.io/hostname","whenUnsatisfiable":"ScheduleAnyway"}]'
accepts --set-json 'tolerations=[{"key":"a","operator":"Exists"}]' --set-string nodeSelector.disk=ssd --set-json 'affinity=null'
accepts --set-json 'extraEnv=[{"name":"A","value":"b"}]' --set podAnnotations.a=b,podLabels.c=d,log.debug=true,log.format=json
accepts --set serviceAccount.create=false,serviceAccount.name=mine,rbac.create=false,probes.enabled=false
accepts --set nameOverride=a,fullnameOverride=b,service.name=c,service.annotations.d=e,service.address=192.0.2.1
accepts --set tls.enabled=true,tls.secretName=image-server,serviceMonitor.enabled=true
accepts --set prometheusRule.enabled=true,prometheusRule.labels.release=monitoring,grafanaDashboard.enabled=true,grafanaDashboard.annotations.folder=VMs
accepts --set-json 'resources={}' --set-json 'podSecurityContext=null' --set-json 'securityContext=null'
kubectl apply --dry-run=server -f "$SOURCE_DIR/deploy/manifests.yaml" >/dev/null
note "the API server accepts $accepted combinations of values, and deploy/manifests.yaml"

refuses() { # refuses WORD HELM-OPTION...: and the message names the value
	local word=$1
	shift
	! render "$@" >"$WORK/refused" 2>&1 || fail "no complaint about $*"
	assert_contains "complaint about $*" "$(tr -d ' \n' <"$WORK/refused")" "$word"
}
refuses replicaCount --set replicaCount=-1
refuses pullPolicy --set image.pullPolicy=Sometimes
refuses pvcClaim --set pvcClaim.enabled=true,pvcClaim.size=200GB
refuses storageclass --set pvcClaim.storageclass=fast
refuses streams --set controller.streams=-1
refuses format --set log.format=xml
refuses pvcclaim --set pvcclaim.enabled=true
refuses maxUnavailable --set-json 'podDisruptionBudget.maxUnavailable=[]'
refuses egress --set networkPolicy.egress=all
refuses secretName --set tls.enabled=true
note "wrong values are refused by name"

# --- what is shown and what is alarmed about -----------------------------------------------------------------------------

mkdir "$WORK/rules"
cp "$chart/rules/alerts.yaml" "$SOURCE_DIR/test/integration/alerts/alerts_test.yaml" "$WORK/rules/"
(cd "$WORK/rules" && "$promtool" check rules --lint=all --lint-fatal alerts.yaml && "$promtool" test rules alerts_test.yaml) >"$WORK/promtool" 2>&1 ||
	fail "promtool: $(cat "$WORK/promtool")"
for alert in $(sed -n 's/^  - alert: //p' "$chart/rules/alerts.yaml"); do
	[ "$(grep -c "alertname: $alert" "$SOURCE_DIR/test/integration/alerts/alerts_test.yaml")" -ge 2 ] || fail "no test has $alert come and not come"
done
python3 - "$chart/dashboards/vm-import.json" >"$WORK/rules/dashboard.yaml" <<'END'
import json, sys
board = json.load(open(sys.argv[1]))
panels = board['panels']
assert len({p['id'] for p in panels}) == len(panels)
taken = set()
for p in panels:
    at = p['gridPos']
    cells = {(x, y) for x in range(at['x'], at['x'] + at['w']) for y in range(at['y'], at['y'] + at['h'])}
    assert at['x'] + at['w'] <= 24 and not cells & taken, p['title']
    taken |= cells
titles = ' '.join(p['title'] for p in panels).lower()
for wanted in 'imports by state', 'throughput', 'failures by reason', 'queue depth', 'scratch':
    assert wanted in titles, wanted
print(json.dumps({'groups': [{'name': p['title'], 'rules': [
    {'record': f"panel:{p['id']}:{t['refId']}", 'expr': t['expr'].replace('$__rate_interval', '5m').replace('$job', '.+').replace('$namespace', '.+')}
    for t in p['targets']]} for p in panels]}))
END
"$promtool" check rules "$WORK/rules/dashboard.yaml" >"$WORK/promtool" 2>&1 || fail "queries of the dashboard: $(cat "$WORK/promtool")"
note "promtool takes the alerts and their tests, and the dashboard's queries"

# The restricted Pod Security profile, enforced: the pod passes, and one of root does not.
kubectl create namespace restricted >/dev/null
kubectl label namespace restricted pod-security.kubernetes.io/enforce=restricted >/dev/null
wait_for 20 kubectl get serviceaccount default -n restricted
a_pod() {
	objects "$@" | jq -c "select(.kind == \"Deployment\").spec.template | .apiVersion = \"v1\" | .kind = \"Pod\" | .metadata.name = \"one\" |
		.metadata.namespace = \"restricted\" | .spec.serviceAccountName = \"default\"" |
		kubectl apply --dry-run=server -f - 2>&1
}
a_pod >/dev/null
a_pod --set pvcClaim.enabled=true >/dev/null
refusal=$(a_pod --set securityContext.runAsUser=0 || true)
assert_contains "root under the restricted profile" "$refusal" 'violates PodSecurity "restricted:latest"'
note "the pod passes the restricted Pod Security profile"

# --- a release's life ----------------------------------------------------------------------------------------------------

# Objects as Harvester's chart makes them: names, labels, selectors, a role of many rights, a rolling update.
old=$WORK/old
mkdir -p "$old/templates"
printf 'apiVersion: v2\nname: %s\nversion: 1.5.2\nappVersion: v1.5.2\n' $release >"$old/Chart.yaml"
cat >"$old/templates/all.yaml" <<'END'
{{- $labels := dict "app.kubernetes.io/name" .Chart.Name "app.kubernetes.io/instance" .Release.Name }}
{kind: ServiceAccount, apiVersion: v1, metadata: {name: {{ .Release.Name }}}}
---
{kind: ClusterRole, apiVersion: rbac.authorization.k8s.io/v1, metadata: {name: {{ .Release.Name }}-role}, rules: [{apiGroups: [migration.harvesterhci.io], resources: ["*"], verbs: ["*"]}]}
---
{kind: ClusterRoleBinding, apiVersion: rbac.authorization.k8s.io/v1, metadata: {name: {{ .Release.Name }}-role},
 roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ .Release.Name }}-role},
 subjects: [{kind: ServiceAccount, name: {{ .Release.Name }}, namespace: {{ .Release.Namespace }}}]}
---
{kind: Service, apiVersion: v1, metadata: {name: harvester-vm-import-controller}, spec: {selector: {{ toJson $labels }}, ports: [{protocol: TCP, port: 8080, targetPort: 8080}]}}
---
{kind: PersistentVolumeClaim, apiVersion: v1, metadata: {name: {{ .Release.Name }}}, spec: {accessModes: [ReadWriteOnce], volumeMode: Filesystem, resources: {requests: {storage: 200Gi}}}}
---
{kind: Deployment, apiVersion: apps/v1, metadata: {name: {{ .Release.Name }}},
 spec: {replicas: 1, selector: {matchLabels: {{ toJson $labels }}}, template: {metadata: {labels: {{ toJson $labels }}},
  spec: {serviceAccountName: {{ .Release.Name }}, securityContext: {}, containers: [{name: harvester-vm-import-controller, image: "rancher/harvester-vm-import-controller:main-head",
   securityContext: {runAsUser: 0}, resources: {limits: {cpu: "2", memory: 4Gi}}, volumeMounts: [{name: storage, mountPath: /tmp}]}],
   volumes: [{name: storage, persistentVolumeClaim: {claimName: {{ .Release.Name }}}}]}}}}
END
helm_do() { "$HELM" "$@" --namespace harvester-system; }
deployed() { kubectl get deployment -n harvester-system $release -o "jsonpath=$1"; }
helm_do install $release "$old" >/dev/null
volume=$(kubectl get pvc -n harvester-system $release -o 'jsonpath={.metadata.uid}')
helm_do upgrade $release "$chart" --set pvcClaim.enabled=true >"$WORK/notes"
assert_contains "notes" "$(cat "$WORK/notes")" "helm uninstall leaves the CustomResourceDefinitions"
assert_eq "strategy" "$(deployed '{.spec.strategy}')" '{"type":"Recreate"}'
assert_eq "image" "$(deployed '{.spec.template.spec.containers[*].image}')" "vm-import-controller:$version"
assert_eq "the scratch claim is the same" "$(kubectl get pvc -n harvester-system $release -o 'jsonpath={.metadata.uid}')" "$volume"
note "a release of Harvester's layout is upgraded"
helm_do upgrade $release "$chart" --reuse-values --set controller.streams=2 >/dev/null
assert_contains "arguments" "$(deployed '{.spec.template.spec.containers[0].args}')" --streams=2

# Of our own version before this one.
helm_do install before "$(dirname "$0")/harvester-vm-import-controller-0.1.0.tgz" --set fullnameOverride=before,service.name=before,pvcClaim.enabled=true >/dev/null
volume=$(kubectl get pvc -n harvester-system before -o 'jsonpath={.metadata.uid}')
helm_do upgrade before "$chart" --reset-then-reuse-values >/dev/null
assert_eq "chart" "$(kubectl get deployment -n harvester-system before -o 'jsonpath={.metadata.labels.helm\.sh/chart}')" "$release-$version"
assert_eq "the scratch claim is the same" "$(kubectl get pvc -n harvester-system before -o 'jsonpath={.metadata.uid}')" "$volume"
helm_do rollback before 1 >/dev/null
helm_do uninstall before >/dev/null
note "a release of version 0.1.0 is upgraded, and taken back"

kubectl apply -f "$SOURCE_DIR/crds/" >/dev/null
kubectl wait --for=condition=Established --timeout=180s -f "$SOURCE_DIR/crds/" >/dev/null
import_manifest default kept kept-vm | kubectl apply -f - >/dev/null
helm_do uninstall $release --wait >/dev/null
assert_eq "what uninstall leaves of the release" "$(kubectl get deployment,service,clusterrole,role,rolebinding,serviceaccount -A -o name -l app.kubernetes.io/instance=$release)" ''
kubectl get -f "$SOURCE_DIR/crds/" >/dev/null
assert_eq "the user's import" "$(import_field default kept '{.spec.virtualMachineName}')" kept-vm
note "helm uninstall leaves the definitions and the user's objects"
