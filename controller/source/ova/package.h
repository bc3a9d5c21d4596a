/* An OVF package on a web server: an OVA, or a descriptor beside its files. What is known of it without reading its disks.
 *
 * Where the server sends parts of files (ranges), all members of an OVA are known; where it does not, only what stands in front of the first disk. Immutable once
 * opened, so threads may share it. */
#pragma once

#include "source/ova/manifest.h"
#include "source/ova/ovf.h"
#include "source/ova/remote.h"
#include "source/ova/tape.h"

struct package {
	const struct remote *remote;
	struct remote_version version; /* of the OVA, or of the descriptor */
	bool beside;                   /* the descriptor's files lie beside it */
	bool complete;                 /* members and manifest are all known */
	struct ovf *ovf;
	char *ovf_name;
	unsigned char ovf_digest[32]; /* SHA-256 of the descriptor */
	struct manifest *manifest;    /* NULL: none, or none yet */
	char *signature;              /* a sentence about the .cert, or NULL */
	struct tape_member *members;
	size_t member_count;
};

/* Fetches and checks what is said above; with a manifest, the descriptor's digest too. Takes nothing but memory. */
struct package *package_open(const struct remote *remote, struct cancel *cancel, struct error **err);
/* The same of an OVA in memory that is whole; for tests. */
struct package *package_open_memory(const void *data, size_t len, struct error **err);
void package_free(struct package *package); /* accepts NULL */

/* What tells this state of the package from every other: its descriptor's name, and a digest of its URL, of what the server tells versions by
 * (of files beside the descriptor, each file's), of descriptor and manifest. Where the server tells nothing of versions, a file of the same
 * size that took another's place is known by the manifest only. Owned. */
char *package_identity(const struct package *package, struct cancel *cancel, struct error **err);

/* The member that a file's reference means; NULL when there is none (or none is known). */
const struct tape_member *package_member(const struct package *package, const char *href);

/* The name of a file's part, in order from 0: the file's own name when it is not split, else with ".000000000" and so on. Owned; NULL when memory is
 * out. */
char *package_part_name(const struct ovf_file *file, size_t part);
/* How many parts a file has; 0: that is found out only when no more come. */
size_t package_part_count(const struct package *package, const struct ovf_file *file);

/* Whether the package has a file as its descriptor says, as far as that is known. Permanent InvalidArchive.
 * The size of a file in one piece (ovf:size) is not looked at: govc writes the capacity of all disks of the machine there, as ESXi tells no size
 * before an export. A disk that is cut is known by its content, or by its capacity. */
int package_check_file(const struct package *package, const struct ovf_file *file, struct error **err);

DEFINE_CLEANUP(struct package, package_free_p, package_free)
#define AUTO_PACKAGE CLEANUP(package_free_p)
