/* OVF descriptors: what is in the package, and each virtual system as a vm_model. No I/O; every text is taken as hostile.
 *
 * Source of the format: DMTF DSP0243 1.1 and 2.1 (Open Virtualization Format), CIM_ResourceAllocationSettingData for the items; of what
 * VMware, VirtualBox and oVirt add there is no specification: it is what their exports hold. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/vm_model.h"
#include "base/error.h"

#define OVF_MAX_BYTES (16u << 20) /* of a descriptor */
#define OVF_NO_FILE SIZE_MAX

/* A file of the package. */
struct ovf_file {
	char *id;
	char *href;     /* relative, without "..", as the descriptor writes it but for "./" in front */
	uint64_t size;  /* bytes as it is in the package; 0: not told */
	uint64_t chunk; /* bytes of a part: the file is split into HREF.000000000, HREF.000000001, ...; 0: it is not */
	bool gzip;      /* ovf:compression */
};

struct ovf_disk {
	char *id;
	size_t file;        /* index; OVF_NO_FILE: an empty disk */
	uint64_t capacity;  /* bytes, at least 1 */
	uint64_t populated; /* bytes that the descriptor says it holds; 0: not told */
	char *format;       /* URI or NULL; a hint only, for it is often wrong */
	char *interface;    /* oVirt's disk-interface, or NULL */
	bool boot;          /* oVirt: the one to boot from */
	char *problem;      /* why it cannot be imported, or NULL; it matters only where a system uses the disk */
};

struct ovf;

/* Permanent InvalidDescriptor when it is none, or one that cannot be used. */
struct ovf *ovf_parse(const char *text, size_t len, struct error **err);
void ovf_free(struct ovf *ovf); /* accepts NULL */

/* The virtual system that `name` chooses by its ovf:id or Name; where there is only one, that one. Not found and VirtualMachineAmbiguous list
 * the names there are. A disk's id is its ovf:diskId. source_id, path and notes are the caller's to complete. */
struct vm_model *ovf_model(const struct ovf *ovf, const char *name, struct error **err);

size_t ovf_file_count(const struct ovf *ovf);
const struct ovf_file *ovf_file(const struct ovf *ovf, size_t i);
const struct ovf_disk *ovf_disk(const struct ovf *ovf, const char *id); /* NULL when there is none */

/* Whether the name of a member of the package is the one of this reference: hrefs may be written with %20 and the like. */
bool ovf_href_is(const char *href, const char *name);
/* The name that a member goes by: without "./" in front. NULL when it is absolute, has "..", a backslash or control characters. */
const char *ovf_safe_name(const char *name);

DEFINE_CLEANUP(struct ovf, ovf_free_p, ovf_free)
#define AUTO_OVF CLEANUP(ovf_free_p)
