/* What an export lease offers for download, matched with the machine's disks. No I/O.
 *
 * Source: vSphere Web Services API reference, HttpNfcLeaseInfo, HttpNfcLeaseDeviceUrl. The form of its key, such as
 * "/vm-12/ParaVirtualSCSIController0:1", is not specified: it is what ESXi sends. */
#pragma once

#include "api/vm_model.h"
#include "base/error.h"
#include "xml/xml.h"

/* Finds each disk's <deviceUrl> in <info>: urls has room for the model's disk_count, and points into the document. By the keys; by order only
 * where no key tells anything. Permanent DiskNotExported when a disk has none, transient DisksChanged when there are others too. */
int device_urls_match(const xmlNode *info, const struct vm_model *model, const xmlNode **urls, struct error **err);

/* The <deviceUrl> of the machine's NVRAM in <info>, or NULL. */
const xmlNode *device_url_nvram(const xmlNode *info);

/* The URL with the star that may stand for the endpoint's host replaced: host is "name" or "name:port", with IPv6 addresses in brackets.
 * Owned; NULL when memory is out. */
char *device_url_resolve(const char *url, const char *host);
