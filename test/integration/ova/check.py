#!/usr/bin/env python3
"""Manifests for the cases of corpus.py, and a look at what an import of them left.

    check.py manifests CORPUS URL [stream]      Secrets, OvaSources and imports for `vm-import-controller import`
    check.py results CORPUS OUT [stream]        compares; a line a case that is not as it should be, exit status 1

stream: the server does not send parts of files."""
import json, os, subprocess, sys
import yaml

command, corpus, where = sys.argv[1:4]
stream = "stream" in sys.argv[4:]
cases = [dict(c, error=c["error_stream"]) if stream and "error_stream" in c else c for c in json.load(open(os.path.join(corpus, "cases.json"))) if not stream or c.get("stream", True)]
GROUP = "migration.harvesterhci.io/v1beta1"


def manifests():
    for c in cases:
        yield {"apiVersion": GROUP, "kind": "OvaSource", "metadata": {"name": c["name"], "namespace": "default"},
               "spec": {"url": where + "/" + c["url"], "httpTimeoutSeconds": 10}}
        yield {"apiVersion": GROUP, "kind": "VirtualMachineImport", "metadata": {"name": c["name"], "namespace": "default"},
               "spec": {"virtualMachineName": c["vm"], "targetVirtualMachineName": c["name"],
                        "sourceCluster": {"apiVersion": GROUP, "kind": "OvaSource", "name": c["name"], "namespace": "default"},
                        "networkMapping": [{"sourceNetwork": n, "destinationNetwork": "default/lan"} for n in c.get("networks", [])]}}


def at(value, path):
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else (value or {}).get(key)
    return value


def problems_of(c):
    status = yaml.safe_load(open("%s/objects/virtualmachineimport-default-%s.yaml" % (where, c["name"]))).get("status") or {}
    source = yaml.safe_load(open("%s/objects/ovasource-default-%s.yaml" % (where, c["name"]))).get("status") or {}
    said = " ".join([status.get("message") or "", source.get("message") or ""] +
                    [x.get("message") or "" for x in (status.get("importConditions") or []) + (status.get("conditions") or [])])
    directory = os.path.join(where, c["name"])
    if "error" in c:
        wanted = c["error"]
        if status.get("importStatus") in ("virtualMachineRunning", "virtualMachineCreated", "diskImagesReady"):
            yield "it was imported"
        if wanted not in said:
            yield "it says \"%s\", not \"%s\"" % (said, wanted)
        if not said.strip():
            yield "it says nothing"
        if os.path.exists(os.path.join(directory, "virtualmachine.yaml")):
            yield "there is a machine"
        return
    if status.get("importStatus") != "virtualMachineRunning":
        yield "it is \"%s\": %s" % (status.get("importStatus"), said)
        return
    events = open(os.path.join(where, "log")).read()
    for part in c.get("says", []):
        if part not in said and part not in events:
            yield "it does not say \"%s\" but \"%s\"" % (part, said)
    copies = sorted(f for f in os.listdir(directory) if f.endswith(".raw"))
    if len(copies) != len(c["disks"]):
        yield "%d disks, not %d" % (len(copies), len(c["disks"]))
    for i, original in enumerate(c["disks"]):
        if subprocess.run(["cmp", "-s", "%s/disk-%d.raw" % (directory, i), "%s/raw/%s" % (corpus, original)]).returncode:
            yield "disk %d is not %s" % (i, original)
        elif status["diskImportStatus"][i].get("diskSize") != os.path.getsize("%s/raw/%s" % (corpus, original)):
            yield "disk %d has the size %s" % (i, status["diskImportStatus"][i].get("diskSize"))
    domain = yaml.safe_load(open(os.path.join(directory, "virtualmachine.yaml")))["spec"]["template"]["spec"]["domain"]
    for path, value in c.get("domain", {}).items():
        if at(domain, path) != value:
            yield "%s is %s, not %s" % (path, at(domain, path), value)
    for i, (mac, model) in enumerate(c.get("nics", [])):
        have = domain["devices"]["interfaces"][i]
        if [have.get("macAddress"), have.get("model")] != [mac, model]:
            yield "interface %d is %s" % (i, have)


def networks():
    """Every network of the cases is mapped."""
    named = {"vmware-sha256": ["VM Network", "Lab"], "virtualbox": ["NAT"], "ovirt": ["ovirtmgmt"], "ovf-2": ["VM Network"]}
    for c in cases:
        if c.get("nics"):
            c["networks"] = named.get(c["name"], ["VM Network", "Lab"])


networks()
if command == "manifests":
    yaml.safe_dump_all(manifests(), sys.stdout)
    sys.exit(0)
wrong = 0
for c in cases:
    for problem in problems_of(c):
        wrong += 1
        print("%s: %s" % (c["name"], problem))
print("%d cases, %d problems" % (len(cases), wrong))
sys.exit(1 if wrong or not cases else 0)
