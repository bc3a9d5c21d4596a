#include "api/vm_model.h"

#include <string.h>
#include <strings.h>

/* The next character of a name, past the code that stands for it; case counts in names, but not in codes. */
static char next_of(const char **text)
{
	static const char codes[][4] = { "2f/", "5c\\", "25%" };
	const char *t = *text;

	for (size_t i = 0; *t == '%' && i < sizeof codes / sizeof *codes; i++) {
		if (strncasecmp(t + 1, codes[i], 2))
			continue;
		*text = t + 3;
		return codes[i][2];
	}
	*text = t + 1;
	return *t;
}

bool vm_same_network(const char *a, const char *b)
{
	if (!strcmp(a, b))
		return true;
	while (*a && *b)
		if (next_of(&a) != next_of(&b))
			return false;
	return !*a && !*b;
}

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
	for (size_t i = 0; i < model->network_count; i++)
		free(model->networks[i]);
	free(model->networks);
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
