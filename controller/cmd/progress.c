#include "cmd/progress.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "json/codec.h"

#define BAR_CELLS 30

struct line {
	char *key, *state, *message;
	int percent;
	bool failed;
};

struct progress {
	bool quiet, terminal;
	struct line *lines;
	size_t count, drawn; /* drawn: lines of bars on the screen, above the cursor */
};

struct progress *progress_new(bool quiet)
{
	struct progress *p = calloc(1, sizeof *p);

	if (p) {
		p->quiet = quiet;
		p->terminal = isatty(STDERR_FILENO);
	}
	return p;
}

static struct line *line_of(struct progress *p, const json_t *import)
{
	const char *ns = json_path_string(import, "metadata.namespace"), *name = json_path_string(import, "metadata.name");
	AUTO_FREE char *key = NULL;
	struct line *lines;

	if (asprintf(&key, "%s/%s", ns ? ns : "", name ? name : "") < 0) {
		key = NULL;
		return NULL;
	}
	for (size_t i = 0; i < p->count; i++)
		if (!strcmp(p->lines[i].key, key))
			return &p->lines[i];
	lines = realloc(p->lines, (p->count + 1) * sizeof *lines);
	if (!lines)
		return NULL;
	p->lines = lines;
	lines[p->count] = (struct line){ .key = move_ptr(key) };
	return &lines[p->count++];
}

static void erase(struct progress *p)
{
	for (; p->drawn; p->drawn--)
		fputs("\033[1A\033[2K", stderr);
}

static void draw(struct progress *p)
{
	erase(p);
	for (size_t i = 0; i < p->count; i++) {
		const struct line *line = &p->lines[i];
		char bar[BAR_CELLS + 1];

		for (int k = 0; k < BAR_CELLS; k++)
			bar[k] = k * 100 < line->percent * BAR_CELLS ? '#' : '.';
		bar[BAR_CELLS] = 0;
		fprintf(stderr, "%-24.40s [%s] %3d%%  %.90s\n", line->key, bar, line->percent, line->message ? line->message : "");
		p->drawn++;
	}
	fflush(stderr);
}

static bool differs(char **old, const char *new)
{
	if (*old && new && !strcmp(*old, new))
		return false;
	free(*old);
	*old = strdup(new ? new : "");
	return true;
}

void progress_show(struct progress *p, const json_t *import)
{
	const char *state = json_path_string(import, "status.importStatus"), *message = json_path_string(import, "status.message");
	int percent = (int)json_integer_value(json_path(import, "status.progress"));
	struct line *line = p && !p->quiet ? line_of(p, import) : NULL;
	bool moved, changed;

	if (!line)
		return;
	moved = differs(&line->state, state ? state : "");
	changed = differs(&line->message, message) || line->percent != percent || moved;
	line->percent = percent;
	if (p->terminal && changed)
		draw(p);
	else if (!p->terminal && moved && *line->state)
		fprintf(stderr, "%s  %-26s %3d%%  %s\n", line->key, line->state, percent, line->message);
}

void progress_failed(struct progress *p, const json_t *import, const char *why)
{
	struct line *line = p ? line_of(p, import) : NULL;

	if (!line || line->failed)
		return;
	line->failed = true;
	erase(p);
	fprintf(stderr, "vm-import-controller: %s failed: %s\n", line->key, why);
	if (p->terminal && !p->quiet)
		draw(p);
}

void progress_note(struct progress *p, const char *text)
{
	if (p)
		erase(p);
	fprintf(stderr, "vm-import-controller: %s\n", text);
	if (p && p->terminal && !p->quiet)
		draw(p);
}

void progress_end(struct progress *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->count; i++) {
		free(p->lines[i].key);
		free(p->lines[i].state);
		free(p->lines[i].message);
	}
	free(p->lines);
	free(p);
}
