#include "source/ova/package.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"

#define CERT_MAX_BYTES (1u << 20)
#define PARTS_MAX 100000

/* The texts that are found on the way. */
struct texts {
	char *ovf, *mf, *cert, *mf_name, *cert_name;
	size_t ovf_len, mf_len, cert_len;
};

static void texts_free(struct texts *t)
{
	free(t->ovf);
	free(t->mf);
	free(t->cert);
	free(t->mf_name);
	free(t->cert_name);
}

void package_free(struct package *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->member_count; i++)
		free(p->members[i].name);
	free(p->members);
	remote_version_clear(&p->version);
	ovf_free(p->ovf);
	ovf_manifest_free(p->manifest);
	free(p->ovf_name);
	free(p->signature);
	free(p);
}

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), e = strlen(end);

	return n > e && !strcasecmp(name + n - e, end);
}

/* "web.mf" belongs to "web.ovf". */
static bool same_base(const char *a, const char *b)
{
	const char *dot_a = strrchr(a, '.'), *dot_b = strrchr(b, '.');

	return dot_a && dot_b && dot_a - a == dot_b - b && !strncmp(a, b, (size_t)(dot_a - a));
}

/* --- an OVA ------------------------------------------------------------------------------------------------------------ */

static int keep_text(struct tape *tape, const struct tape_member *m, size_t max, char **text, size_t *len, char **name, struct error **err)
{
	AUTO_FREE char *copy = strdup(m->name);

	if (!copy)
		return error_set_errno(err, ENOMEM, "cannot read the package");
	if (tape_text(tape, max, text, len, err) < 0)
		return error_wrap(err, "the OVA's member %.200s", copy);
	free(*name);
	*name = move_ptr(copy);
	return 0;
}

static int keep_member(struct package *p, const struct tape_member *m, struct error **err)
{
	if (!(p->member_count & (p->member_count - 1))) { /* full at each power of two */
		size_t cap = p->member_count ? 2 * p->member_count : 1;
		struct tape_member *more = realloc(p->members, cap * sizeof *more);

		if (!more)
			return error_set_errno(err, ENOMEM, "cannot read the package");
		p->members = more;
	}
	p->members[p->member_count] = *m;
	p->members[p->member_count].name = strdup(m->name);
	return p->members[p->member_count++].name ? 0 : error_set_errno(err, ENOMEM, "cannot read the package");
}

/* Walks over the members: all of them where that costs little, else to the first one behind the descriptor that is no text. */
static int read_tape(struct package *p, struct tape *tape, bool all, struct texts *t, struct error **err)
{
	struct tape_member m;
	int result;

	while ((result = tape_next(tape, &m, err)) > 0) {
		if (keep_member(p, &m, err) < 0)
			return -1;
		if (ends_with(m.name, ".ovf") && !t->ovf)
			result = keep_text(tape, &m, OVF_MAX_BYTES, &t->ovf, &t->ovf_len, &p->ovf_name, err);
		else if (ends_with(m.name, ".mf") && !t->mf)
			result = keep_text(tape, &m, MANIFEST_MAX_BYTES, &t->mf, &t->mf_len, &t->mf_name, err);
		else if (ends_with(m.name, ".cert") && !t->cert)
			result = keep_text(tape, &m, CERT_MAX_BYTES, &t->cert, &t->cert_len, &t->cert_name, err);
		else if (t->ovf && !all)
			return 0;
		if (result < 0)
			return -1;
	}
	p->complete = result == 0;
	if (result == 0 && !t->ovf)
		return error_set(
			err, ERROR_PERMANENT, "InvalidArchive",
			"the OVA holds no descriptor (a member whose name ends in .ovf); spec.url must lead to an OVA as it was exported, or to "
			"the .ovf beside its files");
	return result;
}

/* --- a descriptor beside its files -------------------------------------------------------------------------------------- */

static int add_text(void *arg, const void *data, size_t len, struct error **err)
{
	return buffer_add(arg, data, len) == 0 ? 0 : error_set(err, ERROR_PERMANENT, "InvalidDescriptor", "the file is too large");
}

static int fetch_text(const struct remote *remote, const char *url, size_t max, struct remote_version *version, char **text, size_t *len,
		      struct cancel *cancel, struct error **err)
{
	AUTO_BUFFER struct buffer b = { 0 };

	buffer_init(&b, max);
	if (remote_fetch(remote, url, 0, 0, NULL, version, add_text, &b, cancel, err) < 0)
		return -1;
	*len = b.len;
	*text = buffer_steal(&b);
	return *text ? 0 : error_set_errno(err, ENOMEM, "cannot read the package");
}

/* The last part of the URL's path, unescaped as far as it matters. */
static char *name_of_url(const char *url)
{
	AUTO_FREE char *shown = remote_shown_url(url);
	const char *slash = shown ? strrchr(shown, '/') : NULL;

	return slash && slash[1] ? strdup(slash + 1) : strdup("descriptor.ovf");
}

/* A companion of the descriptor that need not be there. */
static int fetch_companion(const struct package *p, const char *extension, size_t max, char **text, size_t *len, char **name,
			   struct cancel *cancel, struct error **err)
{
	AUTO_ERROR struct error *failed = NULL;
	AUTO_FREE char *relative = NULL, *url = NULL;
	const char *dot = strrchr(p->ovf_name, '.');

	if (asprintf(&relative, "%.*s%s", dot ? (int)(dot - p->ovf_name) : (int)strlen(p->ovf_name), p->ovf_name, extension) < 0)
		relative = NULL;
	url = relative ? remote_url_beside(p->remote, relative) : NULL;
	if (!url)
		return error_set_errno(err, ENOMEM, "cannot read the package");
	if (fetch_text(p->remote, url, max, NULL, text, len, cancel, &failed) == 0) {
		*name = move_ptr(relative);
		return 0;
	}
	/* Stores that list nothing say 403 of what is not there. */
	return failed->class == ERROR_NOT_FOUND || failed->code == 403 ? 0 : error_move(err, move_ptr(failed));
}

static int read_beside(struct package *p, struct texts *t, struct cancel *cancel, struct error **err)
{
	p->beside = true;
	p->complete = true;
	p->ovf_name = name_of_url(remote_url(p->remote));
	if (!p->ovf_name)
		return error_set_errno(err, ENOMEM, "cannot read the package");
	remote_version_clear(&p->version);
	if (fetch_text(p->remote, remote_url(p->remote), OVF_MAX_BYTES, &p->version, &t->ovf, &t->ovf_len, cancel, err) < 0 ||
	    fetch_companion(p, ".mf", MANIFEST_MAX_BYTES, &t->mf, &t->mf_len, &t->mf_name, cancel, err) < 0)
		return -1;
	return t->mf ? fetch_companion(p, ".cert", CERT_MAX_BYTES, &t->cert, &t->cert_len, &t->cert_name, cancel, err) : 0;
}

/* XML in any of the encodings that its declaration may be in. */
static bool is_xml(const unsigned char *start, size_t len)
{
	if (len >= 3 && !memcmp(start, "\xef\xbb\xbf", 3))
		return true;
	if (len >= 2 && (!memcmp(start, "\xff\xfe", 2) || !memcmp(start, "\xfe\xff", 2)))
		return true;
	while (len && strchr(" \t\r\n", *start) && *start) {
		start++;
		len--;
	}
	return len && *start == '<';
}

/* --- both -------------------------------------------------------------------------------------------------------------- */

static int check_descriptor(const struct package *p, const struct texts *t, struct error **err)
{
	const struct ovf_manifest_entry *e = ovf_manifest_find(p->manifest, p->ovf_name);
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (!e)
		return 0;
	if (!EVP_Digest(t->ovf, t->ovf_len, digest, NULL, e->algorithm, NULL))
		return error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest");
	return ovf_manifest_check(e, digest, err);
}

static int read_texts(struct package *p, const struct texts *t, struct error **err)
{
	if (!EVP_Digest(t->ovf, t->ovf_len, p->ovf_digest, NULL, EVP_sha256(), NULL))
		return error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest");
	p->ovf = ovf_parse(t->ovf, t->ovf_len, err);
	if (!p->ovf)
		return -1;
	if (!t->mf || (!p->beside && !same_base(t->mf_name, p->ovf_name)))
		return 0;
	p->manifest = ovf_manifest_parse(t->mf, t->mf_len, err);
	if (!p->manifest || check_descriptor(p, t, err) < 0)
		return -1;
	if (!t->cert || (!p->beside && !same_base(t->cert_name, p->ovf_name)))
		return 0;
	return ovf_manifest_check_signature(t->cert, t->cert_len, t->mf, t->mf_len, &p->signature, err);
}

struct package *package_open(const struct remote *remote, struct cancel *cancel, struct error **err)
{
	AUTO_PACKAGE struct package *p = calloc(1, sizeof *p);
	CLEANUP(texts_free) struct texts texts = { 0 };
	AUTO_TAPE struct tape *tape = NULL;
	const void *start;
	size_t len;
	int result;

	if (!p) {
		error_set_errno(err, ENOMEM, "cannot read the package");
		return NULL;
	}
	p->remote = remote;
	tape = tape_open(remote, &p->version, cancel, err);
	if (!tape)
		return NULL;
	start = tape_start(tape, &len);
	result = is_xml(start, len) ? read_beside(p, &texts, cancel, err) : read_tape(p, tape, p->version.ranges, &texts, err);
	return result < 0 || read_texts(p, &texts, err) < 0 ? NULL : move_ptr(p);
}

struct package *package_open_memory(const void *data, size_t len, struct error **err)
{
	AUTO_PACKAGE struct package *p = calloc(1, sizeof *p);
	CLEANUP(texts_free) struct texts texts = { 0 };
	AUTO_TAPE struct tape *tape = p ? tape_open_memory(data, len, err) : NULL;

	if (!tape || read_tape(p, tape, true, &texts, err) < 0 || read_texts(p, &texts, err) < 0)
		return NULL;
	return move_ptr(p);
}

const struct tape_member *package_member(const struct package *p, const char *href)
{
	for (size_t i = 0; i < p->member_count; i++)
		if (!strcmp(p->members[i].name, href))
			return &p->members[i];
	for (size_t i = 0; i < p->member_count; i++)
		if (ovf_href_is(href, p->members[i].name))
			return &p->members[i];
	return NULL;
}

char *package_part_name(const struct ovf_file *f, size_t part)
{
	char *name = NULL;

	if (!f->chunk)
		return part ? NULL : strdup(f->href);
	return asprintf(&name, "%s.%09zu", f->href, part) < 0 ? NULL : name;
}

size_t package_part_count(const struct package *p, const struct ovf_file *f)
{
	size_t n = 0;

	if (!f->chunk)
		return 1;
	if (f->size)
		return (size_t)(f->size / f->chunk + (f->size % f->chunk != 0));
	if (!p->complete || p->beside)
		return 0;
	for (; n < PARTS_MAX; n++) {
		AUTO_FREE char *name = package_part_name(f, n);

		if (!name || !package_member(p, name))
			break;
	}
	return n;
}

/* --- which state of it ------------------------------------------------------------------------------------------------- */

DEFINE_CLEANUP(EVP_MD_CTX, md_free_p, EVP_MD_CTX_free)

/* With its end, so that no two lists of texts are one. */
static bool add_string(EVP_MD_CTX *md, const char *text)
{
	return EVP_DigestUpdate(md, text ? text : "", text ? strlen(text) + 1 : 1);
}

static bool add_version(EVP_MD_CTX *md, const struct remote_version *v)
{
	char size[24];

	snprintf(size, sizeof size, "%llu", (unsigned long long)v->size);
	return add_string(md, v->etag ? v->etag : v->modified) && add_string(md, size);
}

static int enough(void *arg, const void *data, size_t len, struct error **err)
{
	(void)arg;
	(void)data;
	(void)len;
	return error_set(err, ERROR_CANCELLED, "Enough", "the head was enough");
}

/* Of the files beside the descriptor. One that cannot be had now has no version; that is told when it is needed. */
static bool add_files(const struct package *p, EVP_MD_CTX *md, struct cancel *cancel)
{
	for (size_t i = 0; i < ovf_file_count(p->ovf); i++) {
		CLEANUP(remote_version_clear) struct remote_version version = { 0 };
		AUTO_FREE char *name = package_part_name(ovf_file(p->ovf, i), 0);
		AUTO_FREE char *url = name ? remote_url_beside(p->remote, name) : NULL;

		if (!url)
			return false;
		remote_fetch(p->remote, url, 0, 1, NULL, &version, enough, NULL, cancel, NULL);
		if (!add_string(md, name) || !add_version(md, &version))
			return false;
	}
	return true;
}

static bool add_manifest(const struct package *p, EVP_MD_CTX *md)
{
	const struct ovf_manifest_entry *e;

	for (size_t i = 0; (e = ovf_manifest_entry(p->manifest, i)); i++)
		if (!add_string(md, e->name) || !EVP_DigestUpdate(md, e->digest, e->digest_len))
			return false;
	return true;
}

char *package_identity(const struct package *p, struct cancel *cancel, struct error **err)
{
	CLEANUP(md_free_p) EVP_MD_CTX *md = EVP_MD_CTX_new();
	unsigned char digest[32];
	char text[2 * sizeof digest + 1], *identity = NULL;

	if (!md || !EVP_DigestInit_ex(md, EVP_sha256(), NULL) || !add_string(md, remote_url(p->remote)) || !add_version(md, &p->version) ||
	    !EVP_DigestUpdate(md, p->ovf_digest, sizeof p->ovf_digest) || (p->manifest && !add_manifest(p, md)) ||
	    (p->beside && !add_files(p, md, cancel)) || !EVP_DigestFinal_ex(md, digest, NULL)) {
		error_set(err, ERROR_TRANSIENT, "DigestFailed", "cannot compute a digest");
		return NULL;
	}
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	if (asprintf(&identity, "%s %s", p->ovf_name, text) < 0) {
		error_set_errno(err, ENOMEM, "cannot read the package");
		return NULL;
	}
	return identity;
}

/* What packs a directory instead of the files in it has them all, by other names. */
static int missing(const struct package *p, const char *name, struct error **err)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < p->member_count; i++) {
		const char *other = p->members[i].name;
		size_t n = strlen(other);

		if (n > len && other[n - len - 1] == '/' && !strcmp(other + n - len, name))
			return error_set(
				err, ERROR_PERMANENT, "InvalidArchive",
				"the OVA lacks the file %.200s, which its descriptor names, but has %.200s: pack the files, not the "
				"directory that they are in",
				name, other);
	}
	return error_set(err, ERROR_PERMANENT, "InvalidArchive",
			 "the OVA lacks the file %.200s, which its descriptor names; add it, or export the machine again", name);
}

int package_check_file(const struct package *p, const struct ovf_file *f, struct error **err)
{
	size_t count = package_part_count(p, f);
	uint64_t sum = 0;

	if (count > PARTS_MAX)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the file %.200s is said to be in %zu parts, which is impossible",
				 f->href, count);
	if (p->beside || !p->complete)
		return 0;
	for (size_t i = 0; i < count || i == 0; i++) {
		AUTO_FREE char *name = package_part_name(f, i);
		const struct tape_member *m = name ? package_member(p, name) : NULL;

		if (!m)
			return missing(p, name ? name : f->href, err);
		if (__builtin_add_overflow(sum, m->size, &sum))
			return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the file %.200s is impossibly large", f->href);
		if (f->chunk && i + 1 < count && m->size != f->chunk)
			return error_set(err, ERROR_PERMANENT, "InvalidArchive", "the part %.200s has %llu bytes, its descriptor says %llu",
					 name, (unsigned long long)m->size, (unsigned long long)f->chunk);
		if (p->version.size && (m->size > p->version.size || m->offset > p->version.size - m->size))
			return error_set(
				err, ERROR_PERMANENT, "InvalidArchive",
				"the OVA ends in the middle of %.200s: it has %llu bytes, %llu are needed; it was not copied as a whole",
				m->name, (unsigned long long)p->version.size, (unsigned long long)(m->offset + m->size));
	}
	if (f->chunk && f->size && sum != f->size)
		return error_set(err, ERROR_PERMANENT, "InvalidArchive",
				 "the file %.200s has %llu bytes in the OVA, its descriptor says %llu", f->href, (unsigned long long)sum,
				 (unsigned long long)f->size);
	return 0;
}
