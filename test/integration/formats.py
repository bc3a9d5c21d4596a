"""Disk images made at random, in every form that is read here, each read by us and by qemu-img, and compared by qemu-img.

    VIC=PROGRAM python3 formats.py DIRECTORY COUNT [SEED]

test_formats.sh runs a bounded number; thousands are run by hand. A failure names its seed and number: `formats.py DIRECTORY 1 SEED:NUMBER` makes that
image again, and keeps it."""
import collections
import json
import os
import random
import resource
import subprocess
import sys

import vmdk_writers as writers

VIC = os.environ["VIC"]
MIB = 1 << 20
TIB = 1 << 40
# Where something begins or ends: sectors, grains, clusters, what a grain table or an L2 table covers, our block of a MiB.
EDGES = [512, 4096, 65536, MIB, 2 * MIB, 32 * MIB, 64 * 4096]


spent = {}  # processor seconds by program
counts = collections.Counter()  # images by what they are


class Failed(Exception):
    pass


def run(*command, **kw):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    key = os.path.basename(command[0]) + (" " + command[1] if command[0] != "qemu-io" else "")
    spent[key] = spent.get(key, 0) + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stdout.strip()[-300:]} {done.stderr.strip()[-300:]}")
    return done.stdout


def capacity_of(rng):
    r = rng.random()
    if r < 0.08:
        return rng.choice([0, 512, 1024, 4096, 65536 - 512, 65536 + 512])
    if r < 0.5:
        return max(512, rng.choice(EDGES) * rng.randrange(1, 4) + 512 * rng.randrange(-3, 4))
    return 512 * rng.randrange(1, 48 * 2048)


def extents_of(rng, capacity, most=40):
    """Where something is written: (offset, length), in sectors of the disk, adversarial as to edges."""
    out = []
    for _ in range(rng.randrange(most + 1) if capacity else 0):
        r = rng.random()
        edge = rng.choice(EDGES)
        if r < 0.4:
            at = edge * rng.randrange(capacity // edge + 1) + 512 * rng.randrange(-2, 3)
        elif r < 0.5:
            at = capacity - 512 * rng.randrange(1, 4)
        else:
            at = 512 * rng.randrange(capacity // 512)
        length = rng.choice([512, 512, 1024, 4096, 4608, edge, 65536, 65536 + 512, 512 * rng.randrange(1, 3000)])
        at = min(max(at, 0), capacity - 512)
        out.append((at, min(length, capacity - at)))
    if capacity and rng.random() < 0.2:  # every other sector, every other grain: no two that join
        step = rng.choice([1024, 2 * 4096, 2 * 65536])
        at = 512 * rng.randrange(max(1, capacity // 1024))
        out += [(p, min(step // 2, capacity - p)) for p in range(at, min(capacity, at + 300 * step), step)]
    return out


def content(rng, length):
    r = rng.random()
    if r < 0.3:
        return rng.randbytes(length)
    if r < 0.4:
        return bytes(length)
    if r < 0.6:
        return bytes([rng.randrange(1, 256)]) * length
    return (rng.randbytes(64) * (length // 64 + 1))[:length]


def raw_disk(rng, path, capacity):
    with open(path, "wb") as f:
        f.truncate(capacity)
        for at, length in extents_of(rng, capacity):
            f.seek(at)
            f.write(content(rng, length))


def scribble(rng, path, fmt, capacity, most=30):
    """Writes, zeroes and discards in place."""
    commands = []
    for at, length in extents_of(rng, capacity, most):
        how = rng.random()
        if how < 0.65:
            commands.append(f"write -P {rng.randrange(1, 256)} {at} {length}")
        elif how < 0.8:
            commands.append(f"write -z {'-u ' if rng.random() < 0.5 else ''}{at} {length}")
        elif how < 0.9:
            commands.append(f"discard {at} {length}")
        else:
            commands.append(f"write -P 0 {at} {length}")
    rng.shuffle(commands)
    for i in range(0, len(commands), 200):
        run("qemu-io", "-f", fmt, *(word for c in commands[i:i + 200] for word in ("-c", c)), path)


def vmdk(rng, name, capacity, subformat, parent=None):
    options = f"subformat={subformat}"
    if "Sparse" in subformat and rng.random() < 0.4:
        options += ",zeroed_grain=on"
    if rng.random() < 0.2:
        options += ",compat6=on" if rng.random() < 0.5 else ",hwversion=14"
    if parent:
        run("qemu-img", "create", "-q", "-f", "vmdk", "-o", options, "-b", parent, "-F", "vmdk", name)
    else:
        run("qemu-img", "create", "-q", "-f", "vmdk", "-o", options, name, str(capacity))
    scribble(rng, name, "vmdk", capacity)


def qcow2_options(rng):
    cluster = rng.choice([512, 1024, 2048, 4096, 16384, 65536, 65536, 65536, 262144, 2 * MIB])
    options = [f"cluster_size={cluster}"]
    if rng.random() < 0.3:
        counts["qcow2 v2"] += 1
        return ",".join(options + ["compat=0.10"])
    if cluster >= 16384 and rng.random() < 0.35:
        counts["qcow2 with subclusters"] += 1
        options.append("extended_l2=on")
    if rng.random() < 0.2:
        options.append(f"refcount_bits={rng.choice([1, 8, 64])}")
    elif rng.random() < 0.3:
        options.append("lazy_refcounts=on")
    if rng.random() < 0.4:
        counts["qcow2 zstd"] += 1
        options.append("compression_type=zstd")
    return ",".join(options)


def qcow2(rng, name, capacity, parent=None, parent_format="raw"):
    options = qcow2_options(rng)
    if parent:
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, "-b", parent, "-F", parent_format, name, str(capacity))
    else:
        if rng.random() < 0.15 and capacity < 64 * MIB:
            options += f",preallocation={rng.choice(['metadata', 'falloc', 'full'])}"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, name, str(capacity))
    scribble(rng, name, "qcow2", capacity)
    # A snapshot's clusters are counted twice, which a count of one bit cannot: qemu-img makes none there (EINVAL).
    if capacity and "refcount_bits=1" not in options.split(",") and rng.random() < 0.1:
        counts["qcow2 with a snapshot"] += 1
        run("qemu-img", "snapshot", "-c", "s", name)
        scribble(rng, name, "qcow2", capacity, 5)


def converted(rng, name, capacity, fmt, options, *flags):
    raw_disk(rng, "source", capacity)
    run("qemu-img", "convert", "-q", "-f", "raw", "-O", fmt, *(["-o", options] if options else []), *flags, "source", name)
    os.unlink("source")


def grains(rng, capacity, grain, zero, most=200):
    all_grains = -(-capacity // grain)
    chosen = set()
    for at, length in extents_of(rng, capacity):
        chosen.update(range(at // grain, min(all_grains, at // grain + min(length // grain + 1, 30))))
    chosen = rng.sample(sorted(chosen), min(len(chosen), most))
    return {g: None if zero and rng.random() < 0.3 else content(rng, grain) for g in chosen}


def esx_delta(rng, kind, number, capacity, parent, parent_cid):
    """A snapshot of ESXi upon a parent; its name and CID."""
    sectors = capacity // 512
    cid = rng.randrange(1, 1 << 32)
    extent = f"vm-{number:06}-{'delta' if kind == 'VMFSSPARSE' else 'sesparse'}.vmdk"
    if kind == "VMFSSPARSE":
        grain = rng.choice([1, 1, 1, 8, 128])
        disk = grains(rng, capacity, grain * 512, False)
        writers.cowd(extent, sectors, disk, grain, order=rng.sample(sorted(disk), len(disk)))
    else:
        disk = grains(rng, capacity, 4096, True)
        writers.sesparse(extent, sectors, disk, order=rng.sample(sorted(disk), len(disk)),
                         unmapped={g for g in disk if disk[g] is None and rng.random() < 0.5})
    name = f"vm-{number:06}.vmdk"
    writers.descriptor(name, [f"RW {sectors} {kind} \"{extent}\""], cid, parent, parent_cid, "seSparse" if kind == "SESPARSE" else "vmfsSparse")
    return name, cid


def esx_chain(rng, capacity):
    capacity = max(capacity, 512)
    raw_disk(rng, "vm-flat.vmdk", capacity)
    name, cid = "vm.vmdk", 0xFFFFFFFE
    writers.descriptor(name, [f"RW {capacity // 512} VMFS \"vm-flat.vmdk\""], cid)
    for number in range(1, rng.randrange(2, 5)):
        name, cid = esx_delta(rng, rng.choice(["VMFSSPARSE", "SESPARSE"]), number, capacity, name, cid)
    return name


def own_hosted(rng, name, capacity):
    grain = rng.choice([8, 16, 128, 128, 2048])
    entries = rng.choice([128, 512, 512])
    packed = rng.random() < 0.5
    disk = grains(rng, capacity, grain * 512, True, 60)
    kind = "streamOptimized" if packed else "monolithicSparse"
    text = writers.descriptor(None, [f"RW {capacity // 512} SPARSE \"{name}\""], create_type=kind)
    writers.hosted(name, capacity // 512, disk, grain, entries, rng.sample(sorted(disk), len(disk)), packed, descriptor=text,
                   redundant=rng.random() < 0.5, footer=packed and rng.random() < 0.5)


def own_stream(rng, name, capacity):
    """A stream as writers make it that are not qemu-img: tables behind their grains or in front, markers of all kinds, a footer."""
    grain = rng.choice([8, 16, 128, 128, 128, 1024, 2048])
    disk = grains(rng, capacity, grain * 512, True, 100)
    text = writers.descriptor(None, [f"RW {capacity // 512} SPARSE \"{name}\""], create_type="streamOptimized")
    writers.stream(name, capacity // 512, disk, rng, grain, rng.choice([1, 64, 128, 512, 512]), rng.randrange(1, 4), text,
                   in_front=rng.random() < 0.3)


def mixed_extents(rng, name):
    """Extents of all types side by side, as only a person would put them together; none is as long as a grain would have it.

    qemu-img leaves ZERO extents out, so there are none."""
    lines = []
    total = 0
    for i in range(rng.randrange(1, 6)):
        part = f"part-{i}"
        kind = rng.choice(["FLAT", "SPARSE", "VMFSSPARSE"])
        sectors = rng.randrange(1, 5000)
        if kind == "SPARSE":
            sectors = sectors // 8 * 8 + 8  # qemu-img takes the rest of a last grain for the next extent's, and calls that zero
        if kind == "FLAT":
            offset = rng.randrange(3)
            raw_disk(rng, part, (sectors + offset) * 512)
            lines.append(f"RW {sectors} FLAT \"{part}\" {offset}")
        elif kind == "SPARSE":
            packed = rng.random() < 0.3
            writers.hosted(part, sectors, grains(rng, sectors * 512, 4096, True), 8, packed=packed)
            lines.append(f"RW {sectors} SPARSE \"{part}\"")
        else:
            writers.cowd(part, sectors, grains(rng, sectors * 512, 512, False))
            lines.append(f"RW {sectors} VMFSSPARSE \"{part}\"")
        total += sectors
    writers.descriptor(name, lines, create_type="twoGbMaxExtentSparse")
    return total * 512


def foreign(rng, capacity):
    """An image that a qemu-img of ours reads for us: its name, format and capacity, which some of them round."""
    capacity = max(capacity, 512)
    fmt, options = rng.choice([
        ("vpc", "subformat=dynamic"), ("vpc", "subformat=fixed"), ("vpc", "subformat=dynamic,force_size=on"),
        ("vhdx", "subformat=dynamic"), ("vhdx", "subformat=fixed"), ("vhdx", f"subformat=dynamic,block_size={rng.choice([1, 2, 8]) * MIB}"),
        ("vdi", "static=off"), ("vdi", "static=on"), ("qcow", ""), ("qed", f"cluster_size={rng.choice([4096, 65536, MIB])}"),
        ("parallels", f"cluster_size={rng.choice([65536, MIB])}")])
    counts[f"{fmt} {options}".strip()] += 1
    name = f"disk.{fmt}"
    if rng.random() < 0.5:
        converted(rng, name, capacity, fmt, options)
    else:
        run("qemu-img", "create", "-q", "-f", fmt, *(["-o", options] if options else []), name, str(capacity))
        scribble(rng, name, fmt, json.loads(run("qemu-img", "info", "-f", fmt, "--output", "json", name))["virtual-size"])
    return name, fmt, json.loads(run("qemu-img", "info", "-f", fmt, "--output", "json", name))["virtual-size"]


def qcow2_chain(rng, name, capacity):
    base = max(512, rng.choice([capacity, capacity // 1024 * 512, capacity + 512 * 77]))
    if rng.random() < 0.5:
        raw_disk(rng, "base", base)
        qcow2(rng, name, capacity, "base", "raw")
    else:
        converted(rng, "base", base, "qcow2", qcow2_options(rng), *rng.choice([["-c"], []]))
        qcow2(rng, "middle", capacity, "base", "qcow2")
        qcow2(rng, name, capacity, "middle", "qcow2")


KINDS = ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized", "stream of others", "vmdk upon a vmdk",
         "vmfsSparse, seSparse", "hosted sparse of others", "mixed extents", "qcow2", "qcow2", "qcow2 compressed", "qcow2 compressed",
         "qcow2 upon others", "qcow2 upon others", "raw", "foreign", "foreign"]


def kind_of(i):
    return KINDS[i % len(KINDS)] if i % 64 != 63 else "2 TiB"


def make(rng, i):
    """An image in the current directory: its name, format and capacity."""
    capacity = capacity_of(rng)
    kind = kind_of(i)
    counts[kind] += 1
    if kind == "foreign":
        return foreign(rng, capacity)
    name = "disk.qcow2" if kind.startswith("qcow2") else "disk.vmdk"
    if kind in ("vmdk upon a vmdk", "vmfsSparse, seSparse", "hosted sparse of others", "raw"):
        capacity = max(capacity, 512)
    if kind in KINDS[:4]:
        vmdk(rng, name, capacity, kind)
    elif kind == "streamOptimized":
        if capacity:
            converted(rng, name, capacity, "vmdk", "subformat=streamOptimized")
        else:  # which qemu-img makes, but does not write to
            run("qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized", name, "0")
    elif kind == "stream of others":
        own_stream(rng, name, capacity)
    elif kind == "vmdk upon a vmdk":
        vmdk(rng, "parent.vmdk", capacity, rng.choice(["monolithicSparse", "monolithicFlat", "twoGbMaxExtentFlat"]))
        vmdk(rng, name, capacity, "monolithicSparse", "parent.vmdk")
    elif kind == "vmfsSparse, seSparse":
        name = esx_chain(rng, capacity)
    elif kind == "hosted sparse of others":
        name = "own.vmdk"
        own_hosted(rng, name, capacity)
    elif kind == "mixed extents":
        capacity = mixed_extents(rng, name)
    elif kind == "qcow2":
        qcow2(rng, name, capacity)
    elif kind == "qcow2 compressed":
        converted(rng, name, capacity, "qcow2", qcow2_options(rng), "-c")
    elif kind == "qcow2 upon others":
        qcow2_chain(rng, name, capacity)
    elif kind == "raw":
        name = "disk.raw"
        raw_disk(rng, name, capacity)
    else:
        name = huge(rng)
        capacity = 2 * TIB
    counts["of 0 bytes"] += not capacity
    counts["of 1 sector"] += capacity == 512
    return name, {"raw": "raw", "qcow2": "qcow2"}.get(name.rsplit(".", 1)[1], "vmdk"), capacity


def huge(rng):
    """2 TiB with a little at its ends and in its middle; its name."""
    kind = rng.choice(["monolithicSparse", "monolithicFlat", "streamOptimized", "twoGbMaxExtentSparse", "seSparse", "qcow2", "qcow2"])
    counts[f"2 TiB {kind}"] += 1
    name = "disk.qcow2" if kind == "qcow2" else "disk.vmdk"
    commands = [f"write -P {rng.randrange(1, 256)} {at} 70000" for at in (0, TIB + 512 * rng.randrange(4096), 2 * TIB - 70144)]
    if kind == "seSparse":
        disk = {at // 4096: rng.randbytes(4096) for at in (0, TIB, 2 * TIB - 4096)}
        writers.sesparse("disk-sesparse.vmdk", 2 * TIB // 512, disk)
        writers.descriptor(name, [f"RW {2 * TIB // 512} SESPARSE \"disk-sesparse.vmdk\""], create_type=kind)
        with open("theirs", "wb") as f:  # qemu-img looks at each 4 KiB of it, for hours
            for grain in disk:
                f.seek(grain * 4096)
                f.write(disk[grain])
    elif kind == "streamOptimized":
        with open("source", "wb") as f:
            f.truncate(2 * TIB)
            for at in (0, TIB, 2 * TIB - 5120):
                f.seek(at)
                f.write(rng.randbytes(5120))
        run("qemu-img", "convert", "-q", "-f", "raw", "-O", "vmdk", "-o", f"subformat={kind}", "source", name)
    elif kind == "qcow2":
        options = ["cluster_size=65536", "cluster_size=2M", "extended_l2=on,cluster_size=128k"]
        run("qemu-img", "create", "-q", "-f", kind, "-o", rng.choice(options), name, str(2 * TIB))
        run("qemu-io", "-f", kind, *(word for c in commands for word in ("-c", c)), name)
    else:
        run("qemu-img", "create", "-q", "-f", "vmdk", "-o", f"subformat={kind}", name, str(2 * TIB))
        run("qemu-io", "-f", "vmdk", *(word for c in commands for word in ("-c", c)), name)
    return name


def feed(rng, name):
    """Our reading of a stream, given in parts of random lengths."""
    child = subprocess.Popen([VIC, "convert", "-q", "--digest", "-", "out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    most = rng.choice([100, 5000, 300000])
    try:
        with open(name, "rb", buffering=0) as f, child.stdin as to:
            while data := f.read(rng.randrange(1, most)):
                to.write(data)
                to.flush()
    except BrokenPipeError:
        pass
    text = child.stdout.read().decode()
    if child.wait():
        raise Failed(f"convert from a pipe: {text.strip()}")
    return text.strip()


def data_of(path):
    """What is not zero in a sparse file: a dict from offset to 4 KiB."""
    data = {}
    with open(path, "rb") as f:
        at = 0
        while True:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA) // 4096 * 4096
            except OSError:
                return data
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            f.seek(at)
            while at < end:
                block = f.read(4096)
                if block.strip(b"\0"):
                    data[at] = block
                at += 4096


def check(rng, name, fmt, capacity):
    # Its tables are where no stream has them: as a file it can be read.
    by_tables = "own" in name
    digest = run(VIC, "convert", "-q", "--digest", *(["--format", "vmdk"] if by_tables else []), name, "out").strip()
    if os.path.getsize("out") != capacity:
        raise Failed(f"{os.path.getsize('out')} bytes instead of {capacity}")
    if not capacity and fmt == "vmdk":
        pass  # qemu-img makes such sparse ones, and does not read them
    elif capacity < TIB:
        run("qemu-img", "compare", "-f", "raw", "-F", fmt, "out", name)
    else:  # it would read all the zeros
        if not os.path.exists("theirs"):
            run("qemu-img", "convert", "-q", "-f", fmt, "-O", "raw", name, "theirs")
        if data_of("out") != data_of("theirs"):
            raise Failed("it differs from what qemu-img makes of it")
    if capacity < TIB:
        if f"digest {digest}\n" not in run(VIC, "inspect", "-q", name):
            raise Failed("inspect tells another digest")
        streamed = fmt == "raw" or "streamOptimized" in run(VIC, "inspect", "-q", "--fast", name)
        if os.path.getsize(name) < 4 * MIB and not by_tables and streamed:
            counts["read as streams too, in random parts"] += 1
            if feed(rng, name) != digest:
                raise Failed("as a stream it has another digest")
        if fmt == "vmdk" and capacity and streamed and not by_tables:
            counts["streams read by their tables too"] += 1
            if run(VIC, "convert", "-q", "--digest", "--format", "vmdk", name, "out").strip() != digest:
                raise Failed("by its tables it has another digest")
    if capacity and rng.random() < 0.1:
        counts["written as qcow2 too"] += 1
        run(VIC, "convert", "-q", name, "out.qcow2", *(["--format", "vmdk"] if by_tables else []))
        run("qemu-img", "check", "-q", "-f", "qcow2", "out.qcow2")
        if f"digest {digest}\n" not in run(VIC, "inspect", "-q", "out.qcow2"):
            raise Failed("written as qcow2 it has another digest")


def one(seed, i):
    rng = random.Random(f"{seed}:{i}")
    name, fmt, capacity = make(rng, i)
    check(rng, name, fmt, capacity)


def main():
    directory, count = sys.argv[1], int(sys.argv[2])
    seed, _, first = (sys.argv[3] if len(sys.argv) > 3 else str(random.randrange(1 << 32))).partition(":")
    failed = 0
    os.chdir(directory)
    for i in range(int(first or 0), int(first or 0) + count):
        work = f"image-{i}"
        os.mkdir(work)
        os.chdir(work)
        try:
            one(seed, i)
        except Failed as why:
            failed += 1
            print(f"image {seed}:{i} ({kind_of(i)}): {why}", flush=True)
        os.chdir("..")
        if not first:
            subprocess.run(["rm", "-r", work], check=True)
    print(", ".join(f"{k} {v:.1f} s" for k, v in sorted(spent.items())))
    print(", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()) if n))
    print(f"{count} images of the seed {seed}, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
