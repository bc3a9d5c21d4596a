"""Compares what becomes of the machines of mapping.json with what is wanted: mapping.py PROBE TABLE GOVC-INFO, for test_vmware_mapping.sh."""
import json, subprocess, sys

IMPORTED = {"migration.harvesterhci.io/imported": "true"}
TIMERS = {"utc": {}, "timer": {"hpet": {"present": False}, "pit": {"tickPolicy": "delay"}, "rtc": {"tickPolicy": "catchup"}, "hyperv": {}}}
VISTA = {"relaxed": {}, "vapic": {}, "spinlocks": {"spinlocks": 8191}}
TEN = VISTA | {"vpindex": {}, "runtime": {}, "reset": {}, "synic": {}, "synictimer": {"direct": {}}, "frequencies": {}, "tlbflush": {}, "ipi": {}}

def merge(target, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result

def wanted(case):
    """The whole KubeVirt object of a case."""
    vm, want = case["vm"], case["want"]
    cores, sockets = want.get("cpu", (1, 1))
    memory = f'{want.get("memory", vm.get("memoryMB", 1024))}Mi'
    disks, volumes, interfaces, networks = [], [], [], []
    for i, bus in enumerate(want.get("buses", ["sata"])):
        disks.append({"name": f"disk-{i}", "bootOrder": i + 1, "disk": {"bus": bus}})
        volumes.append({"name": f"disk-{i}", "persistentVolumeClaim": {"claimName": f"image-{i}"}})
    for i, (mac, model, network) in enumerate(want.get("nics", [])):
        interfaces.append({"name": f"migrated-{i}", "macAddress": mac, "model": model, "bridge": {}})
        networks.append({"name": f"migrated-{i}", "multus": {"networkName": network}})
    if not interfaces:
        interfaces = [{"name": "pod-network", "model": want.get("pod", "virtio"), "masquerade": {}}]
        networks = [{"name": "pod-network", "pod": {}}]
    domain = {
        "cpu": {"cores": cores, "sockets": sockets, "threads": 1}, "memory": {"guest": memory},
        "resources": {"limits": {"cpu": str(cores * sockets), "memory": memory}, "requests": {"memory": memory}},
        "features": {"acpi": {"enabled": True}}, "firmware": {"bootloader": {"bios": {}}},
        "devices": {"disks": disks, "interfaces": interfaces}}
    if windows := want.get("windows"):
        domain["clock"] = TIMERS
        if windows != "old":
            domain["features"] |= {"apic": {}, "hyperv": TEN if windows == "ten" else VISTA}
    whole = {
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": "vm", "namespace": "default", "labels": IMPORTED | ({"harvesterhci.io/os": want["os"]} if "os" in want else {}),
                     "annotations": {"migration.harvesterhci.io/virtualmachineimport": "default/vm", "migration.harvesterhci.io/virtualmachineimport-uid": "u"}},
        "spec": {"runStrategy": "RerunOnFailure", "template": {
            "metadata": {"labels": IMPORTED | {"harvesterhci.io/vmName": "vm"}},
            "spec": {"evictionStrategy": "LiveMigrateIfPossible", "domain": merge(domain, want.get("domain", {})), "networks": networks, "volumes": volumes}}}}
    return merge(whole, want.get("patch", {}))

def show(value):
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)

def complaints(case, got):
    want, model = case["want"], got["model"]
    if got["vm"] != wanted(case):
        yield f'the object is\n{show(got["vm"])}\nwanted\n{show(wanted(case))}'
    told = {"problems": got["problems"], "notes": (got["notes"] or "").split("; ") if got["notes"] else []}
    for kind in told:
        if len(told[kind]) < len(want.get(kind, [])) or (kind == "problems" or kind not in want) and len(told[kind]) != len(want.get(kind, [])):
            yield f"{kind} are {told[kind]}, wanted {want.get(kind, [])}"
        for part in want.get(kind, []):
            if not any(part in one for one in told[kind]):
                yield f'"{part}" is not in the {kind} {told[kind]}'
    if "capacities" in want and [d["capacity"] >> 20 for d in model["disks"]] != want["capacities"]:
        yield f'disks are of {[d["capacity"] >> 20 for d in model["disks"]]} MiB'
    for kind, disk in zip(want.get("allocated", []), model["disks"]):
        # What no source tells is 0, and so is what holds nothing.
        if {"all": disk["allocated"] != disk["capacity"], "none": disk["allocated"], "part": not 0 < disk["allocated"] < disk["capacity"]}[kind]:
            yield f'{disk["label"]} takes {disk["allocated"]} of {disk["capacity"]} bytes, wanted {kind}'
    ours, theirs = seen(model), govc_seen(infos[model["sourceId"]])
    for key in ours:
        if ours[key] != theirs[key]:
            yield f"{key} is {ours[key]}, and {theirs[key]} in govc's view"
    for key, value in (want.get("model", {}) | ({"path": case["path"]} if "path" in case else {})).items():
        if model[key] != value:
            yield f"{key} is {model[key]}, wanted {value}"

def seen(model):
    """What govc tells too."""
    return {"name": model["name"], "cpus": model["vcpus"], "memory": model["memory"] >> 20, "guest": model["guestOs"], "efi": model["efi"], "power": model["power"],
            "annotation": model.get("description") or "", "disks": sorted((d["label"], d["capacity"]) for d in model["disks"]),
            "macs": [n["mac"] for n in model["nics"]], "cards": [n["label"] for n in model["nics"]]}

def govc_seen(info):
    config = info["config"]
    devices = config["hardware"]["device"]
    cards = sorted((d for d in devices if "macAddress" in d), key=lambda d: d["key"])
    return {"name": config["name"], "cpus": config["hardware"]["numCPU"], "memory": config["hardware"]["memoryMB"], "guest": config["guestId"], "efi": config.get("firmware") == "efi",
            "power": {"poweredOff": 1, "poweredOn": 2, "suspended": 3}[info["runtime"]["powerState"]], "annotation": config.get("annotation", ""),
            "disks": sorted((d["deviceInfo"]["label"], d["capacityInBytes"]) for d in devices if "capacityInBytes" in d),
            "macs": [d["macAddress"] for d in cards], "cards": [d["deviceInfo"]["label"] for d in cards]}

infos = {info["self"]["value"]: info for info in json.load(open(sys.argv[3]))["virtualMachines"]}
probe = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
if (answer := probe.stdout.readline()) != "ok\n":
    sys.exit(f"login: {answer}")
failed = 0
cases = json.load(open(sys.argv[2]))
for case in cases:
    name = case.get("name", case["vm"].get("name", case["case"]))
    probe.stdin.write("\t".join(["vmspec", name, case.get("folder", ""), json.dumps(case.get("spec", {}))]) + "\n")
    probe.stdin.flush()
    lines = [probe.stdout.readline()]
    while lines[-1] and lines[-1] != "ok\n" and not lines[-1].startswith("error "):
        lines.append(probe.stdout.readline())
    wrong = list(complaints(case, json.loads(lines[0]))) if lines[-1] == "ok\n" else lines
    for text in wrong:
        print(f'{case["case"]}: {text}')
    failed += bool(wrong)
probe.stdin.close()
print(f"{len(cases)} machines, {failed} of them wrong")
sys.exit(failed or probe.wait() or len(cases) < 40)
