#include "api/vm_model.h"

void vm_model_free(struct vm_model *model)
{
	if (!model)
		return;
	for (size_t i = 0; i < model->disk_count; i++) {
		free(model->disks[i].id);
		free(model->disks[i].label);
	}
	for (size_t i = 0; i < model->nic_count; i++) {
		free(model->nics[i].network);
		free(model->nics[i].mac);
		free(model->nics[i].model);
		free(model->nics[i].label);
	}
	free(model->disks);
	free(model->nics);
	free(model->source_id);
	free(model->name);
	free(model->path);
	free(model->description);
	free(model->guest_os);
	free(model->notes);
	free(model->host);
	free(model);
}

const char *vm_power_name(enum vm_power power)
{
	static const char *const names[] = { "unknown", "off", "on", "suspended" };

	return names[power];
}

const char *vm_bus_name(enum vm_bus bus)
{
	static const char *const names[] = { "unknown", "virtio", "IDE", "SATA", "SCSI", "paravirtual SCSI", "NVMe", "USB" };

	return names[bus];
}
