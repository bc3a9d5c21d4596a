#!/usr/bin/env bash
# A streamOptimized VMDK from a local HTTP server into a raw file: `curl | vm-import-controller convert` against `curl -o` and qemu-img.
#   VIC=PROGRAM      what to measure (default: the release build)
#   BENCH_GIB=8      size of the disk, of which about half holds files of this machine
#   BENCH_RUNS=1     the fastest run of each counts
# The disk is made once. Fails when the content is wrong, not when it is slow.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
vic=${VIC:-$here/build/release/controller/vm-import-controller}
gib=${BENCH_GIB:-8}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/bench
raw=$cache/disk-$gib.raw vmdk=$cache/disk-$gib.vmdk

[ -x "$vic" ] || { echo "convert.sh: build $vic first, or name another in VIC" >&2; exit 2; }
for tool in curl qemu-img python3 tar; do
	command -v $tool >/dev/null || { echo "convert.sh: $tool is missing" >&2; exit 77; }
done

mkdir -p "$cache"
work=$(mktemp -d "$cache/run.XXXXXX")
server=
trap '[ -z "$server" ] || kill $server; rm -rf "$work"' EXIT

if [ ! -e "$raw" ]; then
	echo "making a disk of $gib GiB, half of it files of /usr" >&2
	cat >"$work/fill.py" <<'PYTHON'
import random, subprocess, sys
path, size = sys.argv[1], int(sys.argv[2]) << 30
order, files = random.Random(1), None
with open(path, "wb") as out:
    at = 0
    while at < size:  # runs of files and holes, both of 4 KiB to 16 MiB
        left = min(int(4096 * 2 ** order.uniform(0, 12)) & -4096, size - at)
        out.seek(at)
        at += left
        while left:
            if not files:
                files = subprocess.Popen(["tar", "-c", "--sort=name", "--ignore-failed-read", "-C", "/", "usr"],
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
            got = files.read(left)
            left -= out.write(got)
            if not got:
                files = None
        at += int(4096 * 2 ** order.uniform(0, 12)) & -4096
    out.truncate(size)
PYTHON
	python3 "$work/fill.py" "$work/disk.raw" "$gib"
	mv "$work/disk.raw" "$raw"
fi
if [ ! -e "$vmdk" ]; then
	qemu-img convert -f raw -O vmdk -o subformat=streamOptimized "$raw" "$work/disk.vmdk"
	mv "$work/disk.vmdk" "$vmdk"
fi

# A server that costs little: what serves in earnest runs on another machine.
cat >"$work/serve.py" <<'PYTHON'
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def copyfile(self, source, outputfile):
        self.connection.sendfile(source)
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), lambda *args: Handler(*args, directory=sys.argv[1]))
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
exec 3< <(exec python3 "$work/serve.py" "$cache")
server=$!
read -r port <&3
url=http://127.0.0.1:$port/${vmdk##*/}

now() { date +%s%N; }
allocated() { echo $(($(stat -c '%b * %B' "$1"))); }
calm() { sync; cat "$vmdk" >/dev/null; } # nothing left to write, the source in memory for both

peer=0 ours=0 rss=0 data=0
for ((run = 0; run < ${BENCH_RUNS:-1}; run++)); do
	rm -f "$work"/*.raw "$work"/*.vmdk
	calm
	start=$(now)
	curl -sf -o "$work/peer.vmdk" "$url"
	qemu-img convert -f vmdk -O raw "$work/peer.vmdk" "$work/peer.raw"
	took=$((($(now) - start) / 1000))
	((peer == 0 || took < peer)) && peer=$took

	rm -f "$work"/*.raw "$work"/*.vmdk
	calm
	start=$(now)
	curl -sf "$url" | "$vic" convert --quiet - "$work/ours.raw" >"$work/said" &
	pid=$!
	(
		while sed -n 's/^VmHWM:[^0-9]*\([0-9]*\).*/\1/p' /proc/$pid/status 2>/dev/null; do sleep 0.1; done >"$work/rss"
	) &
	watcher=$!
	wait $pid
	took=$((($(now) - start) / 1000))
	((ours == 0 || took < ours)) && ours=$took
	wait $watcher || :
	peak=$(sort -n "$work/rss" | tail -1)
	((${peak:-0} > rss)) && rss=$peak
	data=$(allocated "$work/ours.raw")
done

qemu-img compare -q -f raw -F raw "$raw" "$work/ours.raw" || { echo "convert.sh: the disk is not the same" >&2; exit 1; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f\n", a / b }'; }
echo "ratio convert_vs_curl_qemuimg $(ratio $peer $ours)"
echo "value peak_rss $rss KiB"
echo "ratio scratch_bytes_vs_allocated $(ratio "$data" "$(allocated "$raw")")"
echo "value ours_seconds $(ratio $ours 1000000)"
echo "value peer_seconds $(ratio $peer 1000000)"
