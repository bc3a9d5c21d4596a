#include "cmd/notes.h"

#include <stdio.h>
#include <string.h>

#include "api/resources.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "reconcile/reconciler.h"
#include "store/dir/dir.h"
#include "transfer/transfer.h"
#include "json/codec.h"

#define TROUBLE_MS 60000

struct notes {
	struct store *store;
	struct progress *progress;
	bool quiet;
	json_t *said;          /* a set: what is told once */
	uint64_t trouble_said; /* monotonic milliseconds; 0: there is none */
};

struct notes *notes_new(struct store *store, struct progress *progress, bool quiet)
{
	struct notes *n = calloc(1, sizeof *n);

	if (n)
		*n = (struct notes){ .store = store, .progress = progress, .quiet = quiet, .said = json_object() };
	return n;
}

void notes_free(struct notes *n)
{
	if (n)
		json_decref(n->said);
	free(n);
}

static bool first_time(struct notes *n, const char *key)
{
	return !json_object_get(n->said, key) && json_object_set_new(n->said, key, json_true()) == 0;
}

static void tell_certificates(struct notes *n)
{
	AUTO_JSON json_t *list = store_list(n->store, &api_vmware_sources, NULL, NULL, NULL);
	const json_t *source;
	size_t i;

	json_array_foreach (list, i, source) {
		const char *endpoint = json_path_string(source, "status.certificate.endpoint");
		const char *fingerprint = json_path_string(source, "status.certificate.fingerprint");
		AUTO_FREE char *text = NULL;

		if (!endpoint || !fingerprint)
			continue;
		if (asprintf(
			    &text,
			    "the certificate of %s is not verified: SHA-256 %s, accepted because it was the first one seen; put it into the "
			    "Secret's key thumbprint",
			    endpoint, fingerprint) < 0)
			text = NULL;
		if (text && first_time(n, text))
			progress_note(n->progress, text);
	}
}

static void tell_trouble(struct notes *n)
{
	AUTO_FREE char *trouble = dir_store_trouble(n->store);
	uint64_t now = clock_monotonic_ms();

	if (trouble && (!n->trouble_said || now - n->trouble_said >= TROUBLE_MS)) {
		AUTO_FREE char *text = NULL;

		if (asprintf(&text, "%s; nothing goes on until that is possible", trouble) < 0)
			text = NULL;
		progress_note(n->progress, text ? text : trouble);
		n->trouble_said = now ? now : 1;
	}
	if (!trouble)
		n->trouble_said = 0;
}

void notes_look(struct notes *n)
{
	if (!n)
		return;
	tell_certificates(n);
	tell_trouble(n);
}

void notes_waiting(struct notes *n, const json_t *import, const char *why, uint64_t left_ms)
{
	const char *ns = json_path_string(import, "metadata.namespace"), *name = json_path_string(import, "metadata.name");
	AUTO_FREE char *key = NULL, *text = NULL;

	if (!n || n->quiet || asprintf(&key, "%s/%s", ns ? ns : "", name ? name : "") < 0 || !first_time(n, key))
		return;
	if (asprintf(&text, "%s%s: %s (giving up in %llu s)", key, strncmp(why, "Waiting ", 8) ? " is waiting" : "", why,
		     (unsigned long long)(left_ms + 999) / 1000) < 0) {
		text = NULL;
		return;
	}
	progress_note(n->progress, text);
}

void notes_again(struct notes *n, const json_t *import)
{
	const char *ns = json_path_string(import, "metadata.namespace"), *name = json_path_string(import, "metadata.name");
	const char *message = json_path_string(import, "status.message"), *again = message ? strstr(message, TRANSFER_AGAIN) : NULL;
	AUTO_FREE char *text = NULL;

	if (!n || n->quiet || !again)
		return;
	while (again > message && again[-1] != ';')
		again--;
	if (asprintf(&text, "%s/%s: %s", ns ? ns : "", name ? name : "", again + (*again == ' ')) < 0)
		text = NULL;
	if (text && first_time(n, text))
		progress_note(n->progress, text);
}

void notes_left(struct notes *n, const json_t *import)
{
	const char *ns = json_path_string(import, "metadata.namespace"), *name = json_path_string(import, "metadata.name");
	const char *why = json_path_string(import, "status.message"), *next;
	AUTO_BUFFER struct buffer left;
	AUTO_FREE char *text = NULL;
	const json_t *entry;
	size_t i;

	buffer_init(&left, 4096);
	json_array_foreach (json_path(import, "status.sourceLedger"), i, entry) {
		const char *kind = json_path_string(entry, "kind"), *id = json_path_string(entry, "id");

		if (kind && id && strcmp(kind, "PowerState") != 0 && strcmp(kind, "Session") != 0)
			buffer_addf(&left, "%s%s %s", left.len ? ", " : "", kind, id);
	}
	if (!n || !left.len)
		return;
	why = why ? why : "";
	/* When this process would have tried again is of no interest any more. */
	next = strstr(why, LEDGER_NEXT_TRY);
	if (asprintf(&text, "%s/%s: %.*s%s%s; the same command tries again to remove it", ns ? ns : "", name ? name : "",
		     next ? (int)(next - why) : (int)strlen(why), why,
		     strstr(why, left.data) ? "" : "; left at the source: ", strstr(why, left.data) ? "" : left.data) < 0) {
		text = NULL;
		return;
	}
	progress_note(n->progress, text);
}
