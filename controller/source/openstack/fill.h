/* Bytes on their way to a disk of a certain size: what is missing at the end is zero, what is too much must be. Internal to
 * source/openstack/. */
#pragma once

#include "source/source.h"

struct fill {
	source_sink sink;
	void *arg;
	uint64_t capacity, passed; /* bytes */
};

/* A source_sink; arg is a struct fill. Data beyond the capacity is permanent DiskLarger. */
int fill_push(void *arg, const void *data, size_t len, struct error **err);
/* Zeros up to the capacity. */
int fill_rest(struct fill *f, struct cancel *cancel, struct error **err);
/* The header of an empty swap space over the whole disk, then zeros. Source: mkswap(8), union swap_header of Linux, pages of 4 KiB. */
int fill_swap(struct fill *f, struct cancel *cancel, struct error **err);
