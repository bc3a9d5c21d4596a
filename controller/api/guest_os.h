/* Guest operating systems by the ids that sources give them: VirtualMachineGuestOsIdentifier of the vSphere API (debian12_64Guest,
 * windows2019srv_64Guest), and as far as they begin alike libosinfo's and OpenStack's (debian12, win2k19, windows). */
#pragma once

#include <stdbool.h>

/* The value of Harvester's label harvesterhci.io/os (those that its UI offers): windows, debian, ubuntu, redhat, ..., linux for all others
 * of them; NULL for what is none of these, or not known. id may be NULL. */
const char *guest_os_label(const char *id);
bool guest_os_is_windows(const char *id);

enum guest_windows {
	GUEST_WINDOWS_NONE,
	GUEST_WINDOWS_OLD,   /* up to Windows XP and Server 2003 */
	GUEST_WINDOWS_VISTA, /* from Vista and Server 2008 on: knows Hyper-V's enlightenments */
	GUEST_WINDOWS_TEN,   /* from Windows 10 and Server 2016 on */
};
enum guest_windows guest_os_windows(const char *id);
