/* How much there is to fetch, and how long it may take. */
#include <string.h>

#include "reconcile/context.h"

/* Of one machine's disks, as many stream at once. */
#define AT_ONCE TRANSFER_HOST_STREAMS

/* As much as the disks hold, where the source does not know better: its load is no reason to give no estimate at all. */
static void find_load(struct source *source, const struct vm_model *model, struct source_load *load, struct cancel *cancel)
{
	if (source->ops->load && source->ops->load(source, model, load, cancel, NULL) == 0)
		return;
	*load = (struct source_load){ .bytes = transfer_space_needed(model) };
	for (size_t i = 0; i < model->disk_count; i++) {
		const struct vm_disk *disk = &model->disks[i];
		uint64_t bytes = disk->allocated ? disk->allocated : disk->capacity;

		load->largest = bytes > load->largest ? bytes : load->largest;
	}
}

void preflight_estimate(struct source *source, const struct vm_model *model, struct estimate *out, struct cancel *cancel)
{
	AUTO_ERROR struct error *failed = NULL;
	struct source_load load = { 0 };
	uint64_t at_once;

	find_load(source, model, &load, cancel);
	*out = (struct estimate){ .bytes = load.bytes };
	at_once = load.streams ? load.streams : AT_ONCE;
	at_once = model->disk_count < at_once ? model->disk_count : at_once;
	if (!model->disk_count)
		return;
	if (!source->ops->sample) {
		out->no_sample = source->ops->no_sample ? strdup(source->ops->no_sample) : NULL;
		return;
	}
	if (source->ops->sample(source, model, &out->rate, cancel, &failed) < 0) {
		out->rate = 0;
		out->no_sample = strdup(error_message(failed));
		return;
	}
	if (!out->rate)
		return;
	/* No disk is faster than its stream, and not more of them go at once. */
	out->seconds = out->bytes / at_once / out->rate;
	if (load.largest / out->rate > out->seconds)
		out->seconds = load.largest / out->rate;
	out->seconds++;
}
