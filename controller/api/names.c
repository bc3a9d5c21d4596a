#include "api/names.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define LABEL_MAX 63
#define SUBDOMAIN_MAX 253
#define HASH_DIGITS 8

static void hash_of(const char *text, char out[HASH_DIGITS + 1])
{
	unsigned char sum[EVP_MAX_MD_SIZE] = { 0 };

	EVP_Digest(text, strlen(text), sum, NULL, EVP_sha256(), NULL);
	for (int i = 0; i < HASH_DIGITS / 2; i++)
		sprintf(out + 2 * (size_t)i, "%02x", sum[i]);
}

static bool lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool alphanumeric(char c)
{
	return lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

bool name_is_dns1123_label(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > LABEL_MAX || !lower_or_digit(name[0]) || !lower_or_digit(name[len - 1]))
		return false;
	for (const char *p = name; *p; p++)
		if (!lower_or_digit(*p) && *p != '-')
			return false;
	return true;
}

bool name_is_dns1123_subdomain(const char *name)
{
	size_t len = strlen(name);

	if (!len || len > SUBDOMAIN_MAX || !lower_or_digit(name[len - 1]))
		return false;
	for (const char *p = name; *p; p++) {
		bool first = p == name || p[-1] == '.';

		if (first ? !lower_or_digit(*p) : !lower_or_digit(*p) && *p != '-' && *p != '.')
			return false;
		if (*p == '.' && !lower_or_digit(p[-1]))
			return false;
	}
	return true;
}

/* Cuts to LABEL_MAX with "-<hash of original>" at the end. */
static void shorten(char *text, const char *original, bool (*may_end)(char))
{
	char hash[HASH_DIGITS + 1];
	size_t len = strlen(text);

	if (len <= LABEL_MAX)
		return;
	hash_of(original, hash);
	len = LABEL_MAX - HASH_DIGITS - 1;
	while (len && !may_end(text[len - 1]))
		len--;
	sprintf(text + len, "-%s", hash);
}

char *name_dns1123_label(const char *name)
{
	size_t len = strlen(name), n = 0;
	char *label = malloc((len > LABEL_MAX ? len : LABEL_MAX) + 16);

	if (!label)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
		char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : (char)*p;

		if (lower_or_digit(c))
			label[n++] = c;
		else if (n && label[n - 1] != '-' && (*p & 0xc0) != 0x80) /* one dash for a run, one for a character of several bytes */
			label[n++] = '-';
	}
	while (n && label[n - 1] == '-')
		n--;
	label[n] = 0;
	if (!n) {
		char hash[HASH_DIGITS + 1];

		hash_of(name, hash);
		sprintf(label, "vm-%s", hash);
	}
	shorten(label, name, lower_or_digit);
	return label;
}

char *name_label_value(const char *text)
{
	size_t len = strlen(text), n = 0, start = 0;
	char *value = malloc((len > LABEL_MAX ? len : LABEL_MAX) + 16);

	if (!value)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (alphanumeric((char)*p) || strchr("._-", *p))
			value[n++] = (char)*p;
		else if ((*p & 0xc0) != 0x80)
			value[n++] = '-';
	}
	while (n && !alphanumeric(value[n - 1]))
		n--;
	value[n] = 0;
	while (value[start] && !alphanumeric(value[start]))
		start++;
	memmove(value, value + start, n - start + 1);
	shorten(value, text, alphanumeric);
	return value;
}

void name_split(const char *text, const char *default_ns, char **ns, char **name)
{
	const char *slash = strchr(text, '/');

	*ns = slash ? strndup(text, (size_t)(slash - text)) : strdup(default_ns);
	*name = strdup(slash ? slash + 1 : text);
}
