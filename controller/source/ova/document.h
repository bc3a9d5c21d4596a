/* The parts of an OVF descriptor as its readers share them. Internal to source/ova/. */
#pragma once

#include "source/ova/ovf.h"
#include "xml/xml.h"

struct ovf {
	xmlDoc *doc;
	const xmlNode *envelope;
	struct ovf_file *files;
	size_t file_count;
	struct ovf_disk *disks;
	size_t disk_count;
	const xmlNode **systems; /* VirtualSystem, in collections too */
	size_t system_count;
};

/* A child that is a section of this name: <NameSection>, or <Section xsi:type="ovf:NameSection_Type"> as before OVF 1.0. Sections of a kind
 * may be several: `after` the last one, or NULL. */
const xmlNode *ovf_section(const xmlNode *parent, const char *name, const xmlNode *after);

/* The text of a child, without spaces around it; owned, NULL when there is none or it is empty. */
char *ovf_text(const xmlNode *node, const char *child);
/* An attribute in the same way. */
char *ovf_attribute(const xmlNode *node, const char *name);

/* hardware.c: fills the model from <VirtualHardwareSection> and what vendors add to the system. */
int ovf_read_hardware(const struct ovf *ovf, const xmlNode *system, struct vm_model *model, struct error **err);

/* Adds a sentence to the model's notes. */
void ovf_note(struct vm_model *model, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
