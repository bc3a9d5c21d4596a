#include "api/guest_os.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

struct prefix {
	const char *id;
	const char *label;
};

/* The first that an id begins with counts. */
static const struct prefix labels[] = {
	{ "win", "windows" },
	{ "debian", "debian" },
	{ "ubuntu", "ubuntu" },
	{ "fedora", "fedora" },
	{ "gentoo", "gentoo" },
	{ "mandrake", "mandriva" },
	{ "mandriva", "mandriva" },
	{ "oracleLinux", "oracle" },
	{ "rhel", "redhat" },
	{ "redhat", "redhat" },
	/* Harvester's UI takes all of SUSE for openSUSE. */
	{ "opensuse", "openSUSE" },
	{ "suse", "openSUSE" },
	{ "sles", "openSUSE" },
	{ "nld9", "openSUSE" },
	{ "oesGuest", "openSUSE" },
	{ "turboLinux", "turbolinux" },
	{ "xandros", "xandros" },
	{ "almalinux", "linux" },
	{ "alpine", "linux" },
	{ "amazonlinux", "linux" },
	{ "arch", "linux" },
	{ "asianux", "linux" },
	{ "centos", "linux" },
	{ "coreos", "linux" },
	{ "fusionos", "linux" },
	{ "kylinlinux", "linux" },
	{ "linux", "linux" },
	{ "miraclelinux", "linux" },
	{ "pardus", "linux" },
	{ "prolinux", "linux" },
	{ "rocky", "linux" },
	{ "sjds", "linux" },
	{ "vmwarePhoton", "linux" },
};

static bool begins(const char *text, const char *with)
{
	return !strncasecmp(text, with, strlen(with));
}

const char *guest_os_label(const char *id)
{
	for (size_t i = 0; id && i < sizeof labels / sizeof *labels; i++)
		if (begins(id, labels[i].id))
			return labels[i].label;
	/* otherLinux64Guest, other5xLinuxGuest, genericLinuxGuest */
	return id && strcasestr(id, "linux") ? "linux" : NULL;
}

enum guest_windows guest_os_windows(const char *id)
{
	static const char *const old[] = { "win31", "win95", "win98", "winMe", "winNT", "winNet", "win2000", "winXP", "win2k3", "win2k" };
	static const char *const ten[] = { "windows9", "windows10", "windows11", "windows12", "windows2016", "windows2019", "windows202",
					   "win10",    "win11",     "win2k16",   "win2k19",   "win2k22",     "win2k25" };
	static const char *const vista[] = { "win2k8", "win2k12" };

	if (!id || !begins(id, "win"))
		return GUEST_WINDOWS_NONE;
	for (size_t i = 0; i < sizeof ten / sizeof *ten; i++)
		if (begins(id, ten[i]))
			return GUEST_WINDOWS_TEN;
	for (size_t i = 0; i < sizeof vista / sizeof *vista; i++)
		if (begins(id, vista[i]))
			return GUEST_WINDOWS_VISTA;
	for (size_t i = 0; i < sizeof old / sizeof *old; i++)
		if (begins(id, old[i]))
			return GUEST_WINDOWS_OLD;
	return GUEST_WINDOWS_VISTA;
}

bool guest_os_is_windows(const char *id)
{
	return guest_os_windows(id) != GUEST_WINDOWS_NONE;
}
