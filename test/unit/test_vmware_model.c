// links: source/vmware api base PkgConfig::jansson PkgConfig::xml
/* What vSphere says of a machine, as a vm_model; what an export offers, matched with its disks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "source/vmware/check.h"
#include "source/vmware/device_url.h"
#include "source/vmware/model.h"
#include "json/codec.h"

#define PROPERTY(name, value) "<propSet><name>" name "</name>" value "</propSet>"
#define TEXT(name, value) PROPERTY(name, "<val xsi:type=\"xsd:string\">" value "</val>")
#define MACHINE(devices, more)                                                                             \
	"<objects xmlns=\"urn:vim25\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">"            \
	"<obj type=\"VirtualMachine\">vm-12</obj>" TEXT("name", "web") TEXT("config.hardware.numCPU", "4") \
		TEXT("config.hardware.memoryMB", "2049")                                                   \
			PROPERTY("config.hardware.device", "<val xsi:type=\"ArrayOfVirtualDevice\">" devices "</val>") more "</objects>"
#define CONTROLLER(type, key, bus) "<VirtualDevice xsi:type=\"" type "\"><key>" key "</key><busNumber>" bus "</busNumber></VirtualDevice>"
#define DISK(key, controller, unit, size)                                                                                      \
	"<VirtualDevice xsi:type=\"VirtualDisk\"><key>" key "</key><deviceInfo><label>Disk " key "</label></deviceInfo>"       \
	"<backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"/><controllerKey>" controller "</controllerKey><unitNumber>" unit \
	"</unitNumber>" size "</VirtualDevice>"
#define MIB "<capacityInKB>1024</capacityInKB>"
#define NIC(type, mac, backing)                                                                                                 \
	"<VirtualDevice xsi:type=\"" type "\"><backing " backing "</backing><connectable><startConnected>true</startConnected>" \
	"<connected>false</connected></connectable><macAddress>" mac "</macAddress></VirtualDevice>"

static xmlDoc *parse(const char *text)
{
	struct error *err = NULL;
	xmlDoc *doc = xml_parse(text, strlen(text), &err);

	if (!doc)
		fail_msg("%s", err->message);
	return doc;
}

static struct vm_model *model_of(const char *text, const json_t *networks)
{
	AUTO_XML xmlDoc *doc = parse(text);
	struct error *err = NULL;
	struct vm_model *m = vmware_model_of(xmlDocGetRootElement(doc), networks, "vm-12", "/DC1/vm/web", &err);

	if (!m)
		fail_msg("%s", err->message);
	return m;
}

static void test_machine(void **state)
{
	AUTO_JSON json_t *networks = json_pack("{s:s, s:s}", "dvportgroup-9", "dvs prod", "5c1", "nsx seg");
	AUTO_VM_MODEL struct vm_model *m = model_of(
		MACHINE(CONTROLLER("VirtualNVMEController", "31000", "0") DISK("31000", "31000", "0", "<capacityInBytes>5368709120</capacityInBytes>") NIC(
				"VirtualVmxnet3", "00:50:56:00:00:01",
				"xsi:type=\"VirtualEthernetCardNetworkBackingInfo\"><deviceName>VM Network</deviceName>")
				NIC("VirtualE1000e", "00:50:56:00:00:02",
				    "xsi:type=\"VirtualEthernetCardDistributedVirtualPortBackingInfo\"><port><portgroupKey>dvportgroup-9</portgroupKey></port>")
					NIC("VirtualPCNet32", "00:50:56:00:00:03",
					    "xsi:type=\"VirtualEthernetCardOpaqueNetworkBackingInfo\"><opaqueNetworkId>5c1</opaqueNetworkId>")
						NIC("VirtualE1000", "00:50:56:00:00:04",
						    "xsi:type=\"VirtualEthernetCardDistributedVirtualPortBackingInfo\"><port><portgroupKey>dvportgroup-10</portgroupKey></port>") "<VirtualDevice xsi:type=\"VirtualTPM\"><key>11000</key></VirtualDevice>",
			TEXT("config.hardware.numCoresPerSocket", "2") TEXT("config.firmware", "efi") TEXT("config.annotation", "a\nb")
				TEXT("config.guestId", "debian12_64Guest") TEXT("runtime.powerState", "poweredOn")
					TEXT("guest.toolsRunningStatus", "guestToolsRunning") PROPERTY(
						"config.bootOptions", "<val><efiSecureBootEnabled>true</efiSecureBootEnabled></val>")),
		networks);

	(void)state;
	assert_string_equal(m->source_id, "vm-12");
	assert_string_equal(m->name, "web");
	assert_string_equal(m->path, "/DC1/vm/web");
	assert_string_equal(m->description, "a\nb");
	assert_string_equal(m->guest_os, "debian12_64Guest");
	assert_int_equal(m->vcpus, 4);
	assert_int_equal(m->cores_per_socket, 2);
	assert_true(m->memory == UINT64_C(2049) << 20);
	assert_true(m->efi && m->secure_boot && m->tpm && m->guest_tools);
	assert_int_equal(m->power, VM_POWER_ON);
	assert_int_equal(m->disk_count, 1);
	assert_string_equal(m->disks[0].id, "31000 VirtualNVMEController0:0");
	assert_string_equal(m->disks[0].label, "Disk 31000");
	assert_true(m->disks[0].capacity == UINT64_C(5368709120));
	assert_int_equal(m->disks[0].bus, VM_BUS_NVME);
	assert_int_equal(m->nic_count, 4);
	static const char *const wanted[][2] = {
		{ "VM Network", "vmxnet3" }, { "dvs prod", "e1000e" }, { "nsx seg", "pcnet32" }, { "dvportgroup-10", "e1000" }
	};
	for (size_t i = 0; i < 4; i++) {
		assert_string_equal(m->nics[i].network, wanted[i][0]);
		assert_string_equal(m->nics[i].model, wanted[i][1]);
		assert_true(m->nics[i].connected);
	}
	assert_string_equal(m->nics[3].mac, "00:50:56:00:00:04");
}

static void expect_disks(const struct vm_model *m, const char *const *ids)
{
	for (size_t i = 0; ids[i]; i++) {
		assert_true(i < m->disk_count);
		assert_string_equal(m->disks[i].id, ids[i]);
		assert_int_equal(m->disks[i].boot_order, i + 1);
	}
}

/* Listed as they were added; two kinds of SCSI controllers, which share their bus numbers. */
#define MIXED                                                \
	CONTROLLER("VirtualAHCIController", "15000", "0")    \
	CONTROLLER("ParaVirtualSCSIController", "1001", "1") \
	CONTROLLER("VirtualLsiLogicController", "1000", "0") \
	DISK("2017", "1001", "1", MIB) DISK("16000", "15000", "0", MIB) DISK("2002", "1000", "2", MIB) DISK("2000", "1000", "0", MIB)

static void test_disks_are_in_boot_order(void **state)
{
	AUTO_VM_MODEL struct vm_model *plain = model_of(MACHINE(MIXED, ""), NULL);
	AUTO_VM_MODEL struct vm_model *chosen = model_of(
		MACHINE(MIXED,
			PROPERTY(
				"config.bootOptions",
				"<val><bootOrder xsi:type=\"VirtualMachineBootOptionsBootableCdromDevice\"/>"
				"<bootOrder xsi:type=\"VirtualMachineBootOptionsBootableDiskDevice\"><deviceKey>9</deviceKey></bootOrder>"
				"<bootOrder xsi:type=\"VirtualMachineBootOptionsBootableDiskDevice\"><deviceKey>16000</deviceKey></bootOrder>"
				"<bootOrder xsi:type=\"VirtualMachineBootOptionsBootableDiskDevice\"><deviceKey>2002</deviceKey></bootOrder></val>")),
		NULL);

	(void)state;
	expect_disks(plain, (const char *const[]){ "2000 VirtualLsiLogicController0:0", "2002 VirtualLsiLogicController0:2",
						   "2017 ParaVirtualSCSIController1:1", "16000 VirtualAHCIController0:0", NULL });
	assert_int_equal(plain->disks[2].bus, VM_BUS_PVSCSI);
	assert_int_equal(plain->disks[3].bus, VM_BUS_SATA);
	expect_disks(chosen, (const char *const[]){ "16000 VirtualAHCIController0:0", "2002 VirtualLsiLogicController0:2",
						    "2000 VirtualLsiLogicController0:0", "2017 ParaVirtualSCSIController1:1", NULL });
}

static void test_allocated_bytes(void **state)
{
	static const char layout[] = PROPERTY(
		"layoutEx",
		"<val><file><key>1</key><size>900</size><type>diskDescriptor</type></file><file><key>2</key><size>1000</size><type>diskExtent</type></file>"
		"<file><key>3</key><size>24</size><type>diskExtent</type></file><file><key>4</key><size>9999999999</size><type>diskExtent</type></file>"
		"<disk><key>2000</key><chain><fileKey>1</fileKey><fileKey>2</fileKey></chain><chain><fileKey>3</fileKey></chain></disk>"
		"<disk><key>2001</key><chain><fileKey>4</fileKey></chain></disk></val>");
	AUTO_FREE char *text = NULL;

	(void)state;
	assert_true(asprintf(&text,
			     MACHINE(CONTROLLER("ParaVirtualSCSIController", "1000", "0") DISK("2000", "1000", "0", MIB)
					     DISK("2001", "1000", "1", MIB) DISK("2002", "1000", "2", MIB),
				     "%s"),
			     layout) > 0);
	AUTO_VM_MODEL struct vm_model *m = model_of(text, NULL);
	assert_int_equal(m->disks[0].allocated, 1024);
	assert_int_equal(m->disks[1].allocated, 1 << 20); /* no more than the disk */
	assert_int_equal(m->disks[2].allocated, 0);
}

static void test_what_makes_no_model(void **state)
{
	static const char *const cases[][2] = {
		{ "<objects><obj>vm-1</obj></objects>", "no readable configuration" },
		{ MACHINE(DISK("2000", "1000", "0", ""), ""), "no capacity" },
		{ MACHINE(DISK("2000", "1000", "0", "<capacityInKB>9223372036854775807</capacityInKB>"), ""), "no capacity" },
		{ MACHINE(DISK("1", "1", "0", MIB) DISK("2000", "1000", "0", "<capacityInBytes>-1</capacityInBytes>"), ""), "no capacity" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_XML xmlDoc *doc = parse(cases[i][0]);
		AUTO_ERROR struct error *err = NULL;

		assert_null(vmware_model_of(xmlDocGetRootElement(doc), NULL, "vm-12", "/DC1/vm/web", &err));
		assert_int_equal(err->class, ERROR_PERMANENT);
		if (!strstr(err->message, cases[i][1]))
			fail_msg("%s", err->message);
	}
	/* Odd numbers of cores are not believed. */
	static const char *const cores[] = { "0", "3", "8", "-2", "x" };
	for (size_t i = 0; i < sizeof cores / sizeof *cores; i++) {
		AUTO_FREE char *text = NULL;

		assert_true(asprintf(&text, MACHINE("", TEXT("config.hardware.numCoresPerSocket", "%s")), cores[i]) > 0);
		AUTO_VM_MODEL struct vm_model *m = model_of(text, NULL);
		assert_int_equal(m->cores_per_socket, 1);
	}
}

#define VDISK(key, label, backing, more)                                                                                  \
	"<VirtualDevice xsi:type=\"VirtualDisk\"><key>" key "</key><deviceInfo><label>" label "</label></deviceInfo>" MIB \
	"<backing xsi:type=\"Virtual" backing "</backing>" more "</VirtualDevice>"
#define PLAIN(inner) "DiskFlatVer2BackingInfo\">" inner
#define RDM(inner) "DiskRawDiskMappingVer1BackingInfo\">" inner
#define SHARED_BUS                                                                                    \
	"<VirtualDevice xsi:type=\"VirtualLsiLogicSASController\"><key>1001</key><deviceInfo><label>" \
	"SCSI controller 1</label></deviceInfo><busNumber>1</busNumber><sharedBus>physicalSharing</sharedBus></VirtualDevice>"
#define KEY "<keyId><keyId>k</keyId></keyId>"

/* The problems as "a|b". */
static char *problems_of(const char *text, const json_t *offline)
{
	AUTO_XML xmlDoc *doc = parse(text);
	AUTO_VM_MODEL struct vm_model *m = model_of(text, NULL);
	AUTO_JSON json_t *problems = json_array();
	char *all = strdup("");
	const json_t *problem;
	size_t i;

	vmware_check_of(xmlDocGetRootElement(doc), offline, m, problems);
	json_array_foreach (problems, i, problem) {
		char *longer = NULL;

		assert_true(asprintf(&longer, "%s%s%s", all, i ? "|" : "", json_string_value(problem)) > 0);
		free(all);
		all = longer;
	}
	return all;
}

static void test_preflight(void **state)
{
	static const char *const cases[][2] = {
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN(""), ""), ""), "" },
		{ MACHINE("", TEXT("runtime.connectionState", "connected")), "/DC1/vm/web has no disks to import" },
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN("<sharing>sharingMultiWriter</sharing>"), "")
				  VDISK("2", "", RDM("<compatibilityMode>physicalMode</compatibilityMode>"), "")
					  VDISK("3", "Hard disk 3", RDM("<compatibilityMode>virtualMode</compatibilityMode>"), ""),
			  TEXT("runtime.powerState", "suspended") TEXT("runtime.connectionState", "inaccessible")
				  PROPERTY("config.keyId", "<val><keyId>k</keyId></val>")),
		  "/DC1/vm/web is inaccessible at the source: its host or its files cannot be reached|"
		  "/DC1/vm/web is suspended, and what its memory holds would be lost; resume it and shut it down, or power it off|"
		  "The configuration of /DC1/vm/web is encrypted; decrypt the virtual machine first|"
		  "Hard disk 1 of /DC1/vm/web is shared with other machines (multi-writer); a consistent copy cannot be made, detach it first|"
		  "A disk of /DC1/vm/web is a raw device mapping in physical mode, which vSphere does not export; change it to virtual mode or "
		  "detach it first" },
		{ MACHINE(SHARED_BUS VDISK("1", "Quorum", PLAIN(""), "<controllerKey>1001</controllerKey>"), ""),
		  "Quorum of /DC1/vm/web hangs on SCSI controller 1, whose bus is shared with other machines (physicalSharing); a consistent copy "
		  "cannot be made, detach it first" },
		{ MACHINE(VDISK("1", "Hard disk 1", "DiskRawDiskVer2BackingInfo\">", ""), ""),
		  "Hard disk 1 of /DC1/vm/web is a disk of its host, which vSphere does not export; detach it first" },
		/* Encrypted: all of it; a disk; or only what a vTPM brings with it. */
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN(KEY), ""), PROPERTY("config.keyId", "<val><keyId>k</keyId></val>")),
		  "Hard disk 1 of /DC1/vm/web is encrypted; decrypt it first (in the vSphere Client: VM Policies, with a storage policy without "
		  "encryption)" },
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN(""),
				"") "<VirtualDevice xsi:type=\"VirtualTPM\"><key>11000</key></VirtualDevice>",
			  PROPERTY("config.keyId", "<val><keyId>k</keyId></val>")),
		  "" },
		/* Where the files are, of what a snapshot or a linked clone stands on, too. */
		{ MACHINE(VDISK("1", "Hard disk 1",
				PLAIN("<fileName>[a] web-000001.vmdk</fileName><datastore>datastore-1</datastore>"
				      "<parent><fileName>[b c] web.vmdk</fileName><datastore>datastore-2</datastore></parent>"),
				""),
			  ""),
		  "Hard disk 1 of /DC1/vm/web lies on the datastore b c, which is not accessible at the source ([b c] web.vmdk)" },
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN(""), ""),
			  PROPERTY(
				  "layoutEx",
				  "<val><file><key>5</key><name>[a] web-flat.vmdk</name><accessible>false</accessible></file><disk><key>1</key>"
				  "<chain><fileKey>4</fileKey><fileKey>5</fileKey></chain></disk></val>")),
		  "Hard disk 1 of /DC1/vm/web cannot be read at the source: its file [a] web-flat.vmdk is not accessible" },
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN(""),
				"") "<VirtualDevice xsi:type=\"VirtualNVDIMM\"><key>2</key><deviceInfo><label>NVDIMM 1</label></deviceInfo></VirtualDevice>",
			  TEXT("runtime.faultToleranceState", "running")),
		  "/DC1/vm/web is protected by Fault Tolerance (running), which forbids an export; turn it off first|"
		  "NVDIMM 1 of /DC1/vm/web holds data in persistent memory, which vSphere does not export; detach it first" },
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN(""), ""), TEXT("runtime.faultToleranceState", "notConfigured")), "" },
	};
	AUTO_JSON json_t *offline = json_pack("{s:s}", "datastore-2", "b c");

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_FREE char *got = problems_of(cases[i][0], offline);

		assert_string_equal(got, cases[i][1]);
	}
}

#define DEVICE(type, key, label, inner) \
	"<VirtualDevice xsi:type=\"" type "\"><key>" key "</key><deviceInfo><label>" label "</label></deviceInfo>" inner "</VirtualDevice>"

static void test_notes(void **state)
{
	static const char *const cases[][2] = {
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN(""), ""), ""), NULL },
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN("<diskMode>independent_persistent</diskMode>"), ""),
			  TEXT("runtime.powerState", "poweredOn")),
		  NULL },
		{ MACHINE(VDISK("1", "Hard disk 1", PLAIN("<diskMode>independent_nonpersistent</diskMode>"), "")
				  VDISK("2", "Hard disk 2", RDM("<compatibilityMode>virtualMode</compatibilityMode>"), ""),
			  TEXT("runtime.powerState", "poweredOn")),
		  "Hard disk 1 is independent_nonpersistent: vSphere drops what the guest has written to it when it is powered off; "
		  "Hard disk 2 is a raw device mapping and becomes an ordinary disk" },
		{ MACHINE("", TEXT("config.cpuHotAddEnabled", "true") TEXT("config.memoryHotAddEnabled", "true")),
		  "adding CPUs and memory while it runs is allowed at the source, and is to be enabled anew on the target" },
		{ MACHINE(DEVICE("VirtualCdrom", "3000", "CD/DVD drive 1",
				 "<backing xsi:type=\"VirtualCdromIsoBackingInfo\"><fileName>[a] tools.iso</fileName></backing>")
				  DEVICE("VirtualCdrom", "3001", "CD/DVD drive 2",
					 "<backing xsi:type=\"VirtualCdromRemotePassthroughBackingInfo\"/>"),
			  ""),
		  "CD/DVD drive 1 holds [a] tools.iso, which stays behind" },
		{ MACHINE(DEVICE("VirtualPCIPassthrough", "13000", "PCI device 0", "")
				  DEVICE("VirtualSerialPort", "9000", "Serial port 1", ""),
			  ""),
		  "PCI device 0 (VirtualPCIPassthrough) does not come along; Serial port 1 (VirtualSerialPort) does not come along" },
		{ MACHINE(DEVICE("VirtualE1000", "4000", "Network adapter 1",
				 "<connectable><startConnected>false</startConnected></connectable>"),
			  ""),
		  "Network adapter 1 is disconnected at the source and comes connected" },
		{ MACHINE("",
			  PROPERTY("snapshot", "<val><rootSnapshotList><childSnapshotList/><childSnapshotList/></rootSnapshotList></val>")),
		  "its 3 snapshots stay behind: the disks come as they are now" },
		{ MACHINE(DEVICE("VirtualTPM", "11000", "Virtual TPM", "") CONTROLLER("VirtualNVMEController", "31000", "0")
				  DISK("31000", "31000", "0", MIB) NIC("VirtualVmxnet3", "00:50:56:00:00:01", "xsi:type=\"x\">"),
			  TEXT("config.guestId", "windows11_64Guest")),
		  "the vTPM comes empty, and what is sealed in it stays behind: suspend BitLocker, or have its recovery key at hand; "
		  "its NVMe disks become virtio ones: install the virtio drivers in Windows first; "
		  "its vmxnet cards become virtio ones: install the virtio drivers in Windows, or set spec.networkMapping[].networkInterfaceModel to "
		  "e1000" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_VM_MODEL struct vm_model *m = model_of(cases[i][0], NULL);

		if (cases[i][1])
			assert_string_equal(m->notes ? m->notes : "(none)", cases[i][1]);
		else
			assert_null(m->notes);
	}
}

/* --- device URLs ------------------------------------------------------------------------------------------------------- */

#define OFFER(key, disk, url) "<deviceUrl><key>" key "</key><url>" url "</url><disk>" disk "</disk></deviceUrl>"
#define EXTRAS OFFER("/vm-12/nvram", "false", "n") OFFER("/vm-12/VirtualIDEController0:0", "false", "iso")

/* The URLs in the model's order, or the error. */
static char *match(const char *offers, const struct vm_model *m)
{
	AUTO_FREE char *text = NULL;
	AUTO_XML xmlDoc *doc = NULL;
	AUTO_ERROR struct error *err = NULL;
	const xmlNode *urls[16] = { NULL };
	char *out = strdup("");

	assert_true(asprintf(&text, "<info>" EXTRAS "%s</info>", offers) > 0);
	doc = parse(text);
	if (device_urls_match(xmlDocGetRootElement(doc), m, urls, &err) < 0) {
		free(out);
		assert_true(asprintf(&out, "%s %s %s", error_class_name(err->class), err->reason, err->message) > 0);
		return out;
	}
	for (size_t i = 0; i < m->disk_count; i++) {
		AUTO_FREE char *url = xml_path_text(urls[i], "url"), *before = out;

		assert_true(asprintf(&out, "%s%s", before, url) > 0);
	}
	return out;
}

static void test_urls_are_matched_with_disks(void **state)
{
	/* Boot order: the second SATA disk, then SCSI 0:0, SCSI 1:0, SATA 0:0. */
	AUTO_VM_MODEL struct vm_model *m = model_of(
		MACHINE(CONTROLLER("VirtualLsiLogicController", "1000", "0") CONTROLLER("ParaVirtualSCSIController", "1001", "1")
				CONTROLLER("VirtualAHCIController", "15000", "0") DISK("2000", "1000", "0", MIB)
					DISK("2016", "1001", "0", MIB) DISK("16000", "15000", "0", MIB) DISK("16001", "15000", "1", MIB),
			PROPERTY(
				"config.bootOptions",
				"<val><bootOrder xsi:type=\"VirtualMachineBootOptionsBootableDiskDevice\"><deviceKey>16001</deviceKey></bootOrder></val>")),
		NULL);
	static const struct {
		const char *offers, *wanted;
	} cases[] = {
		/* By key, in whatever order. */
		{ OFFER("/vm-12/VirtualAHCIController0:0", "true", "c") OFFER("/vm-12/ParaVirtualSCSIController1:0", "true", "b")
			  OFFER("/vm-12/VirtualLsiLogicController0:0", "true", "a") OFFER("/vm-12/VirtualAHCIController0:1", "true", "d"),
		  "dabc" },
		/* The controller by another name. */
		{ OFFER("/vm-12/VirtualSATAController0:0", "true", "c") OFFER("/vm-12/VirtualSCSIController1:0", "true", "b") OFFER(
			  "/vm-12/VirtualLsiLogicSASController0:0", "true", "a") OFFER("/vm-12/VirtualSATAController0:1", "true", "d"),
		  "dabc" },
		/* Three are known, so the fourth is. */
		{ OFFER("/vm-12/VirtualAHCIController0:0", "true", "c") OFFER("/vm-12/whatever", "true", "b")
			  OFFER("/vm-12/VirtualLsiLogicController0:0", "true", "a") OFFER("/vm-12/VirtualAHCIController0:1", "true", "d"),
		  "dabc" },
		/* No key tells anything: in the order of the devices, not that of booting. */
		{ OFFER("disk-0", "true", "a") OFFER("disk-1", "true", "b") OFFER("disk-2", "true", "c") OFFER("disk-3", "true", "d"),
		  "dabc" },
		/* What would be guessed is not. */
		{ OFFER("/vm-12/VirtualAHCIController0:0", "true", "c") OFFER("x", "true", "b") OFFER("y", "true", "a")
			  OFFER("/vm-12/VirtualAHCIController0:1", "true", "d"),
		  "Permanent DiskNotExported the export of web does not offer Disk 2000" },
		{ OFFER("disk-0", "true", "a") OFFER("disk-1", "true", "b"), "Permanent DiskNotExported" },
		{ "", "Permanent DiskNotExported" },
		{ OFFER("/vm-12/VirtualAHCIController0:0", "true", "c") OFFER("/vm-12/ParaVirtualSCSIController1:0", "true", "b")
			  OFFER("/vm-12/VirtualLsiLogicController0:0", "true", "a") OFFER("/vm-12/VirtualAHCIController0:1", "true", "d")
				  OFFER("/vm-12/VirtualAHCIController0:2", "true", "e"),
		  "Transient DisksChanged" },
		/* The same place twice is offered once too often. */
		{ OFFER("/vm-12/VirtualAHCIController0:0", "true", "c") OFFER("/vm-12/VirtualAHCIController0:0", "true", "c") OFFER(
			  "/vm-12/VirtualLsiLogicController0:0", "true", "a") OFFER("/vm-12/ParaVirtualSCSIController1:0", "true", "d"),
		  "Permanent DiskNotExported the export of web does not offer Disk 16001" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_FREE char *got = match(cases[i].offers, m);

		if (strncmp(got, cases[i].wanted, strlen(cases[i].wanted)))
			fail_msg("case %zu: %s, wanted %s", i, got, cases[i].wanted);
	}
}

static void test_urls_without_a_host(void **state)
{
	static const char *const cases[][3] = { { "https://*/nfc/x", "vc.test", "https://vc.test/nfc/x" },
						{ "https://*/nfc/x", "vc.test:8443", "https://vc.test:8443/nfc/x" },
						{ "https://*:444/nfc/x", "vc.test:8443", "https://vc.test:444/nfc/x" },
						{ "https://*:444/nfc/x", "[fe80::1]:8443", "https://[fe80::1]:444/nfc/x" },
						{ "https://*:444/nfc/x", "[fe80::1]", "https://[fe80::1]:444/nfc/x" },
						{ "https://esx.test/nfc/*", "vc.test", "https://esx.test/nfc/*" } };

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		AUTO_FREE char *url = device_url_resolve(cases[i][0], cases[i][1]);

		assert_string_equal(url, cases[i][2]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_machine),
		cmocka_unit_test(test_disks_are_in_boot_order),
		cmocka_unit_test(test_allocated_bytes),
		cmocka_unit_test(test_what_makes_no_model),
		cmocka_unit_test(test_preflight),
		cmocka_unit_test(test_notes),
		cmocka_unit_test(test_urls_are_matched_with_disks),
		cmocka_unit_test(test_urls_without_a_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
