#include "source/vmware/device_url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OFFERED_MAX 1024

/* What is offered, and which disk took it. */
struct offer {
	const xmlNode *node;
	char *place; /* the key's last part */
	bool taken;
};

struct offers {
	struct offer *list;
	size_t count;
};

static void offers_free(struct offers *o)
{
	for (size_t i = 0; i < o->count; i++)
		free(o->list[i].place);
	free(o->list);
}

static int list_offers(const xmlNode *info, struct offers *out, struct error **err)
{
	size_t max = 0;

	for (const xmlNode *u = xml_child(info, "deviceUrl"); u; u = xml_next(u, "deviceUrl"))
		max++;
	if (max > OFFERED_MAX)
		return error_set(err, ERROR_PERMANENT, "TooManyDevices", "the export offers %zu files", max);
	out->list = calloc(max + 1, sizeof *out->list);
	if (!out->list)
		return error_set_errno(err, ENOMEM, "cannot read the export lease");
	for (const xmlNode *u = xml_child(info, "deviceUrl"); u; u = xml_next(u, "deviceUrl")) {
		AUTO_FREE char *key = xml_path_text(u, "key");
		const char *slash = key ? strrchr(key, '/') : NULL;
		struct offer *o = &out->list[out->count];

		if (!xml_path_is(u, "disk", "true")) /* nvram, CD images */
			continue;
		o->node = u;
		o->place = strdup(slash ? slash + 1 : key ? key : "");
		if (!o->place)
			return error_set_errno(err, ENOMEM, "cannot read the export lease");
		out->count++;
	}
	return 0;
}

/* The part of a disk's id that a lease's keys end with: "ParaVirtualSCSIController0:0". */
static const char *place_of(const struct vm_disk *disk)
{
	const char *space = disk->id ? strchr(disk->id, ' ') : NULL;

	return space ? space + 1 : "";
}

static bool same_place(const char *offered, const char *wanted)
{
	return *wanted && !strcasecmp(offered, wanted);
}

/* The numbers that a place ends with, "0:1"; "" when it does not. */
static const char *numbers_of(const char *place)
{
	const char *colon = strrchr(place, ':'), *from = colon;

	if (!colon || !colon[1] || strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return "";
	while (from > place && from[-1] >= '0' && from[-1] <= '9')
		from--;
	return from < colon ? from : "";
}

static const char *family_of(const char *place)
{
	static const char *const families[][2] = { { "SCSI", "SCSI" }, { "Lsi", "SCSI" },  { "BusLogic", "SCSI" }, { "AHCI", "SATA" },
						   { "SATA", "SATA" }, { "NVME", "NVME" }, { "IDE", "IDE" },       { "USB", "USB" } };

	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		if (strcasestr(place, families[i][0]))
			return families[i][1];
	return "";
}

/* The controller may go by another name of the same kind. */
static bool like_place(const char *offered, const char *wanted)
{
	return *numbers_of(wanted) && !strcmp(numbers_of(offered), numbers_of(wanted)) && *family_of(wanted) &&
	       !strcmp(family_of(offered), family_of(wanted));
}

static size_t match_by(struct offers *offers, const struct vm_model *model, const xmlNode **urls, bool (*same)(const char *, const char *))
{
	size_t matched = 0;

	for (size_t i = 0; i < model->disk_count; i++) {
		for (size_t k = 0; k < offers->count && !urls[i]; k++) {
			struct offer *o = &offers->list[k];

			if (o->taken || !same(o->place, place_of(&model->disks[i])))
				continue;
			urls[i] = o->node;
			o->taken = true;
			matched++;
		}
	}
	return matched;
}

/* Whether what is offered bears the name of a disk other than i. */
static bool names_another(const struct offer *o, const struct vm_model *model, size_t i)
{
	for (size_t k = 0; k < model->disk_count; k++)
		if (k != i && (same_place(o->place, place_of(&model->disks[k])) || like_place(o->place, place_of(&model->disks[k]))))
			return true;
	return false;
}

/* One that is left over on both sides: there is no other that it could be. */
static void match_last(struct offers *offers, const struct vm_model *model, const xmlNode **urls)
{
	size_t i = 0, k = 0;

	while (urls[i])
		i++;
	while (offers->list[k].taken)
		k++;
	if (!names_another(&offers->list[k], model, i))
		urls[i] = offers->list[k].node;
}

/* The place of a disk among the others in the order of the devices' keys, in which a lease lists them. */
static size_t rank_of(const struct vm_model *model, size_t i)
{
	long long key = strtoll(model->disks[i].id, NULL, 10);
	size_t rank = 0;

	for (size_t k = 0; k < model->disk_count; k++) {
		long long other = strtoll(model->disks[k].id, NULL, 10);

		rank += other < key || (other == key && k < i);
	}
	return rank;
}

int device_urls_match(const xmlNode *info, const struct vm_model *model, const xmlNode **urls, struct error **err)
{
	CLEANUP(offers_free) struct offers offers = { 0 };
	size_t matched;

	if (list_offers(info, &offers, err) < 0)
		return -1;
	for (size_t i = 0; i < model->disk_count; i++)
		urls[i] = NULL;
	matched = match_by(&offers, model, urls, same_place);
	matched += match_by(&offers, model, urls, like_place);
	if (!matched && offers.count == model->disk_count) {
		for (size_t i = 0; i < model->disk_count; i++)
			urls[i] = offers.list[rank_of(model, i)].node;
		return 0;
	}
	if (offers.count == model->disk_count && matched + 1 == model->disk_count)
		match_last(&offers, model, urls);
	for (size_t i = 0; i < model->disk_count; i++)
		if (!urls[i])
			return error_set(err, ERROR_PERMANENT, "DiskNotExported", "the export of %s does not offer %s (%s)", model->name,
					 model->disks[i].label ? model->disks[i].label : "a disk", place_of(&model->disks[i]));
	if (offers.count > model->disk_count)
		return error_set(err, ERROR_TRANSIENT, "DisksChanged", "the export of %s offers %zu disks, but it had %zu just before",
				 model->name, offers.count, model->disk_count);
	return 0;
}

const xmlNode *device_url_nvram(const xmlNode *info)
{
	for (const xmlNode *u = xml_child(info, "deviceUrl"); u; u = xml_next(u, "deviceUrl")) {
		AUTO_FREE char *key = xml_path_text(u, "key"), *target = xml_path_text(u, "targetId");
		const char *slash = key ? strrchr(key, '/') : NULL, *dot = target ? strrchr(target, '.') : NULL;

		if (!xml_path_is(u, "disk", "true") && ((slash && !strcasecmp(slash + 1, "nvram")) || (dot && !strcasecmp(dot, ".nvram"))))
			return u;
	}
	return NULL;
}

char *device_url_resolve(const char *url, const char *host)
{
	const char *star = strstr(url, "://*");
	size_t len = strlen(host);
	char *out = NULL;

	if (!star)
		return strdup(url);
	if (star[4] == ':') { /* the URL has a port of its own */
		const char *bracket = *host == '[' ? strchr(host, ']') : NULL;

		len = bracket ? (size_t)(bracket + 1 - host) : strcspn(host, ":");
	}
	return asprintf(&out, "%.*s://%.*s%s", (int)(star - url), url, (int)len, host, star + 4) < 0 ? NULL : out;
}
