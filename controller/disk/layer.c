#include "disk/layer.h"

int layer_map_entries(struct layer *layer, layer_look *look, uint64_t at, uint64_t most, struct run *run, struct error **err)
{
	uint64_t len;

	if (look(layer, at, run, err) < 0)
		return -1;
	len = run->len;
	for (unsigned n = 0; len < most && n < LAYER_ENTRIES_AT_ONCE && run->kind != RUN_PACKED; n++) {
		struct run next;

		if (look(layer, at + len, &next, err) < 0)
			return -1;
		if (next.kind != run->kind || (run->kind == RUN_DATA && next.at != run->at + len))
			break;
		if (__builtin_add_overflow(len, next.len, &len))
			len = most;
	}
	run->len = len < most ? len : most;
	return 0;
}

bool layer_sum_add(struct layer_sum *sum, uint64_t entry, uint64_t len, uint64_t bytes, uint64_t most)
{
	if (entry < sum->counted || sum->over)
		return !sum->over;
	if (__builtin_add_overflow(entry, len, &sum->counted))
		sum->counted = UINT64_MAX;
	sum->over = __builtin_add_overflow(sum->bytes, bytes, &sum->bytes) || sum->bytes > most;
	return !sum->over;
}
