/* How much there is to fetch, and how long it may take. */
#include <errno.h>
#include <string.h>

#include "reconcile/context.h"

/* Of one machine's disks, as many stream at once. */
#define AT_ONCE TRANSFER_HOST_STREAMS

void preflight_estimate(struct source *source, const struct vm_model *model, struct estimate *out, struct cancel *cancel)
{
	AUTO_ERROR struct error *failed = NULL;
	uint64_t largest = 0, at_once = model->disk_count < AT_ONCE ? model->disk_count : AT_ONCE;

	*out = (struct estimate){ .bytes = transfer_space_needed(model) };
	for (size_t i = 0; i < model->disk_count; i++) {
		const struct vm_disk *disk = &model->disks[i];
		uint64_t bytes = disk->allocated ? disk->allocated : disk->capacity;

		largest = bytes > largest ? bytes : largest;
	}
	if (!source->ops->sample || !model->disk_count)
		return;
	if (source->ops->sample(source, model, &out->rate, cancel, &failed) < 0) {
		out->rate = 0;
		out->no_sample = strdup(error_message(failed));
		return;
	}
	if (!out->rate)
		return;
	/* No disk is faster than its stream, and not more of them go at once. */
	out->seconds = out->bytes / (out->rate * at_once);
	if (largest / out->rate > out->seconds)
		out->seconds = largest / out->rate;
	out->seconds++;
}
