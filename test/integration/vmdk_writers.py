"""Writers of the VMDK extents that no program here writes: ESXi's vmfsSparse ("COWD") and seSparse, and hosted sparse ones with what is rare.

Made by the layouts that controller/disk/vmdk_sparse.c and vmdk_sesparse.c name; qemu-img, which reads them all, is the judge of both sides.
A disk is a dict from grain number to bytes of a whole grain, or to None (zero, where the format can say so). Sizes are in sectors of 512 bytes."""
import struct
import zlib

SECTOR = 512


def up(n, to):
    return -(-n // to) * to


def lay_grains(f, disk, order, grain_bytes):
    """Writes the grains from where the file is, in this order; where each one is, in bytes."""
    places = {}
    for g in order:
        if disk[g] is not None:
            places[g] = f.tell()
            assert len(disk[g]) == grain_bytes
            f.write(disk[g])
    return places


def cowd(path, sectors, disk, grain=1, order=None):
    entries = 4096
    tables = -(-sectors // (grain * entries))
    used = sorted({g // entries for g in disk})
    directory = 4
    table_at = {t: directory + up(tables * 4, SECTOR) // SECTOR + i * (entries * 4 // SECTOR) for i, t in enumerate(used)}
    with open(path, "wb") as f:
        end = directory + up(tables * 4, SECTOR) // SECTOR + len(used) * (entries * 4 // SECTOR)
        f.seek(end * SECTOR)
        places = lay_grains(f, disk, order or sorted(disk), grain * SECTOR)
        free = f.tell() // SECTOR
        f.seek(0)
        f.write(b"COWD" + struct.pack("<7I", 1, 3, sectors, grain, directory, tables, free))
        f.seek(directory * SECTOR)
        f.write(struct.pack(f"<{tables}I", *(table_at.get(t, 0) for t in range(tables))))
        for t in used:
            f.seek(table_at[t] * SECTOR)
            f.write(struct.pack(f"<{entries}I", *(places.get(t * entries + e, 0) // SECTOR for e in range(entries))))


def sesparse(path, sectors, disk, order=None, unmapped=(), directory=4096):
    """unmapped: of the grains that are None, those that are written as unmapped instead of zero. directory: where it is; QEMU takes 4096 only."""
    grain, table_sectors, entries = 8, 64, 4096
    tables = -(-sectors // (grain * entries))
    used = sorted({g // entries for g in disk})
    numbers = {t: i for i, t in enumerate(used)}
    directory_size = up(tables * 8, SECTOR) // SECTOR
    tables_at = up(directory + directory_size, 64)
    tables_size = max(len(used), 1) * table_sectors
    bitmap = tables_at + tables_size
    backmap = bitmap + 64
    grains_at = up(backmap + 64, 2048 if directory == 4096 else 8)
    with open(path, "wb") as f:
        f.seek(grains_at * SECTOR)
        places = lay_grains(f, disk, order or sorted(disk), grain * SECTOR)
        grains_size = max(f.tell() // SECTOR - grains_at, 8)
        f.truncate((grains_at + grains_size) * SECTOR)
        f.seek(0)
        f.write(struct.pack("<26Q", 0xCAFEBABE, 0x200000001, sectors, grain, table_sectors, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2048, 2048, directory,
                            directory_size, tables_at, tables_size, bitmap, 64, backmap, 64, grains_at, grains_size))
        f.seek(SECTOR)
        f.write(struct.pack("<4Q", 0xCAFECAFE, len(used), 1, 0))
        f.seek(directory * SECTOR)
        f.write(struct.pack(f"<{tables}Q", *((0x1 << 60 | numbers[t]) if t in numbers else 0 for t in range(tables))))
        for t in used:
            row = []
            for e in range(entries):
                g = t * entries + e
                if g in places:
                    n = (places[g] // SECTOR - grains_at) // grain
                    row.append(0x3 << 60 | (n & 0xFFF) << 48 | n >> 12)
                else:
                    row.append(0 if g not in disk else (1 if g in unmapped else 2) << 60)
            f.seek((tables_at + numbers[t] * table_sectors) * SECTOR)
            f.write(struct.pack(f"<{entries}Q", *row))


def hosted(path, sectors, disk, grain=128, entries=512, order=None, packed=False, version=None, redundant=True, descriptor=None, footer=False,
           unclean=False):
    """A hosted sparse extent. packed: compressed grains, with markers. footer: the directory is told by a header at the end."""
    grains = -(-sectors // grain)
    tables = -(-grains // entries)
    zeros = any(b is None for b in disk.values())
    flags = 1 | (2 if redundant else 0) | (4 if zeros else 0) | (0x30000 if packed else 0)
    text = (descriptor or "").encode()
    text_sectors = 20 if descriptor is not None else 0
    table_sectors = up(entries * 4, SECTOR) // SECTOR
    directory_sectors = up(tables * 4, SECTOR) // SECTOR
    copy = directory_sectors + tables * table_sectors
    with open(path, "wb") as f:
        def head(directory_at, second_at, overhead):
            h = b"KDMV" + struct.pack("<II", version or (3 if packed else 2 if zeros else 1), flags)
            h += struct.pack("<QQQQI", sectors, grain, 1 if text_sectors else 0, text_sectors, entries)
            h += struct.pack("<QQQB", second_at, directory_at, overhead, unclean) + b"\n \r\n" + struct.pack("<H", 1 if packed else 0)
            return h.ljust(SECTOR, b"\0")

        first = 1 + text_sectors
        second = first + copy if redundant else 0
        data_at = up(first + copy * (2 if redundant else 1), 8)
        f.seek(SECTOR)
        f.write(text[:text_sectors * SECTOR])
        f.seek(data_at * SECTOR)
        places = {}
        for g in order or sorted(disk):
            if disk[g] is None:
                continue
            places[g] = f.tell() // SECTOR
            if packed:
                z = zlib.compress(disk[g])
                f.write(struct.pack("<QI", g * grain, len(z)) + z)
                f.seek(up(f.tell(), SECTOR))
            else:
                f.write(disk[g])
        end = f.tell()
        if footer:
            f.seek(end)
            f.write(struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0") + head(first, second, data_at) + b"\0" * SECTOR)
        else:
            f.truncate(end)
        f.seek(0)
        f.write(head(0xFFFFFFFFFFFFFFFF if footer else first, second, data_at))
        for at in [first] + ([second] if redundant else []):
            f.seek(at * SECTOR)
            f.write(struct.pack(f"<{tables}I", *(at + directory_sectors + t * table_sectors for t in range(tables))))
            f.seek((at + directory_sectors) * SECTOR)
            f.write(struct.pack(f"<{tables * entries}I", *(places.get(g, 1 if g in disk else 0) for g in range(tables * entries))))


def deflated(rng, data):
    return zlib.compress(data, rng.choice([0, 1, 6, 9]))


def stream(path, sectors, disk, rng, grain=128, entries=512, version=3, descriptor="", in_front=False):
    """A streamOptimized VMDK, its grains in ascending order; with rng, of what is left to the writer, now one and now the other."""
    grains = -(-sectors // grain)
    tables = -(-grains // entries)
    table_bytes, directory_bytes = up(entries * 4, SECTOR), up(tables * 4, SECTOR)
    zeros = any(b is None for b in disk.values())
    rows, places = {}, {}

    def marker(f, kind, length):
        f.write(struct.pack("<QII", length // SECTOR, 0, kind).ljust(SECTOR, b"\0"))

    def table(t):
        return struct.pack(f"<{entries}I", *rows.get(t, [0] * entries)).ljust(table_bytes, b"\0")

    def head(directory, overhead):
        h = b"KDMV" + struct.pack("<II", version, 0x30001 | (4 if zeros else 0))
        h += struct.pack("<QQQQI", sectors, grain, 1, 20, entries) + struct.pack("<QQQB", 0, directory, overhead, 0) + b"\n \r\n"
        return (h + struct.pack("<H", 1)).ljust(SECTOR, b"\0")

    used = sorted({g // entries for g in disk})
    front = 21 * SECTOR
    overhead = front // SECTOR
    if in_front:
        for i, t in enumerate(used):
            places[t] = (front + directory_bytes + i * table_bytes) // SECTOR
        overhead = (front + directory_bytes + len(used) * table_bytes) // SECTOR
    overhead = up(overhead, rng.choice([1, 8, 128]))
    with open(path, "wb") as f:
        f.seek(SECTOR)
        f.write(descriptor.encode())
        f.seek(overhead * SECTOR)
        for t in used:
            row = rows[t] = [0] * entries
            for g in sorted(g for g in disk if g // entries == t):
                if disk[g] is None:
                    row[g % entries] = 1
                    continue
                row[g % entries] = f.tell() // SECTOR
                data = disk[g]
                if (g + 1) * grain > sectors and rng.random() < 0.5:  # the disk ends within it
                    data = data[:(sectors - g * grain) * SECTOR]
                z = deflated(rng, data)
                f.write(struct.pack("<QI", g * grain, len(z)) + z)
                f.write(b"\0" * (up(f.tell(), SECTOR) - f.tell()))
                if rng.random() < 0.05:
                    marker(f, 4, 0)
            if not in_front:
                marker(f, 1, table_bytes)
                places[t] = f.tell() // SECTOR
                f.write(table(t))
        directory = struct.pack(f"<{tables}I", *(places.get(t, 0) for t in range(tables)))
        if in_front:
            if rng.random() < 0.5:
                marker(f, 0, 0)
            f.truncate(f.tell())
            f.seek(0)
            f.write(head(front // SECTOR, overhead))
            f.seek(front)
            f.write(directory)
            for t in used:
                f.seek(places[t] * SECTOR)
                f.write(table(t))
            return
        marker(f, 2, directory_bytes)
        at = f.tell() // SECTOR
        f.write(directory.ljust(directory_bytes, b"\0"))
        marker(f, 3, SECTOR)
        f.write(head(at, overhead))
        marker(f, 0, 0)
        f.seek(0)
        f.write(head(0xFFFFFFFFFFFFFFFF, overhead))


def descriptor(path, extents, cid=0x12345678, parent=None, parent_cid=0xFFFFFFFF, create_type="vmfs"):
    """extents: lines, each as "RW 8 FLAT \\"x\\" 0"."""
    text = f"# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={cid:08x}\nparentCID={parent_cid:08x}\ncreateType=\"{create_type}\"\n"
    if parent:
        text += f"parentFileNameHint=\"{parent}\"\n"
    text += "\n# Extent description\n" + "\n".join(extents) + "\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\n"
    if path:
        with open(path, "w") as f:
            f.write(text)
    return text
