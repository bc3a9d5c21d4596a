#!/usr/bin/env python3
"""Makes OVF packages as VMware, VirtualBox, oVirt and others write them, and as nobody should.

    corpus.py DIRECTORY

DIRECTORY/www gets the files for a web server, DIRECTORY/cases.json what an import of each must lead to: a list of
    name      of the case: letters, digits, dashes
    url       path below www
    vm        spec.virtualMachineName
    disks     raw files that the imported disks must equal, in order (paths below DIRECTORY/raw), or
    error     a part of what the import must say; then there is no machine
    says      parts of status.message or the events of an import that succeeds (optional)
    domain    what must be in the VirtualMachine, as {dotted path: value} below spec.template.spec.domain (optional)
    nics      [MAC, model] of each interface (optional; null: not looked at)
    error_stream  what the import says where the server sends no parts of files, if that is something else
    stream    false: not tried on a server without ranges
qemu-img makes the VMDKs; tar archives are written here, byte by byte where tarfile is too well-behaved."""
import base64, gzip, hashlib, io, json, os, random, struct, subprocess, sys, tarfile
from xml.sax.saxutils import escape, quoteattr

MIB = 1 << 20
top = sys.argv[1]
www, raws, tmp = (os.path.join(top, d) for d in ("www", "raw", "tmp"))
for d in (www, raws, tmp):
    os.makedirs(d, exist_ok=True)
cases = []


def run(*command, quiet=False):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL if quiet else None)


# --- disks ------------------------------------------------------------------------------------------------------------

def make_raw(name, size, seed):
    """A sparse disk: some runs of data, some of text, the rest zeros."""
    r, path = random.Random(seed), os.path.join(raws, name)
    with open(path, "wb") as f:
        f.truncate(size)
        for _ in range(6):
            length = min(r.choice((512, 4096, 70000, 300000)), size)
            f.seek(r.randrange(0, size - length + 1) // 512 * 512)
            f.write(r.randbytes(length) if r.random() < 0.5 else (b"%d lines of text\n" % seed * (length // 8))[:length])
        f.truncate(size)
    return path


def vmdk(raw, subformat="streamOptimized"):
    out = os.path.join(tmp, os.path.basename(raw) + "." + subformat)
    run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=" + subformat, raw, out)
    with open(out, "rb") as f:
        return f.read()


def slurp(path):
    with open(path, "rb") as f:
        return f.read()


make_raw("a.raw", 6 * MIB, 1)
make_raw("b.raw", 3 * MIB, 2)
make_raw("c.raw", 10 * MIB + 512, 3)
make_raw("empty.raw", 2 * MIB, 4)
with open(os.path.join(raws, "empty.raw"), "wb") as f:
    f.truncate(2 * MIB)
A, B, C = (vmdk(os.path.join(raws, n + ".raw")) for n in "abc")
RAW_B = slurp(os.path.join(raws, "b.raw"))
size_of = {n: os.path.getsize(os.path.join(raws, n + ".raw")) for n in ("a", "b", "c", "empty")}

# --- descriptors ------------------------------------------------------------------------------------------------------

NS1 = ('xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" '
       'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
       'xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" '
       'xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
       'xmlns:vbox="http://www.virtualbox.org/ovf/machine"')
NS2 = ('xmlns="http://schemas.dmtf.org/ovf/envelope/2" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/2" '
       'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
       'xmlns:sasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_StorageAllocationSettingData.xsd" '
       'xmlns:epasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_EthernetPortAllocationSettingData.xsd"')
VMDK_URI = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"


def rasd(tag="Item", attributes="", prefix="rasd", **fields):
    inner = "".join("<%s:%s>%s</%s:%s>" % (prefix, k, escape(str(v)), prefix, k) for k, v in fields.items())
    return "<%s %s>%s</%s>" % (tag, attributes, inner, tag)


def cpu(n, cores=None, attributes=""):
    item = rasd(attributes=attributes, AllocationUnits="hertz * 10^6", ElementName="%d virtual CPU(s)" % n, InstanceID=1,
                ResourceType=3, VirtualQuantity=n)
    return item.replace("</Item>", '<vmw:CoresPerSocket ovf:required="false">%d</vmw:CoresPerSocket></Item>' % cores) if cores else item


def memory(n, unit="byte * 2^20", attributes=""):
    return rasd(attributes=attributes, AllocationUnits=unit, ElementName="memory", InstanceID=2, ResourceType=4, VirtualQuantity=n)


def controller(id, type, subtype=None, address=0):
    fields = dict(Address=address, ElementName="controller %d" % id, InstanceID=id, ResourceType=type)
    if subtype:
        fields["ResourceSubType"] = subtype
    return rasd(**fields)


def disk_item(id, resource, parent, unit):
    return rasd(AddressOnParent=unit, ElementName="Hard disk %d" % id, HostResource=resource, InstanceID=id, Parent=parent, ResourceType=17)


def nic(id, network, subtype="VmxNet3", mac=None, automatic="true"):
    fields = dict(AddressOnParent=id, AutomaticAllocation=automatic, Connection=network, ElementName="Network adapter %d" % id,
                  InstanceID=id, ResourceSubType=subtype, ResourceType=10)
    if mac:
        fields["Address"] = mac
    return rasd(**fields)


def file_ref(id, href, size=None, extra=""):
    return "<File ovf:id=%s ovf:href=%s %s %s/>" % (quoteattr(id), quoteattr(href), "" if size is None else 'ovf:size="%d"' % size, extra)


def disk(id, capacity, file=None, unit=None, extra="", format=VMDK_URI):
    return "<Disk ovf:diskId=%s ovf:capacity=%s %s %s ovf:format=%s %s/>" % (
        quoteattr(id), quoteattr(str(capacity)), "" if file is None else "ovf:fileRef=" + quoteattr(file),
        "" if unit is None else "ovf:capacityAllocationUnits=" + quoteattr(unit), quoteattr(format), extra)


def system(name, *items, id="vm", before="", after="", in_hardware=""):
    return ('<VirtualSystem ovf:id=%s><Info>a machine</Info><Name>%s</Name>%s<OperatingSystemSection ovf:id="94" '
            'vmw:osType="debian12_64Guest"><Info>os</Info></OperatingSystemSection><VirtualHardwareSection><Info>hw</Info>'
            '<System><vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType></System>%s%s</VirtualHardwareSection>%s</VirtualSystem>'
            % (quoteattr(id), escape(name), before, "".join(items), in_hardware, after))


def envelope(files, disks, *systems, networks=("VM Network",), ns=NS1, sections="", prolog='<?xml version="1.0" encoding="UTF-8"?>'):
    return ('%s<Envelope %s><References>%s</References><DiskSection><Info>disks</Info>%s</DiskSection><NetworkSection><Info>n</Info>%s'
            '</NetworkSection>%s%s</Envelope>' % (
                prolog, ns, "".join(files), "".join(disks),
                "".join("<Network ovf:name=%s><Description>d</Description></Network>" % quoteattr(n) for n in networks),
                sections, "".join(systems))).encode()


HARDWARE = (cpu(2), memory(1024), controller(3, 6, "VirtualSCSI"))


def simple(name="vm", file="disk1.vmdk", capacity=None, size=None, extra_disk="", extra_file="", items=HARDWARE, **more):
    """One disk, that of a.raw."""
    return envelope([file_ref("file1", file, size, extra_file)], [disk("vmdisk1", capacity or size_of["a"], "file1", extra=extra_disk)],
                    system(name, *items, disk_item(10, "ovf:/disk/vmdisk1", 3, 0), **more))


def manifest(members, algorithm="SHA256"):
    digest = hashlib.new(algorithm.lower())
    lines = []
    for name, data in members:
        digest = hashlib.new(algorithm.lower(), data)
        lines.append("%s(%s)= %s\n" % (algorithm, name, digest.hexdigest()))
    return "".join(lines).encode()


# --- archives ---------------------------------------------------------------------------------------------------------

def tar(members, format=tarfile.USTAR_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as t:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def odd_tar(members, type, linkname="", size=0):
    """The members, and one more of another type behind the descriptor."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as t:
        for i, (name, data) in enumerate(members):
            info = tarfile.TarInfo(name)
            if i == 1:
                info.type, info.linkname = type, linkname
                t.addfile(info)
                continue
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def checksummed(header):
    total = sum(header[:148]) + 8 * 32 + sum(header[156:512])
    return header[:148] + b"%06o\0 " % total + header[156:]


def base256_tar(members):
    """Sizes in the base-256 form that GNU tar uses for large members."""
    out = b""
    for name, data in members:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[124:136] = b"\x80" + len(data).to_bytes(11, "big")
        out += checksummed(bytes(header)) + data + b"\0" * (-len(data) % 512)
    return out + b"\0" * 1024


def write(path, data):
    path = os.path.join(www, path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def case(name, data=None, url=None, vm="vm", **more):
    if data is not None:
        url = url or name + ".ova"
        write(url, data)
    cases.append(dict(name=name, url=url, vm=vm, **more))


# --- as they should be ------------------------------------------------------------------------------------------------

two = envelope([file_ref("file1", "web-disk1.vmdk", len(A)), file_ref("file2", "web-disk2.vmdk", len(B)),
                file_ref("file3", "web-file1.nvram", 8)],
               [disk("vmdisk1", size_of["a"] // MIB, "file1", "byte * 2^20", 'ovf:populatedSize="1048576"'),
                disk("vmdisk2", size_of["b"], "file2")],
               system("web", cpu(4, 2), memory(2000), controller(3, 6, "VirtualSCSI"), controller(4, 20, "vmware.sata.ahci"),
                      disk_item(10, "ovf:/disk/vmdisk1", 3, 0), disk_item(11, "ovf:/disk/vmdisk2", 4, 0),
                      nic(7, "VM Network", mac="00:50:56:aa:00:01"), nic(8, "Lab", "E1000", mac="00:50:56:aa:00:02"),
                      in_hardware='<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>'
                                  '<vmw:Config ovf:required="false" vmw:key="bootOptions.efiSecureBootEnabled" vmw:value="true"/>',
                      after="<AnnotationSection><Info>i</Info><Annotation>Serves the web</Annotation></AnnotationSection>"),
               networks=("VM Network", "Lab"))
two_members = [("web.ovf", two), ("web-disk1.vmdk", A), ("web-disk2.vmdk", B), ("web-file1.nvram", b"MRVN\0\0\0\0")]
vmware = dict(vm="web", disks=["a.raw", "b.raw"], nics=[["00:50:56:aa:00:01", "virtio"], ["00:50:56:aa:00:02", "e1000"]],
              domain={"cpu.cores": 2, "cpu.sockets": 2, "memory.guest": "2000Mi", "firmware.bootloader.efi.secureBoot": True})
case("vmware-sha256", tar([two_members[0], ("web.mf", manifest(two_members))] + two_members[1:]), **vmware)
case("vmware-sha1", tar([two_members[0], ("web.mf", manifest(two_members, "SHA1"))] + two_members[1:]), **vmware)
case("vmware-sha512", tar([two_members[0], ("web.mf", manifest(two_members, "SHA512"))] + two_members[1:]), **vmware)
case("no-manifest", tar(two_members), **vmware)
case("manifest-last", tar(two_members + [("web.mf", manifest(two_members))]), **vmware)
case("disks-swapped", tar([two_members[i] for i in (0, 2, 3, 1)]), **vmware)
for name, form in (("pax", tarfile.PAX_FORMAT), ("gnu", tarfile.GNU_FORMAT)):
    long = "a-directory-of-a-long-name/" * 5 + "dïsk.vmdk"
    case("tar-" + name, tar([("vm.ovf", simple(file=long, size=len(A))), (long, A)], form), disks=["a.raw"])
case("tar-base256", base256_tar([("vm.ovf", simple(size=len(A))), ("disk1.vmdk", A)]), disks=["a.raw"])
# govc writes the capacity of all disks where the size of a file is to be.
case("size-wrong", tar([("vm.ovf", simple(size=len(A) + 1)), ("disk1.vmdk", A)]), disks=["a.raw"])
case("size-wrong-beside", simple(size=123), "size-wrong-beside/vm.ovf", disks=["a.raw"])
write("size-wrong-beside/disk1.vmdk", A)
case("dot-names", tar([("./vm.ovf", simple(size=len(A))), ("./disk1.vmdk", A)]), disks=["a.raw"])
case("descriptor-last", tar([("disk1.vmdk", A), ("vm.ovf", simple(size=len(A)))]), disks=["a.raw"])

vbox = envelope([file_ref("file1", "box-disk001.vmdk")], [disk("vmdisk1", size_of["c"], "file1", extra='vbox:uuid="0a1b"')],
                '<VirtualSystem ovf:id="box"><Info>A virtual machine</Info><OperatingSystemSection ovf:id="96"><Info>k</Info>'
                '<Description>Debian_64</Description><vbox:OSType ovf:required="false">Debian_64</vbox:OSType></OperatingSystemSection>'
                '<VirtualHardwareSection><Info>hw</Info>' +
                rasd(Caption="2 virtual CPU", Description="Number of virtual CPUs", ElementName="2 virtual CPU", InstanceID=1, ResourceType=3,
                     VirtualQuantity=2) +
                rasd(AllocationUnits="MegaBytes", Caption="512 MB of memory", ElementName="512 MB", InstanceID=2, ResourceType=4,
                     VirtualQuantity=512) +
                controller(3, 5, "PIIX4") + controller(5, 20, "AHCI") +
                rasd(AddressOnParent=0, Caption="disk1", ElementName="disk1", HostResource="/disk/vmdisk1", InstanceID=9, Parent=5,
                     ResourceType=17) +
                rasd(AutomaticAllocation="true", Caption="Ethernet adapter on 'NAT'", Connection="NAT", ElementName="nic", InstanceID=10,
                     ResourceSubType="E1000", ResourceType=10) +
                '</VirtualHardwareSection><vbox:Machine ovf:required="false" version="1.19" name="box"><Hardware><Firmware type="EFI"/>'
                '<Network><Adapter slot="0" enabled="true" MACAddress="080027A1B2C3" type="82540EM"/>'
                '<Adapter slot="1" enabled="false" MACAddress="080027FFFFFF"/></Network></Hardware></vbox:Machine></VirtualSystem>',
                networks=("NAT",))
vbox_members = [("box.ovf", vbox), ("box-disk001.vmdk", C)]
case("virtualbox", tar(vbox_members + [("box.mf", manifest(vbox_members, "SHA1"))]), vm="box", disks=["c.raw"],
     nics=[["08:00:27:a1:b2:c3", "e1000"]], domain={"cpu.sockets": 2, "memory.guest": "512Mi", "firmware.bootloader.efi.secureBoot": False})

ovirt = (b'<?xml version="1.0" encoding="UTF-8"?><ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1/" '
         b'xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" '
         b'xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" '
         b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ovf:version="4.4.0.0"><References><File ovf:id="d1" ovf:href="img1" '
         b'ovf:size="%d" ovf:description="Active VM"/></References><NetworkSection><Info>n</Info><Network ovf:name="ovirtmgmt"/>'
         b'</NetworkSection><Section xsi:type="ovf:DiskSection_Type"><Info>d</Info><Disk ovf:diskId="d1" ovf:size="1" ovf:capacity="%d" '
         b'ovf:fileRef="d1" ovf:volume-format="RAW" ovf:disk-interface="VirtIO_SCSI" ovf:boot="true"/></Section>'
         b'<Content ovf:id="out" xsi:type="ovf:VirtualSystem_Type"><Name>ov</Name><BiosType>3</BiosType>'
         b'<Section xsi:type="ovf:VirtualHardwareSection_Type"><Info>4 CPU, 1024 Memory</Info>'
         b'<Item><rasd:Caption>4 virtual cpu</rasd:Caption><rasd:InstanceId>1</rasd:InstanceId><rasd:ResourceType>3</rasd:ResourceType>'
         b'<rasd:num_of_sockets>2</rasd:num_of_sockets><rasd:cpu_per_socket>2</rasd:cpu_per_socket>'
         b'<rasd:threads_per_cpu>1</rasd:threads_per_cpu></Item>'
         b'<Item><rasd:Caption>1024 MB of memory</rasd:Caption><rasd:InstanceId>2</rasd:InstanceId><rasd:ResourceType>4</rasd:ResourceType>'
         b'<rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>'
         b'<Item><rasd:Caption>ov_Disk1</rasd:Caption><rasd:InstanceId>d1</rasd:InstanceId><rasd:ResourceType>17</rasd:ResourceType>'
         b'<rasd:HostResource>d1</rasd:HostResource></Item>'
         b'<Item><rasd:Caption>nic1</rasd:Caption><rasd:InstanceId>n1</rasd:InstanceId><rasd:ResourceType>10</rasd:ResourceType>'
         b'<rasd:ResourceSubType>3</rasd:ResourceSubType><rasd:Connection>ovirtmgmt</rasd:Connection><rasd:Linked>true</rasd:Linked>'
         b'<rasd:MACAddress>56:6f:00:00:00:07</rasd:MACAddress></Item></Section></Content></ovf:Envelope>' % (size_of["b"], size_of["b"] // (1 << 30) or size_of["b"]))
case("ovirt", tar([("vm.ovf", ovirt), ("img1", RAW_B)]), vm="ov", disks=["b.raw"], nics=[["56:6f:00:00:00:07", "virtio"]],
     domain={"cpu.cores": 2, "cpu.sockets": 2, "memory.guest": "1024Mi"})

ovf2 = envelope([file_ref("file1", "disk1.vmdk", len(A))], [disk("d1", size_of["a"], "file1")],
                system("two", cpu(1), rasd(VirtualQuantityUnits="byte * 2^30", ElementName="m", InstanceID=2, ResourceType=4, VirtualQuantity=1),
                       controller(3, 20, "AHCI"),
                       rasd("StorageItem", prefix="sasd", AddressOnParent=0, ElementName="disk", HostResource="ovf:/disk/d1", InstanceID=10, Parent=3,
                            ResourceType=17),
                       rasd("EthernetPortItem", prefix="epasd", Address="00-50-56-aa-00-09", Connection="VM Network", ElementName="nic", InstanceID=11,
                            ResourceSubType="virtio", ResourceType=10)).replace("vmw:osType=\"debian12_64Guest\"", "")
                .replace("<vssd:VirtualSystemType>vmx-19</vssd:VirtualSystemType>", ""), ns=NS2)
case("ovf-2", tar([("two.ovf", ovf2), ("disk1.vmdk", A)]), vm="two", disks=["a.raw"], nics=[["00:50:56:aa:00:09", "virtio"]],
     domain={"memory.guest": "1024Mi"})

raw_b = envelope([file_ref("file1", "disk.img", len(RAW_B))], [disk("d", size_of["b"], "file1", format="http://example.com/raw")],
                 system("vm", *HARDWARE, disk_item(10, "ovf:/disk/d", 3, 0)))
case("raw-disk", tar([("vm.ovf", raw_b), ("disk.img", RAW_B)]), disks=["b.raw"])
packed = gzip.compress(A)
case("gzip-member", tar([("vm.ovf", simple(file="disk1.vmdk.gz", size=len(packed), extra_file='ovf:compression="gzip"')), ("disk1.vmdk.gz", packed)]),
     disks=["a.raw"])
packed_raw = gzip.compress(RAW_B[:MIB]) + gzip.compress(RAW_B[MIB:])
case("gzip-raw", tar([("vm.ovf", envelope([file_ref("file1", "d.gz", len(packed_raw), 'ovf:compression="gzip"')],
                                          [disk("d", size_of["b"], "file1")],
                                          system("vm", *HARDWARE, disk_item(10, "ovf:/disk/d", 3, 0)))), ("d.gz", packed_raw)]), disks=["b.raw"])
CHUNK = len(A) // 3 + 7
parts = [("disk1.vmdk.%09d" % i, A[i * CHUNK:(i + 1) * CHUNK]) for i in range(3)]
chunked = simple(size=len(A), extra_file='ovf:chunkSize="%d"' % CHUNK)
case("chunks", tar([("vm.ovf", chunked), ("vm.mf", manifest([("vm.ovf", chunked)] + parts))] + parts), disks=["a.raw"])
unsized = simple(extra_file='ovf:chunkSize="%d"' % CHUNK)
case("chunks-beside", unsized, "chunks-beside/vm.ovf", disks=["a.raw"])
for name, data in parts:
    write("chunks-beside/" + name, data)
case("beside", two, "beside/web.ovf", **vmware)
for name, data in two_members[1:] + [("web.mf", manifest(two_members))]:
    write("beside/" + name, data)

key, cert = os.path.join(tmp, "key.pem"), os.path.join(tmp, "cert.pem")
run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Example Publisher", "-days", "30", "-keyout", key, "-out", cert, quiet=True)


def signed(mf, algorithm="SHA256"):
    path = os.path.join(tmp, "signed.mf")
    with open(path, "wb") as f:
        f.write(mf)
    signature = subprocess.run(["openssl", "dgst", "-" + algorithm.lower(), "-sign", key, path], check=True, stdout=subprocess.PIPE).stdout
    return ("%s(vm.mf)= %s\n" % (algorithm, signature.hex())).encode() + slurp(cert)


plain = simple(size=len(A))
plain_mf = manifest([("vm.ovf", plain), ("disk1.vmdk", A)])
case("signed", tar([("vm.ovf", plain), ("vm.mf", plain_mf), ("vm.cert", signed(plain_mf)), ("disk1.vmdk", A)]), disks=["a.raw"],
     says=["signed by /CN=Example Publisher"])
case("manifest-partial", tar([("vm.ovf", plain), ("vm.mf", manifest([("vm.ovf", plain)])), ("disk1.vmdk", A)]), disks=["a.raw"],
     says=["does not name disk1.vmdk"])
case("manifest-absent", tar([("vm.ovf", plain), ("vm.mf", manifest([("vm.ovf", plain), ("disk1.vmdk", A), ("tools.iso", b"x")])), ("disk1.vmdk", A)]),
     disks=["a.raw"], says=["names what is not in the package: tools.iso"], stream=False) # who cannot see the end cannot tell

several = envelope([file_ref("f1", "d1.vmdk", len(A)), file_ref("f2", "d2.vmdk", len(B))],
                   [disk("d1", size_of["a"], "f1"), disk("d2", size_of["b"], "f2")],
                   '<VirtualSystemCollection ovf:id="all"><Info>i</Info><VirtualSystemCollection ovf:id="inner"><Info>i</Info>',
                   system("one", *HARDWARE, disk_item(10, "ovf:/disk/d1", 3, 0), id="vm-one"),
                   "</VirtualSystemCollection>",
                   system("two", *HARDWARE, disk_item(10, "ovf:/disk/d2", 3, 0), id="vm-two"), "</VirtualSystemCollection>")
several = tar([("all.ovf", several), ("d1.vmdk", A), ("d2.vmdk", B)])
case("collection-by-name", several, vm="two", disks=["b.raw"])
case("collection-by-id", url="collection-by-name.ova", vm="vm-one", disks=["a.raw"])
case("collection-nobody", url="collection-by-name.ova", vm="three", error="one (vm-one), two (vm-two)")

options = envelope([file_ref("f1", "disk1.vmdk", len(A))], [disk("vmdisk1", size_of["a"], "f1")],
                   system("vm", cpu(1, attributes='ovf:configuration="small"'), cpu(8, 4, attributes='ovf:configuration="large"'), memory(1024),
                          memory(4096, attributes='ovf:configuration="large"'), memory(64, attributes='ovf:bound="min"'),
                          controller(3, 6, "VirtualSCSI"), disk_item(10, "ovf:/disk/vmdisk1", 3, 0)),
                   sections='<DeploymentOptionSection><Info>i</Info><Configuration ovf:id="small"><Label>S</Label></Configuration>'
                            '<Configuration ovf:default="true" ovf:id="large"><Label>L</Label></Configuration></DeploymentOptionSection>')
case("deployment-options", tar([("vm.ovf", options), ("disk1.vmdk", A)]), disks=["a.raw"], says=["small, large", "default one, large"],
     domain={"cpu.cores": 4, "cpu.sockets": 2, "memory.guest": "4096Mi"})
case("empty-disk", tar([("vm.ovf", envelope([file_ref("f1", "disk1.vmdk", len(A))],
                                            [disk("d1", size_of["a"], "f1"), disk("d2", 2, unit="MegaBytes")],
                                            system("vm", *HARDWARE, disk_item(10, "ovf:/disk/d1", 3, 0), disk_item(11, "ovf:/disk/d2", 3, 1)))),
                        ("disk1.vmdk", A)]), disks=["a.raw", "empty.raw"])
case("capacity-property", tar([("vm.ovf", envelope([file_ref("f1", "disk1.vmdk", len(A))], [disk("d1", "${size}", "f1", "byte * 2^20")],
                                                   system("vm", *HARDWARE, disk_item(10, "ovf:/disk/d1", 3, 0),
                                                          before='<ProductSection><Info>p</Info><Property ovf:key="size" ovf:type="int" '
                                                                 'ovf:value="%d"/></ProductSection>' % (size_of["a"] // MIB)))),
                              ("disk1.vmdk", A)]), disks=["a.raw"])
case("file-by-name", tar([("vm.ovf", envelope([file_ref("f1", "disk1.vmdk")], [disk("d1", size_of["a"], "disk1.vmdk")],
                                              system("vm", *HARDWARE, disk_item(10, "ovf:/file/f1", 3, 0)))), ("disk1.vmdk", A)]), disks=["a.raw"])
case("escaped-name", tar([("vm.ovf", simple(file="my%20disk%201.vmdk", size=len(A))), ("my disk 1.vmdk", A)]), disks=["a.raw"])
case("utf-16", tar([("vm.ovf", '<?xml version="1.0" encoding="UTF-16"?>'.encode("utf-16") + simple(size=len(A)).decode().split("?>", 1)[1].encode("utf-16-le")),
                    ("disk1.vmdk", A)], tarfile.PAX_FORMAT), disks=["a.raw"])
units = envelope([file_ref("f1", "disk1.vmdk", len(A))], [disk("d1", size_of["a"] // 1024, "f1", "byte * 2^10")],
                 system("vm", cpu(1), memory(2, "GigaBytes"), controller(3, 6, "lsilogic"), controller(4, 5), controller(5, 20, "vmware.nvme.controller"),
                        disk_item(12, "ovf:/disk/d1", 5, 0)))
case("units-nvme", tar([("vm.ovf", units), ("disk1.vmdk", A)]), disks=["a.raw"], domain={"memory.guest": "2048Mi", "devices.disks.0.disk.bus": "virtio"})
order = envelope([file_ref("f1", "1.vmdk", len(A)), file_ref("f2", "2.vmdk", len(B)), file_ref("f3", "3.vmdk", len(C))],
                 [disk("d1", size_of["a"], "f1"), disk("d2", size_of["b"], "f2"), disk("d3", size_of["c"], "f3")],
                 system("vm", cpu(1), memory(512), controller(3, 6, "lsilogicsas"), disk_item(10, "ovf:/disk/d1", 3, 5),
                        disk_item(11, "ovf:/disk/d2", 3, 1), disk_item(12, "ovf:/disk/d3", 3, 0)))
case("order-on-controller", tar([("vm.ovf", order), ("1.vmdk", A), ("2.vmdk", B), ("3.vmdk", C)]), disks=["c.raw", "b.raw", "a.raw"],
     domain={"devices.disks.0.disk.bus": "scsi", "devices.disks.0.bootOrder": 1})

# Formats that are read by place: an error where the server sends no parts of files.
def image(disk, format, *options):
    out = os.path.join(tmp, "%s.%s" % (disk, format))
    run("qemu-img", "convert", "-f", "raw", "-O", format, *options, os.path.join(raws, disk + ".raw"), out)
    return slurp(out)


for name, data in (("qcow2", image("a", "qcow2")), ("qcow2-compressed", image("a", "qcow2", "-c")), ("sparse-vmdk", vmdk(os.path.join(raws, "a.raw"), "monolithicSparse")),
                   ("vdi", image("a", "vdi")), ("vhdx", image("a", "vhdx"))):
    members = [("vm.ovf", simple(file="disk.img", size=len(data))), ("disk.img", data)]
    case("by-place-" + name, tar([members[0], ("vm.mf", manifest(members)), members[1]]), disks=["a.raw"], error_stream="range requests")
two_gb = os.path.join(tmp, "two.vmdk")
run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", os.path.join(raws, "a.raw"), two_gb)
case("by-place-extents", envelope([file_ref("f1", "two.vmdk"), file_ref("f2", "two-s001.vmdk")], [disk("d", size_of["a"], "f1")],
                                  system("vm", *HARDWARE, disk_item(10, "ovf:/disk/d", 3, 0))), "extents/vm.ovf", disks=["a.raw"], error_stream="range requests")
write("extents/two.vmdk", slurp(two_gb))
write("extents/two-s001.vmdk", slurp(os.path.join(tmp, "two-s001.vmdk")))
backed = os.path.join(tmp, "backed.qcow2")
run("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", backed, str(size_of["a"]))
qcow2_backed = slurp(backed)

# --- as they should not be --------------------------------------------------------------------------------------------

good = [("vm.ovf", plain), ("disk1.vmdk", A)]


def hostile(name, data, error, **more):
    case("bad-" + name, data, error=error, **more)


damaged = bytearray(A)
damaged[len(A) // 2] ^= 1
wrong_mf = manifest([("vm.ovf", plain), ("disk1.vmdk", B)])
hostile("manifest-disk", tar([good[0], ("vm.mf", wrong_mf), good[1]]), "disk1.vmdk is not what the package's manifest says")
hostile("manifest-late", tar(good + [("vm.mf", wrong_mf)]), "disk1.vmdk is not what the package's manifest says")
hostile("manifest-descriptor", tar([good[0], ("vm.mf", manifest([("vm.ovf", b"x")])), good[1]]), "vm.ovf is not what the package's manifest says")
hostile("manifest-syntax", tar([good[0], ("vm.mf", b"disk1.vmdk is fine\n"), good[1]]), "line 1 of the manifest is not understood")
hostile("signature", tar([good[0], ("vm.mf", plain_mf), ("vm.cert", signed(wrong_mf)), good[1]]), "is not of this manifest")
hostile("name-up", tar([good[0], ("../disk1.vmdk", A)]), "leads out of the archive", stream=False)
hostile("name-absolute", tar([good[0], ("/etc/disk1.vmdk", A)]), "leads out of the archive", stream=False)
hostile("symlink", odd_tar([good[0], ("disk1.vmdk", b"")], tarfile.SYMTYPE, "/etc/passwd"), "link")
hostile("hard-link", odd_tar([good[0], ("disk1.vmdk", b"")], tarfile.LNKTYPE, "vm.ovf"), "link")
hostile("device", odd_tar([good[0], ("disk1.vmdk", b"")], tarfile.BLKTYPE), "disk1.vmdk")
hostile("fifo", odd_tar([good[0], ("disk1.vmdk", b"")], tarfile.FIFOTYPE), "disk1.vmdk")
hostile("twice", tar(good + [("disk1.vmdk", B)]), "two members of the name", stream=False)
hostile("not-there", tar([good[0]]), "lacks the file disk1.vmdk")
hostile("chunk-not-there", tar([("vm.ovf", chunked)] + parts[:2]), "disk1.vmdk.000000002")
hostile("no-descriptor", tar([good[1]]), "no descriptor")
hostile("no-archive", b"<html><body>Please log in</body></html>", "what came is a web page")
hostile("no-archive-html5", b"\n <!-- -->\n<!DOCTYPE HTML>\n<meta charset=utf-8><title>Files</title><p>Please <br> log in", "what came is a web page")
hostile("text", b"This is not an archive. " * 100, "the file is no OVA")
hostile("nothing", b"", "the file is empty")
hostile("cut-in-disk", tar(good)[:-len(A) // 2 - 1024], "ends early, in the middle of a file")
hostile("zipped", b"PK\3\4" + tar(good), "a ZIP archive")
hostile("in-directory", tar([("app/" + n, d) for n, d in good]), "pack the files, not the directory", error_stream="lacks the file disk1.vmdk")
hostile("compressed", gzip.compress(tar(good)), "compressed (gzip) as a whole")
hostile("entity-file", tar([("vm.ovf", plain.replace(b"?>", b'?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>', 1)
                             .replace(b"<Name>vm", b"<Name>&e;")), good[1]]), "OVF descriptor cannot be read")
lol = b"".join(b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10 if i else b"ha") for i in range(12))
hostile("entity-bomb", tar([("vm.ovf", plain.replace(b"?>", b"?><!DOCTYPE x [" + lol + b"]>", 1).replace(b"<Name>vm", b"<Name>&l11;")), good[1]]),
        "OVF descriptor cannot be read")
hostile("deep", tar([("vm.ovf", b"<Envelope>" + b"<a>" * 100000 + b"</a>" * 100000 + b"</Envelope>"), good[1]]), "OVF descriptor cannot be read")
hostile("large-descriptor", tar([("vm.ovf", plain + b" " * (17 * MIB)), good[1]]), "larger than")
hostile("no-envelope", tar([("vm.ovf", b"<Other/>"), good[1]]), "not <Envelope>")
hostile("href-url", tar([("vm.ovf", simple(file="http://127.0.0.1/disk.vmdk")), good[1]]), "elsewhere")
hostile("href-file", tar([("vm.ovf", simple(file="file:///etc/passwd")), good[1]]), "elsewhere")
hostile("href-up", tar([("vm.ovf", simple(file="../../etc/passwd")), good[1]]), "may not leave the package")
hostile("href-escaped", tar([("vm.ovf", simple(file="%2e%2e/%2e%2e/etc/passwd")), good[1]]), "may not leave the package")
hostile("href-absolute", tar([("vm.ovf", simple(file="/etc/passwd")), good[1]]), "may not leave the package")
hostile("endless", tar([("vm.ovf", simple()), ("disk1.vmdk", A + b"\0" * (64 * MIB + size_of["a"] * 5 // 4))]), "can need")
hostile("chunks-size", tar([("vm.ovf", simple(size=len(A) + CHUNK, extra_file='ovf:chunkSize="%d"' % CHUNK))] + parts), "descriptor")
hostile("chunk-size", tar([("vm.ovf", chunked), parts[0], (parts[1][0], parts[1][1] + b"x" * 512), parts[2]]), "descriptor says")
hostile("capacity-small", tar([("vm.ovf", simple(capacity=MIB)), good[1]]), "1048576")
hostile("capacity-large", tar([("vm.ovf", simple(capacity=64 * MIB)), good[1]]), "67108864")
hostile("capacity-huge", tar([("vm.ovf", simple(capacity=1 << 63)), good[1]]), "capacity")
hostile("capacity-negative", tar([("vm.ovf", simple(capacity=-5)), good[1]]), "capacity")
hostile("capacity-overflow", tar([("vm.ovf", envelope([file_ref("f", "disk1.vmdk")], [disk("d", 1 << 50, "f", "byte * 2^40")],
                                                      system("vm", *HARDWARE, disk_item(10, "ovf:/disk/d", 3, 0)))), good[1]]), "capacity")
hostile("no-cpus", tar([("vm.ovf", simple(items=(cpu(0), memory(512), controller(3, 6)))), good[1]]), "processors")
hostile("memory-unit", tar([("vm.ovf", simple(items=(cpu(1), memory(512, "parsec"), controller(3, 6)))), good[1]]), "parsec")
hostile("memory-huge", tar([("vm.ovf", simple(items=(cpu(1), memory("9" * 30), controller(3, 6)))), good[1]]), "memory")
hostile("disk-unknown", tar([("vm.ovf", envelope([], [], system("vm", *HARDWARE, disk_item(10, "ovf:/disk/nobody", 3, 0)))), good[1]]),
        "which is no disk of the package")
hostile("disk-twice", tar([("vm.ovf", envelope([file_ref("f", "disk1.vmdk")], [disk("d", size_of["a"], "f")],
                                               system("vm", *HARDWARE, disk_item(10, "ovf:/disk/d", 3, 0), disk_item(11, "ovf:/disk/d", 3, 1)))),
                           good[1]]), "twice")
hostile("parent-disk", tar([("vm.ovf", simple(extra_disk='ovf:parentRef="base"')), good[1]]), "parentRef")
hostile("compression", tar([("vm.ovf", simple(extra_file='ovf:compression="bzip2"')), good[1]]), "only gzip is supported")
bomb = gzip.compress(b"\0" * (size_of["a"] * 2 + 80 * MIB))
hostile("gzip-bomb", tar([("vm.ovf", simple(file="d.gz", extra_file='ovf:compression="gzip"')), ("d.gz", bomb)]), "longer than the disk's")
hostile("gzip-cut", tar([("vm.ovf", simple(file="d.gz", extra_file='ovf:compression="gzip"')), ("d.gz", packed[:len(packed) // 2])]), "d.gz")
hostile("vmdk-cut", tar([("vm.ovf", simple()), ("disk1.vmdk", A[:len(A) // 2])]), "before its end", stream=False)
hostile("vmdk-grain", tar([("vm.ovf", simple()), ("disk1.vmdk", bytes(damaged))]), "(Hard disk 10, disk1.vmdk): grain 51", stream=False)
hostile("gzip-unsaid", tar([("vm.ovf", simple()), ("disk1.vmdk", packed)]), "compressed as the descriptor does not say")
hostile("html-disk", tar([("vm.ovf", simple()), ("disk1.vmdk", b"<html>" + b" " * 4096)]), "no disk but HTML")
hostile("vmdk-text", tar([("vm.ovf", simple()), ("disk1.vmdk", b'# Disk DescriptorFile\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n' + b"\0" * 512)]), "not among the descriptor's References", error_stream="range requests")
hostile("qcow2-backing", tar([("vm.ovf", simple(file="d.qcow2")), ("d.qcow2", qcow2_backed)]), "etc/passwd", error_stream="range requests")
hostile("qcow2-manifest", tar([("vm.ovf", simple(file="d.qcow2")), ("vm.mf", manifest([("d.qcow2", B)])), ("d.qcow2", image("a", "qcow2"))]),
        "d.qcow2 is not what the package's manifest says", error_stream="range requests")
hostile("qcow2-capacity", tar([("vm.ovf", simple(file="d.qcow2", capacity=MIB)), ("d.qcow2", image("a", "qcow2"))]), "1048576", error_stream="range requests")
hostile("chunk-bomb", tar([("vm.ovf", simple(size=1 << 60, extra_file='ovf:chunkSize="1"')), good[1]]), "impossible")
hostile("not-found", None, "404", url="nowhere.ova")

with open(os.path.join(top, "cases.json"), "w") as f:
    json.dump(cases, f, indent=1)
print("%d packages: %d to be imported, %d to be refused" % (len(cases), sum("disks" in c for c in cases), sum("error" in c for c in cases)))
