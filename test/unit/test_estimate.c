// links: reconcile transfer source api disk base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "reconcile/context.h"

#define MIB (UINT64_C(1) << 20)

static struct vm_disk disks[] = { { .id = (char *)"a", .capacity = 100 * MIB, .allocated = 40 * MIB },
				  { .id = (char *)"b", .capacity = 60 * MIB } };
static const struct vm_model model = { .name = (char *)"m", .disks = disks, .disk_count = 2 };

static int one_pass(struct source *source, const struct vm_model *m, struct source_load *out, struct cancel *cancel, struct error **err)
{
	(void)source;
	(void)m;
	(void)cancel;
	(void)err;
	*out = (struct source_load){ .bytes = 50 * MIB, .largest = 50 * MIB, .streams = 1 };
	return 0;
}

static int no_load(struct source *source, const struct vm_model *m, struct source_load *out, struct cancel *cancel, struct error **err)
{
	(void)source;
	(void)m;
	(void)cancel;
	*out = (struct source_load){ .bytes = 1 };
	return error_set(err, ERROR_TRANSIENT, NULL, "not now");
}

static int ten_a_second(struct source *source, const struct vm_model *m, uint64_t *rate, struct cancel *cancel, struct error **err)
{
	(void)source;
	(void)m;
	(void)cancel;
	(void)err;
	*rate = 10 * MIB;
	return 0;
}

static int no_sample(struct source *source, const struct vm_model *m, uint64_t *rate, struct cancel *cancel, struct error **err)
{
	(void)source;
	(void)m;
	(void)cancel;
	*rate = 7;
	return error_set(err, ERROR_TRANSIENT, NULL, "it is on");
}

static struct estimate estimate_of(const struct source_ops *ops)
{
	struct source source = { .ops = ops };
	struct estimate e;

	preflight_estimate(&source, &model, &e, NULL);
	return e;
}

static void test_what_the_disks_hold(void **state)
{
	struct estimate e = estimate_of(&(struct source_ops){ .sample = ten_a_second });

	(void)state;
	assert_true(e.bytes == 100 * MIB); /* 40 allocated, and 60 of which that is not known */
	assert_int_equal(e.seconds, 7);    /* the largest, alone */
	assert_null(e.no_sample);
	e = estimate_of(&(struct source_ops){ .sample = ten_a_second, .load = no_load });
	assert_true(e.bytes == 100 * MIB);
}

static void test_what_the_source_sends(void **state)
{
	struct estimate e = estimate_of(&(struct source_ops){ .sample = ten_a_second, .load = one_pass });

	(void)state;
	assert_true(e.bytes == 50 * MIB);
	assert_int_equal(e.seconds, 6); /* in one stream, though there are two disks */
}

/* No time is no reason to say nothing. */
static void test_why_no_time(void **state)
{
	struct estimate e = estimate_of(&(struct source_ops){ .no_sample = "the cloud" });

	(void)state;
	assert_true(e.bytes == 100 * MIB && !e.seconds && !e.rate);
	assert_string_equal(e.no_sample, "the cloud");
	free(e.no_sample);
	e = estimate_of(&(struct source_ops){ .sample = no_sample });
	assert_true(!e.seconds && !e.rate);
	assert_string_equal(e.no_sample, "it is on");
	free(e.no_sample);
	/* Every source either measures or says why it cannot. */
	static const char *const kinds[] = { "VmwareSource", "OpenstackSource", "OvaSource" };
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		assert_true(source_ops_of(kinds[i])->sample || source_ops_of(kinds[i])->no_sample);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_disks_hold),
		cmocka_unit_test(test_what_the_source_sends),
		cmocka_unit_test(test_why_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
