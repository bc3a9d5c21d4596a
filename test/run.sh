#!/bin/bash
# Builds and tests.
#   test/run.sh [all]           what CI runs: lint, unit tests (plain and under sanitizers), scenarios on real peers, fuzz targets
#   test/run.sh unit            unit tests only; needs no peers and no root
#   test/run.sh integration     scenarios only (test/integration); root
#   test/run.sh ... -k REGEX    only tests whose name matches; no lint, no fuzzing
# Missing Debian packages are installed, peers are built once into ~/.cache/vm-import-controller. The last line counts the results; the
# exit status is 0 when nothing failed. With CI=true a skipped test has failed.
set -uo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.." || exit 1
exec </dev/null

mode=all filter=''
usage() { sed -n '2,8s/^# \?//p' test/run.sh; }
while [ $# -gt 0 ]; do
	case $1 in
	all | unit | integration) mode=$1 ;;
	-k) [ $# -gt 1 ] || { usage >&2; exit 2; }; filter=$2; shift ;;
	-h | --help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift
done

passed=0 failed=0 skipped=0 complaints=()
results=build/results
mkdir -p $results
rm -f $results/*

step() { printf '\n== [%4d s] %s\n' $SECONDS "$*"; }
count() { # count NAME STATUS
	case $2 in
	0) passed=$((passed + 1)) ;;
	77) skipped=$((skipped + 1)); complaints+=("skipped: $1") ;;
	*) failed=$((failed + 1)); complaints+=("failed: $1") ;;
	esac
}
end() {
	step "Results"
	if [ $((passed + failed + skipped)) = 0 ]; then
		failed=1
		complaints+=("failed: no test has a name that matches $filter")
	fi
	[ ${#complaints[@]} = 0 ] || printf '%s\n' "${complaints[@]}"
	printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
	[ $failed = 0 ] || exit 1
	if [ "${CI:-}" = true ] && [ $skipped != 0 ]; then exit 1; fi
	exit 0
}
trap 'failed=$((failed + 1)); complaints+=("failed: interrupted"); end' INT TERM

wants() { [ "$mode" = all ] || [ "$mode" = "$1" ]; }

build() { # build PRESET [TARGET...]
	local preset=$1 arguments=() target
	shift
	for target in "$@"; do arguments+=(--target "$target"); done
	if ! cmake --preset "$preset" >"$results/cmake-$preset.log" 2>&1; then
		tail -n 40 "$results/cmake-$preset.log"
		return 1
	fi
	cmake --build "build/$preset" -j "$(nproc)" "${arguments[@]}" >"$results/build-$preset.log" 2>&1 ||
		{ grep -vE '^\[[0-9]+/[0-9]+\]' "$results/build-$preset.log" | tail -n 80; return 1; }
}

# tests NAME PRESET LABEL [CTEST-ARGUMENT...]: runs them and counts each
tests() {
	local name=$1 preset=$2 label=$3 line
	shift 3
	step "$name"
	[ -z "$filter" ] || set -- "$@" -R "$filter"
	"${personality[@]}" ctest --test-dir "build/$preset" -L "^$label\$" --output-on-failure --no-tests=ignore --output-junit "$PWD/$results/$preset-$label.xml" "$@"
	python3 - "$results/$preset-$label.xml" >"$results/list" <<-'END' || count "$name: no results" 1
	import sys, xml.etree.ElementTree as tree
	for case in tree.parse(sys.argv[1]).getroot().iter("testcase"):
	    skip = case.find("skipped")
	    skipped = skip is not None and skip.get("message", "").startswith("SKIP_")
	    print(77 if skipped else 0 if case.get("status") == "run" else 1, case.get("name"))
	END
	while read -r line; do count "${line#* } ($preset)" "${line%% *}"; done <"$results/list"
}
personality=()
asan=0

step "Packages"
packages=(build test)
! wants integration || packages+=(peers)
deploy/packages.sh "${packages[@]}" || { count "installation of packages" 1; end; }

step "Build (dev)"
build dev || { count "build (dev)" 1; end; }

if [ "$mode" = all ] && [ -z "$filter" ]; then
	step "Build (clang)"
	build clang
	count "build (clang)" $?
	step "clang-format"
	.ci/lint format
	count "clang-format" $?
	step "clang-tidy"
	.ci/lint tidy build/dev
	count "clang-tidy" $?
fi

if wants unit; then
	tests "Unit tests" dev unit -j "$(nproc)"
	step "Build (asan)"
	if build asan; then
		asan=1
		tests "Unit tests under the address and undefined behaviour sanitizers" asan unit -j "$(nproc)"
	else
		count "build (asan)" 1
	fi
	# Where threads meet. The thread sanitizer of gcc 12 cannot cope with much randomness in the address space.
	step "Build (tsan)"
	if build tsan; then
		! setarch -R true 2>/dev/null || personality=(setarch -R)
		TSAN_OPTIONS="suppressions=$PWD/test/tsan.supp:halt_on_error=1" \
			tests "Unit tests under the thread sanitizer" tsan unit -j "$(nproc)"
		personality=()
	else
		count "build (tsan)" 1
	fi
fi

if wants integration; then
	step "Peers (the Kubernetes peer takes some 10 minutes, once)"
	if settings=$(test/peers/go.sh) && eval "$settings" && test/peers/vsphere/build.sh && test/peers/govc/build.sh >/dev/null && test/peers/kube/build.sh; then
		:
	else
		count "build of the peers" 1
	fi
	if [ "$(id -u)" = 0 ]; then # packages of an OpenStack, unpacked and not installed
		B=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/openstack test/peers/openstack/up.sh fetch >"$results/openstack.log" 2>&1 ||
			{ tail -n 5 "$results/openstack.log"; count "OpenStack's packages" 1; }
	fi
	# With the sanitizers: a daemon that leaks ends with an error, and that fails the scenario.
	if [ $asan = 1 ] || build asan; then
		# They wait for most of their time; each takes up to 2 GB with its peers.
		jobs=$(awk -v most=$((2 * $(nproc))) '/^MemAvailable:/ { n = int($2 / 2e6); print n < 1 ? 1 : n < most ? n : most }' /proc/meminfo)
		tests "Scenarios on real peers, under the address and undefined behaviour sanitizers" asan integration -j "$jobs"
	else
		count "build (asan)" 1
	fi
fi

if [ "$mode" = all ] && [ -z "$filter" ]; then
	mapfile -t targets < <(basename -s .c test/fuzz/fuzz_*.c)
	step "Fuzz targets: 60 s each that reads disks and packages, 15 s the others"
	if build fuzz "${targets[@]}"; then
		fuzz() { # fuzz TARGET: the seeds, and what it thinks of in the time
			local found=build/fuzz/corpus/$1 status=0 seconds=15
			case $1 in *_vmdk_* | *_qcow2 | *_pipeline | *_nbd_server | *_ova | *_ovf) seconds=60 ;; esac
			mkdir -p "$found" build/fuzz/crash
			"build/fuzz/test/fuzz/$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
				-artifact_prefix="build/fuzz/crash/$1-" "$found" "test/fuzz/corpus/${1#fuzz_}" >"build/results/$1.log" 2>&1 || status=$?
			[ $status = 0 ] || tail -n 60 "build/results/$1.log"
			echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "build/results/$1.log") runs"
			echo $status >"build/results/$1.status"
		}
		export -f fuzz
		printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c "fuzz {}"
		for target in "${targets[@]}"; do count "$target" "$(cat "$results/$target.status" 2>/dev/null || echo 1)"; done
	else
		count "build (fuzz)" 1
	fi
fi
end
