// links: transfer disk source api json base PkgConfig::jansson
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "fake_source.h"

/* What is read by place counts only when the input says at the end that it was right. */
static void test_a_wrong_input_is_read_again(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.by_place = b.fake.whole = true;
	b.fake.place = 2;
	b.fake.format = "raw";
	b.fake.wrong = 1;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.wrong, 0);
	assert_int_equal(b.fake.opened, 2);
	check_disk(&b, 2);
	teardown(&b);
}

/* A cut stream goes on where it was when the source can do that, but not what may be of another state of the source. */
static void test_goes_on_in_the_middle(void **state)
{
	uint64_t all = disks[0].capacity + disks[1].capacity + disks[2].capacity;
	struct transfer_status status;
	char path[128];
	struct bench b;
	FILE *f;

	(void)state;
	setup(&b);
	b.fake.resumable = true;
	b.fake.cut_first = 1;
	b.fake.busy = 1;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_string_equal(status.note, "by another way");
	transfer_status_clear(&status);
	assert_int_equal(b.fake.resumed, 1);
	assert_true(b.fake.sent < all + (1 << 20)); /* a block that was not whole comes again */
	for (size_t i = 0; i < 3; i++)
		check_disk(&b, i);
	snprintf(path, sizeof path, "%s/nvram", b.below);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_non_null(fgets(path, sizeof path, f));
	assert_string_equal(path, "vars");
	fclose(f);
	/* What another process began, too. */
	transfer_end(b.engine, "job");
	assert_int_equal(journal_remove(b.below, NULL), 0);
	b.fake.cut_first = 1;
	b.fake.permanent = true;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	b.fake.permanent = false;
	b.fake.resumed = 0;
	b.fake.sent = 0;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.resumed, 1);
	assert_true(b.fake.sent < all);
	check_disk(&b, 0);
	/* The machine ran: nothing of before is believed, in the try that comes after one that was interrupted neither. */
	transfer_end(b.engine, "job");
	journal_doubt(b.below);
	assert_true(journal_doubted(b.below, 0));
	b.fake.other = 40;
	b.fake.cut_first = 1;
	b.fake.permanent = true;
	b.fake.resumed = 0;
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	transfer_status_clear(&status);
	transfer_end(b.engine, "job");
	b.fake.permanent = false;
	assert_int_equal(b.fake.resumed, 0);
	assert_false(journal_doubted(b.below, 0));
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_DONE);
	assert_int_equal(b.fake.resumed, 1);
	snprintf(path, sizeof path, "%s/disk-0.raw", b.below);
	check_digest(path, status.disks[0].digest);
	transfer_status_clear(&status);
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(fseek(f, 2 << 20, SEEK_SET), 0);
	assert_int_equal(fgetc(f), 1 + 40);
	fclose(f);
	teardown(&b);
}

/* Waits for the end, which is to be this one, and forgets the job. */
static void expect_end(struct bench *b, enum transfer_state state)
{
	struct transfer_status status;
	char path[128];

	assert_int_equal(start(b, NULL, NULL), 0);
	assert_int_equal(wait_end(b, &status), state);
	if (state == TRANSFER_DONE) {
		snprintf(path, sizeof path, "%s/disk-0.raw", b->below);
		check_disk(b, 0);
		check_digest(path, status.disks[0].digest);
	}
	transfer_status_clear(&status);
	transfer_end(b->engine, "job");
}

static double received(struct bench *b)
{
	return series_get(metric_with(metrics_add(b->metrics, METRIC_COUNTER, "vm_import_source_bytes_total", "kind", ""), "Fake", NULL));
}

/* So does a disk that is read by place, whatever it is made of. */
static void test_reading_goes_on_in_the_middle(void **state)
{
	static const char *const formats[] = { "raw", "vmdk" };
	char first[DISK_DIGEST_TEXT_SIZE], path[128];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct bench b;

		setup(&b);
		snprintf(path, sizeof path, "%s/disk-0.raw", b.below);
		b.fake.by_place = true;
		b.fake.format = formats[i];
		b.fake.cut_reads = 1;
		expect_end(&b, TRANSFER_DONE);
		assert_int_equal(b.fake.opened, 2);
		assert_in_range(b.fake.lowest, 1 << 20, 2 << 20);
		assert_int_equal(disk_digest_file(path, NULL, first, NULL), 0);
		/* What is read is counted: that of the disks, and the descriptor each time it is opened. */
		assert_in_range((uint64_t)received(&b), b.fake.sent, b.fake.sent + 2 * 1024);
		/* What another process began, too. */
		assert_int_equal(journal_remove(b.below, NULL), 0);
		b.fake.opened = 0;
		b.fake.cut_reads = 1;
		b.fake.permanent = true;
		expect_end(&b, TRANSFER_FAILED);
		assert_int_equal(b.fake.opened, 1);
		assert_int_equal(b.fake.lowest, 0);
		expect_end(&b, TRANSFER_DONE);
		assert_int_equal(b.fake.opened, 2);
		assert_in_range(b.fake.lowest, 1 << 20, 2 << 20);
		check_digest(path, first);
		/* The machine ran: nothing of before is believed. */
		journal_doubt(b.below);
		b.fake.other = 40;
		b.fake.cut_reads = 1;
		expect_end(&b, TRANSFER_FAILED);
		assert_int_equal(b.fake.lowest, 0);
		expect_end(&b, TRANSFER_DONE);
		assert_in_range(b.fake.lowest, 1 << 20, 2 << 20);
		teardown(&b);
	}
}

/* Where only all of a file shows that it is right, every try reads all of it. */
static void test_what_is_checked_as_a_whole_is_read_whole(void **state)
{
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.by_place = b.fake.whole = true;
	b.fake.format = "raw";
	b.fake.cut_reads = 1;
	expect_end(&b, TRANSFER_DONE);
	assert_int_equal(b.fake.opened, 2);
	assert_int_equal(b.fake.lowest, 0);
	teardown(&b);
}

/* An image that names what its source has not. */
static void test_what_a_source_does_not_have_is_told(void **state)
{
	struct transfer_status status;
	struct bench b;

	(void)state;
	setup(&b);
	b.fake.by_place = true;
	b.fake.place = 1; /* of another capacity than the descriptor's extents have */
	b.fake.format = "vmdk";
	assert_int_equal(start(&b, NULL, NULL), 0);
	assert_int_equal(wait_end(&b, &status), TRANSFER_FAILED);
	assert_non_null(strstr(status.error->message, "Hard disk 2"));
	assert_int_equal(status.error->class, ERROR_PERMANENT);
	transfer_status_clear(&status);
	assert_int_equal(b.fake.aborted, 1);
	teardown(&b);
}

static void damage(const struct bench *b, const char *name, const char *text, size_t len)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", b->below, name);
	f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* What is known of disks, damaged in any way, costs their transfer, and makes no other disks. */
static void test_damaged_notes_are_not_believed(void **state)
{
	static const char *const names[] = { ".disk-0.raw.journal", ".disk-0.raw.blocks", ".model.json" };
	static const struct {
		const char *text;
		size_t len;
	} texts[] = {
		{ "", 0 },
		{ "{", 1 },
		{ "[]", 2 },
		{ "\xff\xfe\0\0", 4 },
		{ "vicblks1", 8 },
		{ "{\"source\": \"vm-1\", \"id\": \"2000\", \"capacity\": 3146240, \"dataBytes\": -1, \"streamBytes\": 1, \"digest\": \"x\"}",
		  94 },
		{ "{\"source\": \"vm-1\", \"id\": \"2000\", \"capacity\": 1e300, \"digest\": {}}", 66 },
	};

	(void)state;
	for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
		for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
			struct bench b;

			setup(&b);
			b.fake.resumable = true;
			b.fake.cut_first = n == 1;
			b.fake.permanent = true;
			expect_end(&b, n == 1 ? TRANSFER_FAILED : TRANSFER_DONE);
			damage(&b, names[n], texts[i].text, texts[i].len);
			b.fake.cut_first = 0;
			b.fake.resumed = 0;
			expect_end(&b, TRANSFER_DONE);
			if (n == 1)
				assert_int_equal(b.fake.resumed, 0);
			teardown(&b);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_wrong_input_is_read_again),         cmocka_unit_test(test_goes_on_in_the_middle),
		cmocka_unit_test(test_reading_goes_on_in_the_middle),       cmocka_unit_test(test_what_is_checked_as_a_whole_is_read_whole),
		cmocka_unit_test(test_what_a_source_does_not_have_is_told), cmocka_unit_test(test_damaged_notes_are_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
