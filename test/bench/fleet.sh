#!/usr/bin/env bash
# Many imports at once from a vCenter of 2,000 machines: 40 imports over 4 hosts, each stream at 30 MB/s. How near the sum of what the hosts
# give does the rate stay, what does it take of memory, sessions and calls.
#   VIC=PROGRAM              what to measure (default: the release build)
#   BENCH_STREAMS_PER_HOST=1 limit of streams a host; the sum of the hosts' limits is four times that times 30 MB/s
#   BENCH_MIB=256            size of each disk, 70 % of it filled
set -euo pipefail

. "$(dirname "$0")/vsphere.sh"
per_host=${BENCH_STREAMS_PER_HOST:-1} mib=${BENCH_MIB:-256} imports=40 machines=2000 throttle=30

vsphere_up < <(jq -n --argjson imports $imports --argjson machines $machines --argjson throttle $throttle --argjson mib "$mib" '
	{user: "bench", password: "bench", lease: {initSeconds: 0.5, timeoutSeconds: 300}, nfc: {streamMBps: $throttle, maxStreams: 52},
	 datacenters: [{name: "DC1", hosts: [range(4) | {name: "esx\(.).test", address: "127.0.0.\(21 + .):0"}],
	 vms: ([range($imports) | {name: "import-\(.)", host: "esx\(. % 4).test", disks: [{capacityMB: $mib, fill: {seed: 70, percent: 70}}]}]
		+ [range($machines - $imports) | {name: "other-\(.)", host: "esx\(. % 4).test"}])}]}')
eval "manifests import-{0..$((imports - 1))}" >"$work/manifests.yaml"
# One alone, so that the peer has compressed the content, which is the same for all.
"$vic" import -q --vm import-0 -f "$work/manifests.yaml" -o "$work/first" >/dev/null
rm -rf "$work/first"

"$vic" import -q -f "$work/manifests.yaml" -o "$work/out" --streams $((4 * per_host)) --streams-per-host "$per_host" >"$work/printed" &
pid=$!
python3 - "$VSPHERE_ADMIN_URL/state" $pid $((4 * per_host * throttle)) <<'END'
import json, os, sys, time, urllib.request
url, pid, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
samples, sessions, streams, memory, state = [], 0, 0, 0, None
def running():
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
while running():
    state = json.load(urllib.request.urlopen(url))
    samples.append((time.monotonic(), state["bytesServed"]))
    sessions = max(sessions, len(state["openSessions"]))
    streams = max(streams, sum(h["Streams"] for h in state["hosts"].values()))
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmHWM"):
            memory = int(line.split()[1])
    time.sleep(0.5)
last = json.load(urllib.request.urlopen(url))
begin, total = samples[0][1], last["bytesServed"] - samples[0][1]
low = next(s for s in samples if s[1] - begin >= 0.05 * total)
high = [s for s in samples if s[1] - begin <= 0.90 * total][-1]
rate = (high[1] - low[1]) / (high[0] - low[0]) / 1e6
print(f"value sustained_rate {rate:.1f} MB/s")
print(f"value sum_of_host_limits {limit:.0f} MB/s")
print(f"ratio rate_vs_limits {rate / limit:.3f}")
print(f"value bytes {total} bytes")
print(f"value seconds {samples[-1][0] - samples[0][0]:.1f} s")
print(f"value peak_rss {memory} KiB")
print(f"value sessions_at_most {sessions}")
print(f"value streams_at_most {streams}")
print("value high_water_a_host " + " ".join(str(h["HighWater"]) for n, h in sorted(last["hosts"].items()) if n != "endpoint"))
open(os.environ["VSPHERE_STATE"] + "/calls", "w").write(json.dumps(last["calls"]))
END
wait $pid
[ "$(grep -c '/disk-0.raw ' "$work/printed")" = $imports ] || { echo "$bench: not all imports are done" >&2; exit 1; }
raw=$(curl -fsS "$VSPHERE_ADMIN_URL/state" | jq -r '.vms[] | select(.Path == "/DC1/vm/import-0") | .Disks[0].Source')
for i in 0 13 $((imports - 1)); do cmp "$raw" "$work/out/import-$i/disk-0.raw"; done
jq -r --argjson n $imports '"value soap_calls_an_import " + (([.[]] | add) / $n * 10 | round / 10 | tostring) + " (" + ([to_entries[] | "\(.key) \(.value / $n * 100 | round / 100)"] | join(", ")) + ")"' "$VSPHERE_STATE/calls"
curl -fsS "$VSPHERE_ADMIN_URL/state" | jq -r '"value left_at_the_source \(.openLeases | length) leases, \(.openSessions | length) sessions"'
