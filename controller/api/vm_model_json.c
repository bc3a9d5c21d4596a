#include "api/vm_model_json.h"

#include <string.h>

static json_t *disk_to_json(const struct vm_disk *d)
{
	return json_pack("{s:s*, s:s*, s:I, s:I, s:i, s:i}", "id", d->id, "label", d->label, "capacity", (json_int_t)d->capacity,
			 "allocated", (json_int_t)d->allocated, "bus", (int)d->bus, "bootOrder", (int)d->boot_order);
}

static json_t *nic_to_json(const struct vm_nic *n)
{
	return json_pack("{s:s*, s:s*, s:s*, s:s*, s:b}", "network", n->network, "mac", n->mac, "model", n->model, "label", n->label,
			 "connected", n->connected);
}

json_t *vm_model_to_json(const struct vm_model *m)
{
	json_t *disks = json_array(), *nics = json_array();

	for (size_t i = 0; i < m->disk_count; i++)
		json_array_append_new(disks, disk_to_json(&m->disks[i]));
	for (size_t i = 0; i < m->nic_count; i++)
		json_array_append_new(nics, nic_to_json(&m->nics[i]));
	return json_pack("{s:s*, s:s*, s:s*, s:s*, s:i, s:i, s:I, s:b, s:b, s:b, s:s*, s:i, s:b, s:b, s:b, s:b, s:o, s:o}", "sourceId",
			 m->source_id, "name", m->name, "path", m->path, "description", m->description, "vcpus", (int)m->vcpus,
			 "coresPerSocket", (int)m->cores_per_socket, "memory", (json_int_t)m->memory, "efi", m->efi, "secureBoot",
			 m->secure_boot, "tpm", m->tpm, "guestOs", m->guest_os, "power", (int)m->power, "guestTools", m->guest_tools,
			 "cpuHotAdd", m->cpu_hot_add, "memoryHotAdd", m->memory_hot_add, "changeTracking", m->change_tracking, "disks",
			 disks, "nics", nics);
}

static char *string(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? strdup(s) : NULL;
}

static uint64_t number(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));

	return n > 0 ? (uint64_t)n : 0;
}

static bool truth(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

struct vm_model *vm_model_from_json(const json_t *json)
{
	const json_t *disks = json_object_get(json, "disks"), *nics = json_object_get(json, "nics");
	AUTO_VM_MODEL struct vm_model *m = calloc(1, sizeof *m);

	if (!m || !json_is_array(disks) || !json_is_array(nics) || number(json, "power") > VM_POWER_SUSPENDED)
		return NULL;
	m->source_id = string(json, "sourceId");
	m->name = string(json, "name");
	m->path = string(json, "path");
	m->description = string(json, "description");
	m->guest_os = string(json, "guestOs");
	m->vcpus = (unsigned)number(json, "vcpus");
	m->cores_per_socket = (unsigned)number(json, "coresPerSocket");
	m->memory = number(json, "memory");
	m->efi = truth(json, "efi");
	m->secure_boot = truth(json, "secureBoot");
	m->tpm = truth(json, "tpm");
	m->power = (enum vm_power)number(json, "power");
	m->guest_tools = truth(json, "guestTools");
	m->cpu_hot_add = truth(json, "cpuHotAdd");
	m->memory_hot_add = truth(json, "memoryHotAdd");
	m->change_tracking = truth(json, "changeTracking");
	m->disks = calloc(json_array_size(disks) + 1, sizeof *m->disks);
	m->nics = calloc(json_array_size(nics) + 1, sizeof *m->nics);
	if (!m->disks || !m->nics || !m->name || !m->source_id || !m->vcpus || !m->cores_per_socket)
		return NULL;
	for (size_t i = 0; i < json_array_size(disks); i++) {
		const json_t *d = json_array_get(disks, i);
		uint64_t bus = number(d, "bus");

		m->disks[m->disk_count++] = (struct vm_disk){
			.id = string(d, "id"),
			.label = string(d, "label"),
			.capacity = number(d, "capacity"),
			.allocated = number(d, "allocated"),
			.bus = bus <= VM_BUS_USB ? (enum vm_bus)bus : VM_BUS_UNKNOWN,
			.boot_order = (unsigned)number(d, "bootOrder"),
		};
	}
	for (size_t i = 0; i < json_array_size(nics); i++) {
		const json_t *n = json_array_get(nics, i);

		m->nics[m->nic_count++] = (struct vm_nic){
			.network = string(n, "network"),
			.mac = string(n, "mac"),
			.model = string(n, "model"),
			.label = string(n, "label"),
			.connected = truth(n, "connected"),
		};
	}
	return move_ptr(m);
}
