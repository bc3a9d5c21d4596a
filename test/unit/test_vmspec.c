// links: target api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "target/vmspec.h"
#include "json/codec.h"

#define MIB (UINT64_C(1) << 20)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct target_disk two_disks[] = {
	{ .name = "disk-0.raw", .capacity = 1 << 30, .image = "image-aaaaa", .bus = "sata" },
	{ .name = "disk-1.raw", .capacity = 5 << 20, .image = "image-bbbbb", .bus = "virtio" },
};

static struct vm_model small(void)
{
	return (struct vm_model){ .name = (char *)"Small", .vcpus = 1, .cores_per_socket = 1, .memory = 512 * MIB, .power = VM_POWER_ON };
}

/* The machine of a model, for an import whose spec is this JSON with ' for ". */
static json_t *build_of(const char *spec, const struct vm_model *model, struct target_disk *disks, size_t count, bool local,
			struct error **err)
{
	AUTO_FREE char *text = strdup(spec);
	AUTO_JSON json_t *parsed = NULL, *object = NULL;
	struct vmimport import = { 0 };
	json_t *vm;

	for (char *p = text; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	parsed = json_loads(text, 0, NULL);
	assert_non_null(parsed);
	object = json_pack("{s:{s:s, s:s, s:s}, s:O}", "metadata", "name", "web", "namespace", "team", "uid", "u-1", "spec", parsed);
	assert_int_equal(json_decode(&api_vmimport_type, object, &import, NULL), 0);
	struct target_import t = { .object = object, .import = &import, .vm_name = "web-01" };
	vm = vmspec_build(&t, model, disks, count, local, err);
	json_type_free(&api_vmimport_type, &import);
	return vm;
}

static json_t *build(const char *spec, const struct vm_model *model)
{
	AUTO_ERROR struct error *err = NULL;
	json_t *vm = build_of(spec, model, two_disks, COUNT(two_disks), false, &err);

	assert_string_equal(error_message(err), "");
	assert_non_null(vm);
	return vm;
}

static const char *text_at(const json_t *vm, const char *path)
{
	const char *text = json_path_string(vm, path);

	return text ? text : "(absent)";
}

static void assert_json(const json_t *got, const char *wanted)
{
	AUTO_FREE char *text = json_dumps(got, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY), *plain = strdup(wanted);

	for (char *p = plain; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	assert_string_equal(text ? text : "(absent)", plain);
}

#define DOMAIN "spec.template.spec.domain"

static void frame(void **state)
{
	struct vm_model model = small();
	AUTO_JSON json_t *vm = build("{}", &model);

	(void)state;
	assert_string_equal(text_at(vm, "apiVersion"), "kubevirt.io/v1");
	assert_string_equal(text_at(vm, "kind"), "VirtualMachine");
	assert_json(
		json_path(vm, "metadata"),
		"{'annotations':{'migration.harvesterhci.io/virtualmachineimport':'team/web','migration.harvesterhci.io/virtualmachineimport-uid':'u-1'},"
		"'labels':{'migration.harvesterhci.io/imported':'true'},'name':'web-01','namespace':'team'}");
	assert_string_equal(json_string_value(json_object_get(json_path(vm, "spec.template.metadata.labels"), "harvesterhci.io/vmName")),
			    "web-01");
	assert_string_equal(text_at(vm, "spec.template.spec.evictionStrategy"), "LiveMigrateIfPossible");
	assert_json(json_path(vm, DOMAIN ".features"), "{'acpi':{'enabled':true}}");
	assert_null(json_path(vm, DOMAIN ".machine"));
	assert_null(json_path(vm, "spec.running"));
}

static void processors(void **state)
{
	static const struct {
		unsigned vcpus, per_socket;
		int cores, sockets;
	} cases[] = {
		{ 1, 1, 1, 1 },     { 2, 1, 1, 2 }, { 2, 2, 2, 1 }, { 6, 3, 3, 2 },  { 8, 4, 4, 2 }, { 12, 4, 4, 3 },
		{ 128, 32, 32, 4 }, { 6, 4, 1, 6 }, { 3, 2, 1, 3 }, { 5, 10, 1, 5 }, { 4, 0, 1, 4 }, /* do not divide: the number counts */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct vm_model model = small();
		char wanted[64], cpus[16];

		model.vcpus = cases[i].vcpus;
		model.cores_per_socket = cases[i].per_socket;
		AUTO_JSON json_t *vm = build("{}", &model);
		snprintf(wanted, sizeof wanted, "{'cores':%d,'sockets':%d,'threads':1}", cases[i].cores, cases[i].sockets);
		assert_json(json_path(vm, DOMAIN ".cpu"), wanted);
		snprintf(cpus, sizeof cpus, "%u", cases[i].vcpus);
		assert_string_equal(text_at(vm, DOMAIN ".resources.limits.cpu"), cpus);
	}
}

static void memory(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 512 * MIB, "512Mi" },
		{ 1500 * MIB, "1500Mi" },
		{ 4096 * MIB, "4096Mi" },
		{ 4 * MIB, "4Mi" },
		{ 1, "1Mi" },
		{ 512 * MIB + 1, "513Mi" },
		{ 512 * MIB - 1, "512Mi" },
		{ UINT64_C(24) << 40, "25165824Mi" },
		{ UINT64_MAX, "17592186044416Mi" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct vm_model model = small();

		model.memory = cases[i].bytes;
		AUTO_JSON json_t *vm = build("{}", &model);
		assert_string_equal(text_at(vm, DOMAIN ".memory.guest"), cases[i].text);
		assert_string_equal(text_at(vm, DOMAIN ".resources.limits.memory"), cases[i].text);
		assert_string_equal(text_at(vm, DOMAIN ".resources.requests.memory"), cases[i].text);
	}
}

static void firmware(void **state)
{
	static const struct {
		bool efi, secure, tpm;
		const char *bootloader, *features, *tpm_device;
	} cases[] = {
		{ false, false, false, "{'bios':{}}", "{'acpi':{'enabled':true}}", "(absent)" },
		{ true, false, false, "{'efi':{'secureBoot':false}}", "{'acpi':{'enabled':true}}", "(absent)" },
		{ true, true, false, "{'efi':{'secureBoot':true}}", "{'acpi':{'enabled':true},'smm':{'enabled':true}}", "(absent)" },
		{ true, true, true, "{'efi':{'secureBoot':true}}", "{'acpi':{'enabled':true},'smm':{'enabled':true}}", "{}" },
		{ false, true, true, "{'bios':{}}", "{'acpi':{'enabled':true}}", "{}" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct vm_model model = small();

		model.efi = cases[i].efi;
		model.secure_boot = cases[i].secure;
		model.tpm = cases[i].tpm;
		AUTO_JSON json_t *vm = build("{}", &model);
		assert_json(json_path(vm, DOMAIN ".firmware.bootloader"), cases[i].bootloader);
		assert_json(json_path(vm, DOMAIN ".features"), cases[i].features);
		assert_json(json_path(vm, DOMAIN ".devices.tpm"), cases[i].tpm_device);
	}
}

#define TIMERS "{'timer':{'hpet':{'present':false},'hyperv':{},'pit':{'tickPolicy':'delay'},'rtc':{'tickPolicy':'catchup'}},'utc':{}}"
#define VISTA "'relaxed':{},'spinlocks':{'spinlocks':8191}"

static void guest_systems(void **state)
{
	static const struct {
		const char *id, *label, *features, *clock;
	} cases[] = {
		{ NULL, "(absent)", "{'acpi':{'enabled':true}}", "(absent)" },
		{ "debian12_64Guest", "debian", "{'acpi':{'enabled':true}}", "(absent)" },
		{ "otherGuest64", "(absent)", "{'acpi':{'enabled':true}}", "(absent)" },
		{ "winXPProGuest", "windows", "{'acpi':{'enabled':true}}", TIMERS },
		{ "windows8Server64Guest", "windows", "{'acpi':{'enabled':true},'apic':{},'hyperv':{" VISTA ",'vapic':{}}}", TIMERS },
		{ "windows2019srv_64Guest", "windows",
		  "{'acpi':{'enabled':true},'apic':{},'hyperv':{'frequencies':{},'ipi':{},'relaxed':{},'reset':{},'runtime':{},"
		  "'spinlocks':{'spinlocks':8191},'synic':{},'synictimer':{'direct':{}},'tlbflush':{},'vapic':{},'vpindex':{}}}",
		  TIMERS },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct vm_model model = small();

		model.guest_os = (char *)cases[i].id;
		AUTO_JSON json_t *vm = build("{}", &model);
		const char *label = json_string_value(json_object_get(json_path(vm, "metadata.labels"), "harvesterhci.io/os"));
		assert_string_equal(label ? label : "(absent)", cases[i].label);
		assert_json(json_path(vm, DOMAIN ".features"), cases[i].features);
		assert_json(json_path(vm, DOMAIN ".clock"), cases[i].clock);
	}
}

static void run_strategy(void **state)
{
	static const struct {
		const char *spec;
		enum vm_power power;
		const char *strategy;
	} cases[] = {
		{ "{}", VM_POWER_ON, "RerunOnFailure" },
		{ "{}", VM_POWER_OFF, "RerunOnFailure" },
		{ "{'targetPowerState': ''}", VM_POWER_OFF, "RerunOnFailure" },
		{ "{'targetPowerState': 'on'}", VM_POWER_OFF, "RerunOnFailure" },
		{ "{'targetPowerState': 'off'}", VM_POWER_ON, "Halted" },
		{ "{'targetPowerState': 'auto'}", VM_POWER_ON, "RerunOnFailure" },
		{ "{'targetPowerState': 'auto'}", VM_POWER_OFF, "Halted" },
		{ "{'targetPowerState': 'auto'}", VM_POWER_SUSPENDED, "Halted" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct vm_model model = small();

		model.power = cases[i].power;
		AUTO_JSON json_t *vm = build(cases[i].spec, &model);
		assert_string_equal(text_at(vm, "spec.runStrategy"), cases[i].strategy);
	}
}

static void disks(void **state)
{
	struct vm_model model = small();
	struct target_disk unnamed = { .name = "disk-0.raw", .image = "image-ccccc" };
	AUTO_JSON json_t *vm = build("{}", &model), *local = build_of("{}", &model, two_disks, 2, true, NULL),
			 *one = build_of("{}", &model, &unnamed, 1, false, NULL), *none = build_of("{}", &model, NULL, 0, false, NULL);

	(void)state;
	assert_json(json_path(vm, DOMAIN ".devices.disks"),
		    "[{'bootOrder':1,'disk':{'bus':'sata'},'name':'disk-0'},{'bootOrder':2,'disk':{'bus':'virtio'},'name':'disk-1'}]");
	assert_json(
		json_path(vm, "spec.template.spec.volumes"),
		"[{'name':'disk-0','persistentVolumeClaim':{'claimName':'image-aaaaa'}},{'name':'disk-1','persistentVolumeClaim':{'claimName':'image-bbbbb'}}]");
	assert_json(
		json_path(local, "spec.template.spec.volumes"),
		"[{'name':'disk-0','persistentVolumeClaim':{'claimName':'disk-0.raw'}},{'name':'disk-1','persistentVolumeClaim':{'claimName':'disk-1.raw'}}]");
	assert_json(json_path(one, DOMAIN ".devices.disks"), "[{'bootOrder':1,'disk':{'bus':'virtio'},'name':'disk-0'}]");
	assert_json(json_path(none, DOMAIN ".devices.disks"), "[]");
}

#define MAP_TWO                                                                                \
	"'networkMapping': [{'sourceNetwork': 'VM Network', 'destinationNetwork': 'vlan-1'}, " \
	"{'sourceNetwork': 'dvs', 'destinationNetwork': 'shared/vlan-2', 'networkInterfaceModel': 'e1000e'}]"
#define POD_INTERFACE(model) "[{'masquerade':{},'model':'" model "','name':'pod-network'}]"

#define NIC(net, address, kind) { .network = (char *)(net), .mac = (char *)(address), .model = (char *)(kind) }

static void nics(void **state)
{
	static struct vm_nic one[] = { NIC("VM Network", "00:50:56:AA:00:01", "vmxnet3") };
	static struct vm_nic many[] = {
		NIC("lab", "00:50:56:aa:00:00", "e1000"),          NIC("dvs", "00:50:56:aa:00:01", "vmxnet3"),
		NIC("VM Network", "00-50-56-aa-00-02", "pcnet32"), NIC(NULL, "00:50:56:aa:00:03", "e1000"),
		NIC("VM Network", "00:50:56:aa:00:04", NULL),
	};
	static struct vm_nic odd[] = {
		NIC("VM Network", NULL, "sriov"),
		NIC("VM Network", "", "E1000E"),
		NIC("VM Network", "00:50:56:aa:00", "vmxnet"),
		NIC("VM Network", "00:50:56:aa:00:0g", "rtl8139"),
		NIC("VM Network", "00:50:56:aa:00:01:02", "ne2k_pci"),
	};
	static const struct {
		const char *spec;
		struct vm_nic *nics;
		size_t count;
		const char *interfaces, *networks;
	} cases[] = {
		{ "{" MAP_TWO "}", one, 1, "[{'bridge':{},'macAddress':'00:50:56:AA:00:01','model':'virtio','name':'migrated-0'}]",
		  "[{'multus':{'networkName':'team/vlan-1'},'name':'migrated-0'}]" },
		{ "{" MAP_TWO "}", many, 5,
		  "[{'bridge':{},'macAddress':'00:50:56:aa:00:01','model':'e1000e','name':'migrated-0'},"
		  "{'bridge':{},'macAddress':'00-50-56-aa-00-02','model':'pcnet','name':'migrated-1'},"
		  "{'bridge':{},'macAddress':'00:50:56:aa:00:04','model':'virtio','name':'migrated-2'}]",
		  "[{'multus':{'networkName':'shared/vlan-2'},'name':'migrated-0'},{'multus':{'networkName':'team/vlan-1'},'name':'migrated-1'},"
		  "{'multus':{'networkName':'team/vlan-1'},'name':'migrated-2'}]" },
		{ "{'defaultNetworkInterfaceModel': 'rtl8139', " MAP_TWO "}", odd, 3,
		  "[{'bridge':{},'model':'rtl8139','name':'migrated-0'},{'bridge':{},'model':'e1000e','name':'migrated-1'},"
		  "{'bridge':{},'model':'rtl8139','name':'migrated-2'}]",
		  "[{'multus':{'networkName':'team/vlan-1'},'name':'migrated-0'},{'multus':{'networkName':'team/vlan-1'},'name':'migrated-1'},"
		  "{'multus':{'networkName':'team/vlan-1'},'name':'migrated-2'}]" },
		{ "{" MAP_TWO "}", odd + 3, 2,
		  "[{'bridge':{},'model':'rtl8139','name':'migrated-0'},{'bridge':{},'model':'ne2k_pci','name':'migrated-1'}]",
		  "[{'multus':{'networkName':'team/vlan-1'},'name':'migrated-0'},{'multus':{'networkName':'team/vlan-1'},'name':'migrated-1'}]" },
		{ "{}", many, 5, POD_INTERFACE("virtio"), "[{'name':'pod-network','pod':{}}]" },
		{ "{'defaultNetworkInterfaceModel': 'e1000'}", one, 1, POD_INTERFACE("e1000"), "[{'name':'pod-network','pod':{}}]" },
		{ "{'defaultNetworkInterfaceModel': ''}", NULL, 0, POD_INTERFACE("virtio"), "[{'name':'pod-network','pod':{}}]" },
		{ "{'networkMapping': [{'sourceNetwork': 'VM Network', 'destinationNetwork': 'v', 'networkInterfaceModel': ''}]}", one, 1,
		  "[{'bridge':{},'macAddress':'00:50:56:AA:00:01','model':'virtio','name':'migrated-0'}]",
		  "[{'multus':{'networkName':'team/v'},'name':'migrated-0'}]" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct vm_model model = small();

		model.nics = cases[i].nics;
		model.nic_count = cases[i].count;
		AUTO_JSON json_t *vm = build(cases[i].spec, &model);
		assert_json(json_path(vm, DOMAIN ".devices.interfaces"), cases[i].interfaces);
		assert_json(json_path(vm, "spec.template.spec.networks"), cases[i].networks);
	}
}

static const char *description_of(const json_t *vm)
{
	return json_string_value(json_object_get(json_path(vm, "metadata.annotations"), "field.cattle.io/description"));
}

static void description(void **state)
{
	struct vm_model model = small();
	char *huge = malloc(200001), *wide = malloc(200001);

	(void)state;
	model.description = (char *)"Zeile eins\nline two <&> \"quoted\" \xc3\xbc";
	{
		AUTO_JSON json_t *vm = build("{}", &model);
		assert_string_equal(description_of(vm), model.description);
	}
	model.description = (char *)"";
	{
		AUTO_JSON json_t *vm = build("{}", &model);
		assert_null(description_of(vm));
	}
	model.description = (char *)"B\xfcro \xff";
	{
		AUTO_JSON json_t *vm = build("{}", &model);
		assert_string_equal(description_of(vm), "B?ro ?");
	}
	/* Bounded, and cut between characters: 3 bytes each, so that the bound is within one. */
	memset(huge, 'a', 200000);
	huge[200000] = 0;
	for (size_t i = 0; i + 3 <= 200000; i += 3)
		memcpy(wide + i, "\xe2\x82\xac", 3);
	wide[199998] = 0;
	model.description = huge;
	{
		AUTO_JSON json_t *vm = build("{}", &model);
		assert_int_equal(strlen(description_of(vm)), 65536);
	}
	model.description = wide;
	{
		AUTO_JSON json_t *vm = build("{}", &model);
		assert_int_equal(strlen(description_of(vm)), 65535);
		assert_memory_equal(description_of(vm) + 65532, "\xe2\x82\xac", 4);
	}
	free(huge);
	free(wide);
}

static void incomplete_descriptions(void **state)
{
	struct vm_model no_cpus = small(), no_memory = small();
	AUTO_ERROR struct error *err = NULL, *err2 = NULL;

	(void)state;
	no_cpus.vcpus = 0;
	no_memory.memory = 0;
	assert_null(build_of("{}", &no_cpus, two_disks, 2, false, &err));
	assert_int_equal(err->class, ERROR_PERMANENT);
	assert_null(build_of("{}", &no_memory, two_disks, 2, false, &err2));
	assert_int_equal(err2->class, ERROR_PERMANENT);
}

static void buses(void **state)
{
	static const struct {
		enum vm_bus bus;
		const char *name;
	} cases[] = {
		{ VM_BUS_PVSCSI, "sata" }, { VM_BUS_IDE, "sata" }, { VM_BUS_SATA, "sata" },     { VM_BUS_SCSI, "scsi" },
		{ VM_BUS_NVME, "virtio" }, { VM_BUS_USB, "usb" },  { VM_BUS_VIRTIO, "virtio" }, { VM_BUS_UNKNOWN, "fallback" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_string_equal(vmspec_disk_bus(cases[i].bus, "fallback"), cases[i].name);
}

static void nic_models(void **state)
{
	static const char *const cases[][2] = {
		{ "vmxnet2", "virtio" },    { "vmxnet3", "virtio" }, { "VMXNET3", "virtio" }, { "e1000", "e1000" },
		{ "e1000e", "e1000e" },     { "pcnet32", "pcnet" },  { "virtio", "virtio" },  { "rtl8139", "rtl8139" },
		{ "ne2k_pci", "ne2k_pci" }, { "pcnet", "pcnet" },    { "sriov", "fallback" }, { "", "fallback" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_string_equal(vmspec_nic_model(cases[i][0], "fallback"), cases[i][1]);
	assert_string_equal(vmspec_nic_model(NULL, "fallback"), "fallback");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frame),         cmocka_unit_test(processors),
		cmocka_unit_test(memory),        cmocka_unit_test(firmware),
		cmocka_unit_test(guest_systems), cmocka_unit_test(run_strategy),
		cmocka_unit_test(disks),         cmocka_unit_test(nics),
		cmocka_unit_test(description),   cmocka_unit_test(incomplete_descriptions),
		cmocka_unit_test(buses),         cmocka_unit_test(nic_models),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
