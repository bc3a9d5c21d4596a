#include "disk/table_cache.h"

#include <errno.h>
#include <string.h>

#define PAGE 16384u
#define PAGES 16

struct page {
	const struct disk_input *input; /* NULL: holds nothing */
	uint64_t at;
	size_t len;
	uint64_t used;
	unsigned char *data;
};

struct table_cache {
	struct page pages[PAGES];
	struct page *last; /* most look-ups are of the page of the one before */
	uint64_t clock;
};

struct table_cache *table_cache_new(struct error **err)
{
	struct table_cache *c = calloc(1, sizeof *c);

	if (!c)
		error_set_errno(err, ENOMEM, "cannot read the image");
	else
		c->last = c->pages;
	return c;
}

void table_cache_free(struct table_cache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < PAGES; i++)
		free(c->pages[i].data);
	free(c);
}

void table_cache_drop(struct table_cache *c, const struct disk_input *in)
{
	for (size_t i = 0; i < PAGES; i++)
		if (c->pages[i].input == in)
			c->pages[i].input = NULL;
}

/* The page at `at`, read when it is not there. */
static struct page *page_at(struct table_cache *c, struct disk_input *in, uint64_t at, struct error **err)
{
	struct page *oldest = c->pages;
	uint64_t left = disk_input_size(in) - at;

	for (size_t i = 0; i < PAGES; i++) {
		struct page *page = &c->pages[i];

		if (page->input == in && page->at == at)
			return page;
		if (page->used < oldest->used)
			oldest = page;
	}
	if (!oldest->data && !(oldest->data = malloc(PAGE))) {
		error_set_errno(err, ENOMEM, "cannot read %s", disk_input_name(in));
		return NULL;
	}
	oldest->input = NULL;
	oldest->len = left < PAGE ? (size_t)left : PAGE;
	if (disk_input_read(in, at, oldest->data, oldest->len, err) < 0)
		return NULL;
	oldest->input = in;
	oldest->at = at;
	return oldest;
}

int table_cache_read(struct table_cache *c, struct disk_input *in, uint64_t at, void *data, size_t len, const char *what,
		     struct error **err)
{
	unsigned char *to = data;

	if (at > disk_input_size(in) || len > disk_input_size(in) - at) {
		error_set(err, ERROR_PERMANENT, "FileTruncated",
			  "%s has %llu bytes, but its %s is at byte %llu: it is not complete, or damaged", disk_input_name(in),
			  (unsigned long long)disk_input_size(in), what, (unsigned long long)at);
		return -1;
	}
	while (len) {
		struct page *page = c->last;
		uint64_t start = at - at % PAGE;
		size_t n = PAGE - (size_t)(at % PAGE);

		if ((page->input != in || page->at != start) && !(page = page_at(c, in, start, err)))
			return error_wrap(err, "reading the %s", what);
		c->last = page;
		page->used = ++c->clock;
		n = n < len ? n : len;
		memcpy(to, page->data + at % PAGE, n);
		to += n;
		at += n;
		len -= n;
	}
	return 0;
}

uint64_t table_cache_zeros(const struct table_cache *c, uint64_t at, size_t entry_bytes, uint64_t most)
{
	static const unsigned char zero[16];
	const struct page *page = c->last;
	size_t from = (size_t)(at % PAGE);
	uint64_t n = 0;

	/* The last one read of may be the page behind, when an entry lies across both. */
	if (at - from != page->at)
		return 0;
	for (; n < most && page->len - from >= entry_bytes && !memcmp(page->data + from, zero, entry_bytes); from += entry_bytes)
		n++;
	return n;
}
