/* A file of a package of which any part can be read: where its disk is of a format that is not made for streams. */
#pragma once

#include "disk/format.h"
#include "disk/input.h"
#include "source/ova/package.h"

/* Whether a disk of this format is read by place; *name, if so, is what source_disk.format is to be. */
bool place_reads(enum disk_format format, const char **name);

/* Where a file's bytes are. What is not said to be owned is the package's. */
struct place {
	const struct remote *remote;
	const char *name; /* for messages */
	char *url;        /* owned; of the file itself, or of the OVA */
	uint64_t at, size;
	struct remote_version version; /* owned */
};

/* Where a file is, if it is in one piece and not compressed; asks the server where it lies beside the descriptor. 1: it can be read by place; 0: it
 * cannot, for the server sends no parts; -1. head gets its beginning, *len bytes of it. */
int place_find(const struct package *package, const struct ovf_file *file, struct place *place, void *head, size_t *len,
	       struct cancel *cancel, struct error **err);
void place_clear(struct place *place);

/* Compares all of it with the manifest, where that names it: it is read for that. */
int place_verify(const struct place *place, const struct manifest *manifest, struct cancel *cancel, struct error **err);
/* place becomes the input's, also on failure; cancel and the package must outlive it. */
struct disk_input *place_open(struct place *place, struct cancel *cancel, struct error **err);
