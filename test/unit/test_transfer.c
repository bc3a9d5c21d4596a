// links: transfer disk source api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "fake_source.h"

static void test_fetches_all_disks_once(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	transfer_status(b.engine, "job", &status);
	assert_int_equal(status.state, TRANSFER_NONE);
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_int_equal(status.disk_count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_true(status.disks[i].done);
		assert_int_equal(status.disks[i].transferred, disks[i].capacity);
		assert_memory_equal(status.disks[i].digest, "vmid2:", 6);
		check_disk(&b, i);
	}
	transfer_status_clear(&status);
	assert_int_equal(b.fake.completed, 1);
	assert_int_equal(b.fake.released, 1);
	/* The next process finds the journal and fetches nothing. */
	transfer_end(b.engine, "job");
	assert_true(journal_complete(b.below, &model));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.begun, 1);
	assert_int_equal(b.fake.streams, 3);
	assert_int_equal(b.fake.released, 2);
	teardown(&b);
}

static void test_fetches_only_what_is_missing(void **state)
{
	struct transfer_status status;
	char path[128];
	struct bench b;
	struct stat st;
	int fd;

	(void)state;
	setup(&b);
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	/* A disk of another length is not the one that was recorded. */
	snprintf(path, sizeof path, "%s/disk-1.raw", b.below);
	assert_int_equal(truncate(path, 5), 0);
	assert_false(journal_complete(b.below, &model));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	check_digest(path, status.disks[1].digest);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 4);
	check_disk(&b, 1);
	/* Nor is one of other content; one that was only touched is. */
	transfer_end(b.engine, "job");
	assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
	assert_true(journal_complete(b.below, &model));
	assert_int_equal(stat(path, &st), 0);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "?", 1, 70000), 1);
	assert_int_equal(futimens(fd, (const struct timespec[]){ st.st_atim, st.st_mtim }), 0);
	assert_true(journal_complete(b.below, &model)); /* it was read once, and is not read again */
	assert_int_equal(futimens(fd, NULL), 0);
	close(fd);
	assert_false(journal_complete(b.below, &model));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	check_digest(path, status.disks[1].digest);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 5);
	check_disk(&b, 1);
	teardown(&b);
}

/* What a failed import fetched stays, is compared with what the source sends now, and corrected. */
static void test_doubted_disks_are_compared(void **state)
{
	struct transfer_status status;
	char path[128], blocks[128], first[DISK_DIGEST_TEXT_SIZE];
	struct stat before, after;
	struct bench b;

	(void)state;
	setup(&b);
	snprintf(path, sizeof path, "%s/disk-0.raw", b.below);
	snprintf(blocks, sizeof blocks, "%s/.disk-0.raw.blocks", b.below);
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	strcpy(first, status.disks[0].digest);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	assert_int_equal(stat(path, &before), 0);
	journal_doubt(b.below);
	assert_int_equal(access(blocks, F_OK), 0);
	assert_false(journal_complete(b.below, &model));
	assert_true(journal_kept_bytes(b.below, &model) > 0);
	assert_null(journal_load_model(b.below));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_int_equal(b.fake.streams, 6);
	assert_string_equal(status.disks[0].digest, first);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	/* The machine ran in between. */
	journal_doubt(b.below);
	b.fake.other = 40;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_string_not_equal(status.disks[0].digest, first);
	check_digest(path, status.disks[0].digest);
	transfer_status_clear(&status);
	/* An empty directory is not kept. */
	transfer_end(b.engine, "job");
	assert_int_equal(journal_remove(b.below, NULL), 0);
	assert_int_equal(mkdir(b.below, 0700), 0);
	journal_doubt(b.below);
	assert_int_equal(access(b.below, F_OK), -1);
	teardown(&b);
}

/* A machine that was started while it was read has disks of two states: none of them is kept, though all of the bytes came. */
static void test_a_machine_that_was_started_is_read_anew(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.resumable = b.fake.started = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	assert_string_equal(status.error->reason, "NotPoweredOff");
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	assert_int_equal(b.fake.streams, 3);
	assert_false(journal_complete(b.below, &model));
	b.fake.started = false;
	b.fake.other = 40;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 6);
	assert_int_equal(b.fake.resumed, 0);
	teardown(&b);
}

static void test_breaks_are_fetched_again(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.fail_streams = 2;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.begun, 1);
	assert_int_equal(b.fake.streams, 5);
	for (size_t i = 0; i < 3; i++)
		check_disk(&b, i);
	teardown(&b);
}

static void test_permanent_failure_aborts(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.fail_streams = 1;
	b.fake.permanent = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	assert_int_equal(status.error->class, ERROR_PERMANENT);
	assert_non_null(strstr(status.error->message, "Hard disk"));
	transfer_status_clear(&status);
	assert_int_equal(b.fake.aborted, 1);
	assert_int_equal(b.fake.completed, 0);
	assert_int_equal(b.fake.released, 1);
	teardown(&b);
}

/* Who writes what it is told into an object, and is called for that change again, must not find another figure each time. */
static void test_figures_change_with_notifications_only(void **state)
{
	static const unsigned beats[] = { 60000, 20 };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct transfer_status status;
		struct bench b;

		setup_notified(&b, beats[i]);
		b.fake.hang = true;
		assert_int_equal(start(&b, NULL, NULL), 0);
		while (b.fake.streams < 3)
			cancel_wait(NULL, 5);
		cancel_wait(NULL, 300);
		transfer_status(b.engine, "job", &status);
		assert_int_equal(status.state, TRANSFER_RUNNING);
		assert_int_equal(status.disks[0].transferred > 0, i == 1);
		transfer_status_clear(&status);
		transfer_end(b.engine, "job");
		teardown(&b);
	}
}

static void test_cancel_lets_go_at_once(void **state)
{
	uint64_t begun;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.hang = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	while (b.fake.streams < 3)
		cancel_wait(NULL, 5);
	begun = clock_monotonic_ms();
	transfer_end(b.engine, "job");
	assert_true(clock_monotonic_ms() - begun < 2000);
	assert_int_equal(b.fake.aborted, 1);
	assert_int_equal(b.fake.released, 1);
	assert_false(journal_complete(b.below, &model));
	teardown(&b);
}

static void test_engine_end_cancels_jobs(void **state)
{
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.hang = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	while (!b.fake.streams)
		cancel_wait(NULL, 5);
	teardown(&b);
	assert_int_equal(b.fake.aborted, 1);
	assert_int_equal(b.fake.released, 1);
}

static int refuse(void *arg, bool made, const char *kind, const char *id, struct error **err)
{
	(void)arg;
	(void)kind;
	(void)id;
	return made ? error_set(err, ERROR_CONFLICT, "Conflict", "not recorded") : 0;
}

static void test_nothing_is_made_that_is_not_recorded(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	assert_int_equal(start(&b, refuse, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.begun, 0);
	teardown(&b);
}

/* The disks of the model but the first are here. */
static void fetch_others(struct bench *b)
{
	struct transfer_status status;
	char path[128];

	assert_int_equal(start(b, NULL, NULL), 0);
	assert_int_equal(wait_end(b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	transfer_end(b->engine, "job");
	snprintf(path, sizeof path, "%s/disk-0.raw", b->below);
	assert_int_equal(unlink(path), 0);
	b->fake.streams = 0;
}

/* Content that is wrong twice in the same place is wrong at the source. */
static void test_damage_is_not_fetched_for_ever(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	fetch_others(&b);
	b.fake.stored = true;
	b.fake.short_streams = 1;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_null(status.again);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 2);
	check_disk(&b, 0);
	teardown(&b);

	setup(&b);
	fetch_others(&b);
	b.fake.stored = true;
	b.fake.short_streams = 100;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	assert_int_equal(status.error->class, ERROR_PERMANENT);
	assert_string_equal(status.error->reason, "StreamTruncated");
	assert_non_null(strstr(status.error->message, "it was fetched twice and is damaged in the same place"));
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 2);
	teardown(&b);

	/* Of what the source makes anew for each stream, more is hoped for. */
	setup(&b);
	fetch_others(&b);
	b.fake.short_streams = 2;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.streams, 3);
	teardown(&b);
}

/* While a disk is fetched again, that and why is told. */
static void test_what_is_fetched_again_is_told(void **state)
{
	struct transfer_status status = { 0 };
	uint64_t end = clock_monotonic_ms() + 60000;
	struct bench b;

	(void)state;
	setup(&b);
	fetch_others(&b);
	b.fake.short_streams = 1;
	b.fake.hang = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	while (!status.again && clock_monotonic_ms() < end) {
		transfer_status_clear(&status);
		usleep(10000);
		transfer_status(b.engine, "job", &status);
	}
	assert_non_null(status.again);
	assert_int_equal(status.state, TRANSFER_RUNNING);
	assert_non_null(strstr(status.again, TRANSFER_AGAIN " (try 2): the stream ended after "));
	assert_memory_equal(status.again, "disk 0 (", 8);
	transfer_status_clear(&status);
	teardown(&b);
}

static void test_no_space_is_told_before(void **state)
{
	struct vm_disk huge = { .id = (char *)"1", .capacity = UINT64_MAX / 2 };
	struct vm_disk *small = model.disks;
	AUTO_ERROR struct error *err = NULL;
	struct bench b;

	(void)state;
	setup(&b);
	model.disks = &huge;
	model.disk_count = 1;
	assert_int_equal(start(&b, NULL, &err), -1);
	model.disks = small;
	model.disk_count = 3;
	assert_string_equal(err->reason, "NoSpace");
	assert_non_null(strstr(err->message, "are missing"));
	assert_non_null(strstr(err->message, "pvcClaim.size")); /* which value to change */
	assert_int_equal(b.fake.released, 1);
	teardown(&b);
}

/* In the words of who asks: a directory that a person named is no volume of a chart. */
static void test_no_space_in_a_directory(void **state)
{
	struct vm_disk huge = { .id = (char *)"1", .capacity = UINT64_MAX / 2 };
	struct vm_model machine = { .disks = &huge, .disk_count = 1 };
	AUTO_ERROR struct error *err = NULL;

	(void)state;
	assert_int_equal(transfer_check_space(NULL, TRANSFER_DIRECTORY, "/tmp", NULL, &machine, &err), -1);
	assert_non_null(strstr(err->message, "the file system of /tmp has "));
	assert_non_null(strstr(err->message, "are missing; free 8.0 EiB there, or name a directory"));
	assert_null(strstr(err->message, "Helm"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetches_all_disks_once),
		cmocka_unit_test(test_fetches_only_what_is_missing),
		cmocka_unit_test(test_doubted_disks_are_compared),
		cmocka_unit_test(test_a_machine_that_was_started_is_read_anew),
		cmocka_unit_test(test_breaks_are_fetched_again),
		cmocka_unit_test(test_permanent_failure_aborts),
		cmocka_unit_test(test_figures_change_with_notifications_only),
		cmocka_unit_test(test_cancel_lets_go_at_once),
		cmocka_unit_test(test_engine_end_cancels_jobs),
		cmocka_unit_test(test_nothing_is_made_that_is_not_recorded),
		cmocka_unit_test(test_damage_is_not_fetched_for_ever),
		cmocka_unit_test(test_what_is_fetched_again_is_told),
		cmocka_unit_test(test_no_space_is_told_before),
		cmocka_unit_test(test_no_space_in_a_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
