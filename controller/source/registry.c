#include <strings.h>

#include "source/openstack/openstack.h"
#include "source/ova/ova.h"
#include "source/source.h"
#include "source/vmware/vmware.h"

static const struct source_ops *const providers[] = { &openstack_source_ops, &ova_source_ops, &vmware_source_ops };

const struct source_ops *source_ops_of(const char *kind)
{
	for (size_t i = 0; kind && i < sizeof providers / sizeof *providers; i++)
		if (!strcasecmp(kind, providers[i]->kind))
			return providers[i];
	return NULL;
}
