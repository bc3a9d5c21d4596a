#!/bin/bash
# What is made from the chart: deploy/manifests.yaml, the version in deploy/addon.yaml, and the values in deploy/chart/README.md.
#   deploy/chart.sh generate    makes them anew
#   deploy/chart.sh check       fails when they are not what the chart makes now
# Needs helm (HELM names it; otherwise of PATH, or built by test/peers/helm) and python3.
set -euo pipefail
cd "$(dirname "$0")"
helm=${HELM:-$(command -v helm || ../test/peers/helm/build.sh)}
[ ! -d "$helm" ] || helm=$helm/helm

manifests() {
	cat <<-'END'
	# Made from deploy/chart by deploy/chart.sh generate: the chart's defaults, for clusters without Helm. Do not edit.
	#   kubectl create namespace harvester-system; kubectl apply -f deploy/manifests.yaml
	# Set the image to where yours is, and give the scratch space a volume for anything large (deploy/chart/README.md, pvcClaim).
	END
	"$helm" template harvester-vm-import-controller chart --namespace harvester-system |
		grep -v -e '^# Source: ' -e '^    app.kubernetes.io/managed-by: Helm$' -e '^    helm.sh/chart: '
}

addon() { sed "s/^  version: .*/  version: $(sed -n 's/^version: //p' chart/Chart.yaml | sed 's/.*/"&"/')/" addon.yaml; }

# Values with a "# -- " comment, and what is below a value without one is part of its default.
values() {
	python3 - chart/values.yaml <<-'END'
	import re, sys
	path, text, rows, inner = [], None, [], None
	for line in open(sys.argv[1]):
	    if inner is not None and (not line.strip() or len(line) - len(line.lstrip()) > inner or line.lstrip().startswith("- ")):
	        continue
	    inner = None
	    if m := re.match(r"\s*# -- (.*)", line):
	        text = m[1]
	    elif m := re.match(r"( *)([A-Za-z]+):\s*(.*?)\s*$", line):
	        depth = len(m[1]) // 2
	        path[depth:] = [m[2]]
	        if text is None:
	            if m[3]:
	                sys.exit(f"values.yaml: {'.'.join(path)} has no description")
	            continue
	        if not m[3]:
	            inner = len(m[1])
	        rows.append((".".join(path), f"`{m[3]}`" if m[3] else "see `values.yaml`", text.replace("|", "\\|")))
	        text = None
	print("| value | default | |\n|---|---|---|")
	for row in rows:
	    print("| `%s` | %s | %s |" % row)
	END
}
readme() {
	awk 'FNR == NR { table = table $0 "\n"; next }
		/^<!-- values:/ { print; printf "%s", table; inside = 1 }
		/^<!-- end of values/ { inside = 0 }
		!inside && !/^<!-- values:/' <(values) chart/README.md
}

case ${1:-} in
generate)
	manifests >manifests.yaml.new
	mv manifests.yaml.new manifests.yaml
	addon >addon.yaml.new
	mv addon.yaml.new addon.yaml
	readme >README.new
	mv README.new chart/README.md
	;;
check)
	diff -u manifests.yaml <(manifests) && diff -u addon.yaml <(addon) && diff -u chart/README.md <(readme) || { echo "chart.sh: deploy/chart.sh generate brings them up to date" >&2; exit 1; }
	;;
*) sed -n '2,5s/^# \?//p' "$0" >&2; exit 2 ;;
esac
