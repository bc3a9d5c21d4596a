// links: api base
/* Guest operating systems by their ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "api/guest_os.h"

static void test_labels(void **state)
{
	static const char *const cases[][2] = {
		{ "windows2019srvNext_64Guest", "windows" },
		{ "winNetEnterprise64Guest", "windows" },
		{ "windows9Server64Guest", "windows" },
		{ "debian12_64Guest", "debian" },
		{ "ubuntu64Guest", "ubuntu" },
		{ "fedora64Guest", "fedora" },
		{ "rhel9_64Guest", "redhat" },
		{ "redhatGuest", "redhat" },
		{ "oracleLinux8_64Guest", "oracle" },
		{ "sles15_64Guest", "openSUSE" },
		{ "opensuse64Guest", "openSUSE" },
		{ "mandrakeGuest", "mandriva" },
		{ "turboLinux64Guest", "turbolinux" },
		{ "centos7_64Guest", "linux" },
		{ "rockylinux_64Guest", "linux" },
		{ "almalinux_64Guest", "linux" },
		{ "vmwarePhoton64Guest", "linux" },
		{ "other5xLinux64Guest", "linux" },
		{ "otherLinux64Guest", "linux" },
		{ "genericLinuxGuest", "linux" },
		{ "freebsd13_64Guest", NULL },
		{ "darwin20_64Guest", NULL }, /* not "win" */
		{ "solaris11_64Guest", NULL },
		{ "otherGuest64", NULL },
		{ "vmkernel8Guest", NULL },
		{ "", NULL },
		{ NULL, NULL },
		/* Of other sources. */
		{ "windows", "windows" },
		{ "Ubuntu_64", "ubuntu" },
		{ "Red Hat Enterprise Linux 9", "linux" },
		{ "debian12", "debian" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *label = guest_os_label(cases[i][0]);

		assert_string_equal(label ? label : "(none)", cases[i][1] ? cases[i][1] : "(none)");
	}
}

static void test_windows(void **state)
{
	static const struct {
		const char *id;
		enum guest_windows windows;
	} cases[] = {
		{ NULL, GUEST_WINDOWS_NONE },
		{ "darwin64Guest", GUEST_WINDOWS_NONE },
		{ "debian12_64Guest", GUEST_WINDOWS_NONE },
		{ "winXPProGuest", GUEST_WINDOWS_OLD },
		{ "winNetStandard64Guest", GUEST_WINDOWS_OLD },
		{ "win2000ServGuest", GUEST_WINDOWS_OLD },
		{ "winVista64Guest", GUEST_WINDOWS_VISTA },
		{ "winLonghorn64Guest", GUEST_WINDOWS_VISTA },
		{ "windows7Server64Guest", GUEST_WINDOWS_VISTA },
		{ "windows8Server64Guest", GUEST_WINDOWS_VISTA },
		{ "win2k8r2", GUEST_WINDOWS_VISTA },
		{ "windows", GUEST_WINDOWS_VISTA },
		{ "windows9_64Guest", GUEST_WINDOWS_TEN },
		{ "windows9Server64Guest", GUEST_WINDOWS_TEN },
		{ "windows2019srv_64Guest", GUEST_WINDOWS_TEN },
		{ "windows2022srvNext_64Guest", GUEST_WINDOWS_TEN },
		{ "windows11_64Guest", GUEST_WINDOWS_TEN },
		{ "win2k22", GUEST_WINDOWS_TEN },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(guest_os_windows(cases[i].id), cases[i].windows);
		assert_int_equal(guest_os_is_windows(cases[i].id), cases[i].windows != GUEST_WINDOWS_NONE);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
