#!/usr/bin/env bash
# How fast a disk image becomes a raw file: ours against qemu-img (with the best of its flags), nbdcopy from qemu-nbd, and the floor, which
# is copying the disk's allocated bytes to the same file system. Each run ends when the storage has the file (fdatasync). What the storage
# itself allows is told by dd, which writes as many zeros past the page cache ("storage").
#   VIC=PROGRAM      what to measure (default: the release build)
#   BENCH_GIB=8      size of the disk of real files, of which about half holds files of this machine
#   BENCH_RUNS=2     the fastest run of each counts; the tools take turns
#   BENCH_DISKS="real sparse random"   which disks;   BENCH_FORMATS="stream sparse flat"   as which VMDKs
#   BENCH_HTTP=1     also `curl | convert -` against `curl -o` and qemu-img, for the disk of real files
# The disks are made once. Fails when the content is wrong, not when it is slow. "waiting" is what the processors had nothing to do.
set -euo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
vic=${VIC:-$here/build/release/controller/vm-import-controller}
export BENCH_GIB=${BENCH_GIB:-8}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vm-import-controller/bench

[ -x "$vic" ] || { echo "convert.sh: build $vic first, or name another in VIC" >&2; exit 2; }
for tool in curl qemu-img qemu-nbd nbdcopy python3 tar; do
	command -v $tool >/dev/null || { echo "convert.sh: $tool is missing" >&2; exit 77; }
done
mkdir -p "$cache"
work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
cat >"$work/bench.py" <<'PYTHON'
import http.server, os, random, subprocess, sys, threading, time

vic, cache, work = sys.argv[1:]
runs, gib = int(os.environ.get('BENCH_RUNS', 2)), int(os.environ['BENCH_GIB'])
processors = len(os.sched_getaffinity(0))

# --- the disks -----------------------------------------------------------------------------------------------------------

def files_of_usr():
    while True:
        tar = subprocess.Popen(['tar', '-c', '--sort=name', '--ignore-failed-read', '-C', '/', 'usr'], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
        while part := tar.stdout.read(1 << 16):
            yield part

def fill(path, size, hole):
    """Runs of files of 4 KiB to 16 MiB, and holes that are `hole` times as long."""
    order, files, buffer = random.Random(1), files_of_usr(), b''
    with open(path, 'wb') as out:
        at = 0
        while at < size:
            left = min(int(4096 * 2 ** order.uniform(0, 12)) & -4096, size - at)
            out.seek(at)
            at += left
            while left:
                buffer = buffer or next(files)
                part, buffer = buffer[:left], buffer[left:]
                left -= out.write(part)
            at += int(4096 * 2 ** order.uniform(0, 12)) * hole & -4096
        out.truncate(size)

def fill_random(path, size):
    with open(path, 'wb') as out:
        for _ in range(size >> 22):
            out.write(os.urandom(1 << 22))

disks = {
    'real': (gib, lambda path: fill(path, gib << 30, 1)),
    'sparse': (20, lambda path: fill(path, 20 << 30, 30)),
    'random': (4, lambda path: fill_random(path, 4 << 30)),
}
formats = {'stream': 'streamOptimized', 'sparse': 'monolithicSparse', 'flat': 'monolithicFlat'}

def made(path, make):
    if not os.path.exists(path):
        print('making ' + path, file=sys.stderr)
        make(path)
    return path

def raw_of(disk):
    size, make = disks[disk]
    name = f'disk-{gib}.raw' if disk == 'real' else f'disk-{disk}-{size}.raw'
    def whole(path):
        make(path + '.new')
        os.rename(path + '.new', path)
    return made(f'{cache}/{name}', whole)

def vmdk_of(raw, fmt):
    path = raw[:-4] + ('.vmdk' if fmt == 'stream' else f'-{fmt}.vmdk')
    return made(path, lambda path: subprocess.check_call(['qemu-img', 'convert', '-f', 'raw', '-O', 'vmdk', '-o', 'subformat=' + formats[fmt],
                                                          raw, path]))

# --- the measurements ----------------------------------------------------------------------------------------------------

def busy():
    with open('/proc/stat') as f:
        user, nice, system, idle, wait, irq, soft = map(int, f.readline().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf('SC_CLK_TCK')

def peak_of(pid, end):
    """The most memory of a process in KiB, looked at until it ends: what wait4 says of a child includes what the parent had."""
    peak = 0
    while not end.wait(0.02):
        try:
            with open(f'/proc/{pid}/status') as f:
                peak = max([peak] + [int(line.split()[1]) for line in f if line.startswith('VmHWM')])
        except OSError:
            break
    return peak

def warm(path):
    """What a file holds is in memory, its holes are not, nor (for root) is anything else: what is read first would find less room than the next."""
    os.sync()
    try:
        with open('/proc/sys/vm/drop_caches', 'w') as f:
            f.write('1')
    except OSError:
        pass
    with open(path, 'rb', buffering=0) as f:
        size, at = os.fstat(f.fileno()).st_size, 0
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError: # nothing but a hole
                break
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            os.lseek(f.fileno(), at, os.SEEK_SET)
            while at < end and (part := f.read(min(1 << 22, end - at))):
                at += len(part)

class Run:
    def __init__(self, command, out, reads):
        subprocess.call(['rm', '-f', out])
        warm(reads)
        began, before = time.monotonic(), busy()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, shell=isinstance(command, str))
        end, peak = threading.Event(), []
        looks = threading.Thread(target=lambda: peak.append(peak_of(child.pid, end)))
        looks.start()
        _, status, usage = os.wait4(child.pid, 0)
        end.set()
        looks.join()
        child.returncode = status
        if status:
            raise RuntimeError(f'{command} failed')
        fd = os.open(out, os.O_RDONLY)
        os.fdatasync(fd)
        os.close(fd)
        self.wall = time.monotonic() - began
        self.user, self.system, self.rss = usage.ru_utime, usage.ru_stime, peak[0]
        self.waiting = max(0, self.wall * processors - (busy() - before))

def measure(tools, out, reads, raw=None):
    """The fastest run of each of {name: command}, in turns. raw: what the floor reads instead."""
    best = {}
    for _ in range(runs):
        for name, command in tools.items():
            try:
                run = Run(command, out, raw if name == 'floor' else reads)
            except RuntimeError as failed:
                print(failed, file=sys.stderr)
                continue
            if name not in best or run.wall < best[name].wall:
                best[name] = run
    return best

def report(name, best):
    for tool, run in best.items():
        print(f'value {name}_{tool}_seconds {run.wall:.2f} s')
        print(f'value {name}_{tool}_processor {run.user + run.system:.2f} s')
    if 'ours' not in best:
        print(f'value {name}_ours_missing 1 -')
        return
    ours = best['ours']
    print(f'value {name}_ours_user {ours.user:.2f} s')
    print(f'value {name}_ours_system {ours.system:.2f} s')
    print(f'value {name}_ours_waiting {ours.waiting:.2f} s')
    print(f'value {name}_ours_peak_rss {ours.rss} KiB')
    qemu = [run.wall for tool, run in best.items() if tool.startswith('qemu')]
    print(f'ratio {name}_vs_qemuimg {min(qemu) / ours.wall:.3f}')
    if 'nbdcopy' in best:
        print(f"ratio {name}_vs_nbdcopy {best['nbdcopy'].wall / ours.wall:.3f}")
    used = min(run.user + run.system for tool, run in best.items() if tool.startswith('qemu'))
    print(f'ratio {name}_processor_vs_qemuimg {used / (ours.user + ours.system):.3f}')
    print(f"ratio {name}_vs_floor {ours.wall / best['floor'].wall:.3f}")
    print(f"ratio {name}_vs_storage {ours.wall / best['storage'].wall:.3f}", flush=True)

def allocated(path):
    return os.stat(path).st_blocks * 512

def check(raw, out):
    if subprocess.call(['qemu-img', 'compare', '-q', '-f', 'raw', '-F', 'raw', raw, out]):
        sys.exit('convert.sh: the disk is not the same')

def bench_disk(disk, fmt):
    raw, out = raw_of(disk), work + '/out.raw'
    vmdk = vmdk_of(raw, fmt)
    extent = vmdk[:-5] + '-flat.vmdk'
    reads = extent if os.path.exists(extent) and fmt == 'flat' else vmdk
    qemu = ['qemu-img', 'convert', '-f', 'vmdk', '-O', 'raw']
    best = measure({
        'ours': [vic, 'convert', '--quiet', vmdk, out],
        'qemuimg': [*qemu, vmdk, out],
        'qemuimg_m16_W': [*qemu, '-m', '16', '-W', vmdk, out],
        'qemuimg_m16_W_Tnone': [*qemu, '-m', '16', '-W', '-T', 'none', vmdk, out],
        'qemuimg_m16_W_tnone_Tnone': [*qemu, '-m', '16', '-W', '-t', 'none', '-T', 'none', vmdk, out],
        'nbdcopy': f'truncate -s {os.stat(raw).st_size} {out} && nbdcopy -- [ qemu-nbd -r -f vmdk --shared=0 {vmdk} ] {out}',
        'floor': ['cp', '--reflink=never', '--sparse=auto', raw, out],
        'storage': ['dd', 'if=/dev/zero', 'of=' + out, 'bs=1M', f'count={allocated(raw) >> 20}', 'oflag=direct', 'status=none'],
    }, out, reads, raw)
    name = f'{disk}_{fmt}'
    report(name, best)
    if 'ours' in best:
        Run([vic, 'convert', '--quiet', vmdk, out], out, reads)
        check(raw, out)
        print(f'ratio {name}_bytes_vs_allocated {allocated(out) / allocated(raw):.3f}')

def bench_http():
    """The stream as it comes in earnest, from a server that costs little: what serves then runs on another machine."""
    class Handler(http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source, outputfile):
            self.connection.sendfile(source)
        def log_message(self, *args):
            pass
    raw, out = raw_of('real'), work + '/out.raw'
    vmdk = vmdk_of(raw, 'stream')
    port, ready = None, os.pipe()
    server = os.fork()
    if not server:
        httpd = http.server.HTTPServer(('127.0.0.1', 0), lambda *args: Handler(*args, directory=cache))
        os.write(ready[1], str(httpd.server_port).encode())
        httpd.serve_forever()
    port = os.read(ready[0], 16).decode()
    url = f'http://127.0.0.1:{port}/{os.path.basename(vmdk)}'
    try:
        best = measure({
            'ours': f'curl -sf {url} | {vic} convert --quiet - {out}',
            'peer': f'curl -sf -o {work}/peer.vmdk {url} && qemu-img convert -m 16 -W -f vmdk -O raw {work}/peer.vmdk {out}; rm {work}/peer.vmdk',
        }, out, vmdk)
    finally:
        os.kill(server, 9)
        os.waitpid(server, 0)
    for tool, run in best.items():
        print(f'value http_{tool}_seconds {run.wall:.2f} s')
    print(f"ratio convert_vs_curl_qemuimg {best['peer'].wall / best['ours'].wall:.3f}", flush=True)

print(f'value load_before {os.getloadavg()[0]:.2f} -')
print(f'value processors {processors} -')
for disk in os.environ.get('BENCH_DISKS', 'real sparse random').split():
    for fmt in os.environ.get('BENCH_FORMATS', 'stream sparse flat').split():
        bench_disk(disk, fmt)
if os.environ.get('BENCH_HTTP', '1') == '1':
    bench_http()
print(f'value load_after {os.getloadavg()[0]:.2f} -')
PYTHON
python3 "$work/bench.py" "$vic" "$cache" "$work"
