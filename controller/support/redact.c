#include "support/redact.h"

#include <errno.h>
#include <openssl/evp.h>
#include <regex.h>
#include <string.h>
#include <strings.h>

#include "base/buffer.h"
#include "json/codec.h"

#define MARK "REDACTED"
#define TEXT_MAX (256u << 20)
#define SECRET_MIN 4

/* What is left out is the last group, or what all matches when there is none. */
static const struct {
	const char *pattern;
	int group;
} rules[] = {
	{ "/images/([A-Za-z0-9_-]{16,})/", 1 },
	{ "://[^/[:space:]\"'@:]*:([^/[:space:]\"'@]+)@", 1 },
	{ "https?://[^[:space:]\"'?<>]*\\?([^[:space:]\"'<>]+)", 1 },
	{ "(bearer|basic)[[:space:]]+([A-Za-z0-9._~+/=-]{8,})", 2 },
	{ "(set-cookie|cookie|authorization|x-auth-token|x-subject-token)\"?[[:space:]]*[:=][[:space:]]*(.+)$", 2 },
	{ "(vmware_soap_session|vmware-api-session-id)\"?[[:space:]]*[:=][[:space:]]*\\\\?\"?([^\";,[:space:]]+)", 2 },
	{ "(eyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]*)", 1 },
	{ "(password|passwd|passphrase|secret|token|api_?key|private_?key|credential|signature)\\\\?\"?[[:space:]]*[:=][[:space:]]*\\\\?\"([^\"]*)\"",
	  2 },
	{ "(password|passwd|passphrase|secret|token|api_?key|private_?key|signature)[[:space:]]*[:=][[:space:]]*([^\",;&[:space:]]+)", 2 },
};

#define RULES (sizeof rules / sizeof *rules)

struct redactor {
	regex_t compiled[RULES];
	size_t compiled_count;
	char **secrets;
	size_t secret_count;
};

struct redactor *redactor_new(struct error **err)
{
	struct redactor *r = calloc(1, sizeof *r);

	if (!r) {
		error_set_errno(err, ENOMEM, "cannot look for secrets");
		return NULL;
	}
	for (; r->compiled_count < RULES; r->compiled_count++) {
		if (regcomp(&r->compiled[r->compiled_count], rules[r->compiled_count].pattern, REG_EXTENDED | REG_ICASE)) {
			error_set(err, ERROR_PERMANENT, "BadPattern", "cannot compile a pattern of secrets: %s",
				  rules[r->compiled_count].pattern);
			redactor_free(r);
			return NULL;
		}
	}
	return r;
}

void redactor_free(struct redactor *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->compiled_count; i++)
		regfree(&r->compiled[i]);
	for (size_t i = 0; i < r->secret_count; i++)
		free(r->secrets[i]);
	free(r->secrets);
	free(r);
}

static int add_one(struct redactor *r, const char *text, struct error **err)
{
	char **grown = reallocarray(r->secrets, r->secret_count + 1, sizeof *grown);
	char *copy = grown ? strdup(text) : NULL;

	if (grown)
		r->secrets = grown;
	if (!copy)
		return error_set_errno(err, ENOMEM, "cannot look for secrets");
	r->secrets[r->secret_count++] = copy;
	return 0;
}

int redactor_add(struct redactor *r, const char *secret, struct error **err)
{
	size_t len = strlen(secret);
	AUTO_BUFFER struct buffer encoded = { 0 };
	AUTO_FREE char *base64 = NULL;

	while (len && (secret[len - 1] == '\n' || secret[len - 1] == '\r'))
		len--; /* as files of secrets end */
	if (len < SECRET_MIN || len > INT32_MAX / 2)
		return 0;
	AUTO_FREE char *text = strndup(secret, len);
	buffer_init(&encoded, 3 * len + 1);
	for (size_t i = 0; i < len; i++)
		buffer_addf(&encoded,
			    strchr("-._~", secret[i]) || (secret[i] >= '0' && secret[i] <= '9') ||
					    ((secret[i] | 32) >= 'a' && (secret[i] | 32) <= 'z')
				    ? "%c"
				    : "%%%02X",
			    (unsigned char)secret[i]);
	base64 = malloc(4 * ((len + 2) / 3) + 1);
	if (!text || !base64 || encoded.failed)
		return error_set_errno(err, ENOMEM, "cannot look for secrets");
	EVP_EncodeBlock((unsigned char *)base64, (const unsigned char *)secret, (int)len);
	if (add_one(r, text, err) < 0 || add_one(r, base64, err) < 0)
		return -1;
	return strcmp(encoded.data, text) ? add_one(r, encoded.data, err) : 0;
}

static char *replace_known(const struct redactor *r, const char *line, size_t len)
{
	struct buffer out;

	buffer_init(&out, TEXT_MAX);
	for (size_t at = 0; at < len;) {
		size_t longest = 0;

		for (size_t i = 0; i < r->secret_count; i++) {
			size_t n = strlen(r->secrets[i]);

			if (n > longest && n <= len - at && !memcmp(line + at, r->secrets[i], n))
				longest = n;
		}
		if (longest)
			buffer_add_string(&out, MARK);
		else
			buffer_add(&out, line + at, 1);
		at += longest ? longest : 1;
	}
	return buffer_steal(&out);
}

static char *apply_rule(const struct redactor *r, size_t rule, const char *line)
{
	struct buffer out;
	const char *at = line;
	regmatch_t found[4];

	buffer_init(&out, TEXT_MAX);
	while (*at && !regexec(&r->compiled[rule], at, 4, found, at == line ? 0 : REG_NOTBOL) && found[0].rm_eo > 0) {
		regmatch_t what = found[rules[rule].group];

		buffer_add(&out, at, (size_t)what.rm_so);
		buffer_add_string(&out, MARK);
		buffer_add(&out, at + what.rm_eo, (size_t)(found[0].rm_eo - what.rm_eo));
		at += found[0].rm_eo;
	}
	buffer_add_string(&out, at);
	return buffer_steal(&out);
}

static char *redact_line(const struct redactor *r, const char *line, size_t len)
{
	char *text = replace_known(r, line, len);

	for (size_t i = 0; text && i < RULES; i++) {
		char *next = apply_rule(r, i, text);

		free(text);
		text = next;
	}
	return text;
}

char *redact_text(const struct redactor *r, const char *text)
{
	AUTO_BUFFER struct buffer out = { 0 };
	bool in_key = false;

	buffer_init(&out, TEXT_MAX);
	while (*text) {
		size_t len = strcspn(text, "\n");
		AUTO_FREE char *line = redact_line(r, text, len);
		/* A key may stand on one line, where a log has it. */
		bool begins = line && strstr(line, "-----BEGIN ") && strstr(line, "PRIVATE KEY-----"),
		     ends = line && strstr(line, "-----END ");

		if (!line)
			return NULL;
		if (begins || in_key)
			buffer_add_string(&out, begins ? MARK : "");
		else
			buffer_add_string(&out, line);
		if (text[len] == '\n' && (ends || !(begins || in_key)))
			buffer_add(&out, "\n", 1);
		in_key = (begins || in_key) && !ends;
		text += len + (text[len] == '\n');
	}
	return buffer_steal(&out);
}

/* Whether a member of this name holds a secret as a string. References to Secrets are objects. */
static bool is_secret_name(const char *name)
{
	static const char *const words[] = { "password",   "passwd", "passphrase", "secretkey",    "token",
					     "privatekey", "apikey", "cookie",     "authorization" };
	char plain[64];
	size_t n = 0;

	for (; *name && n < sizeof plain - 1; name++)
		if (*name != '-' && *name != '_' && *name != '.')
			plain[n++] = *name;
	plain[n] = 0;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcasestr(plain, words[i]))
			return true;
	return false;
}

static json_t *redact_string(const struct redactor *r, const char *text)
{
	AUTO_FREE char *clean = redact_text(r, text);

	return clean ? json_string(clean) : NULL;
}

static json_t *redact_object(const struct redactor *r, const json_t *object)
{
	const char *kind = json_path_string(object, "kind"), *name;
	bool secret = kind && !strcmp(kind, "Secret"), session = kind && !strcmp(kind, "Session");
	AUTO_JSON json_t *out = json_object();
	json_t *value;

	json_object_foreach ((json_t *)object, name, value) {
		json_t *clean;

		if (!strcmp(name, "managedFields") || !strcmp(name, "kubectl.kubernetes.io/last-applied-configuration"))
			continue;
		if (secret && (!strcmp(name, "data") || !strcmp(name, "stringData"))) {
			const char *key;
			json_t *ignored;

			clean = json_object();
			json_object_foreach (value, key, ignored)
				json_object_set_new(clean, key, json_string(MARK));
		} else if (json_is_string(value) && (is_secret_name(name) || (session && !strcmp(name, "id")))) {
			clean = json_string(MARK);
		} else {
			clean = redact_json(r, value);
		}
		if (json_object_set_new(out, name, clean) < 0)
			return NULL;
	}
	return json_incref(out);
}

json_t *redact_json(const struct redactor *r, const json_t *value)
{
	if (json_is_object(value))
		return redact_object(r, value);
	if (json_is_string(value))
		return redact_string(r, json_string_value(value));
	if (json_is_array(value)) {
		AUTO_JSON json_t *out = json_array();
		const json_t *item;
		size_t i;

		json_array_foreach (value, i, item)
			if (json_array_append_new(out, redact_json(r, item)) < 0)
				return NULL;
		return json_incref(out);
	}
	return json_deep_copy(value);
}
