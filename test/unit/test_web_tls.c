// links: web base
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "web/web.h"

#define DISK_SIZE (5u << 20)

static char directory[64];

/* Runs a shell command in the directory; its output without the last line's end, or NULL when it fails. */
static char *shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *shell(const char *fmt, ...)
{
	AUTO_FREE char *command = NULL, *all = NULL;
	struct buffer out;
	char piece[4096];
	va_list ap;
	size_t n;
	FILE *f;

	va_start(ap, fmt);
	if (vasprintf(&command, fmt, ap) < 0)
		command = NULL;
	va_end(ap);
	assert_true(command && asprintf(&all, "cd %s && { %s; } 2>/dev/null", directory, command) > 0);
	f = popen(all, "r");
	assert_non_null(f);
	buffer_init(&out, 16u << 20);
	while ((n = fread(piece, 1, sizeof piece, f)) > 0)
		buffer_add(&out, piece, n);
	if (pclose(f)) {
		buffer_free(&out);
		return NULL;
	}
	while (out.len && out.data[out.len - 1] == '\n')
		out.data[--out.len] = 0;
	return buffer_steal(&out);
}

static void run(const char *command)
{
	AUTO_FREE char *out = shell("%s", command);

	if (!out)
		fail_msg("failed: %s", command);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(directory, "/tmp/test_web_tls.XXXXXX");
	assert_non_null(mkdtemp(directory));
	run("mkdir root && head -c 5242880 /dev/urandom >root/disk.raw");
	/* Two pairs for the same name, and one of another name. */
	run("for n in one two; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=$n "
	    "-addext subjectAltName=DNS:localhost -keyout $n.key -out $n.crt; done; cp one.crt live.crt; cp one.key live.key");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(shell("rm -rf %s", directory));
	return 0;
}

static struct web *start(const char *certificate, const char *key, struct error **err)
{
	static char paths[3][128];
	struct web_options options = { .bind = "127.0.0.1", .root = paths[0], .advertise = "localhost", .tls_reload_ms = 100 };

	snprintf(paths[0], sizeof paths[0], "%s/root", directory);
	snprintf(paths[1], sizeof paths[1], "%s/%s", directory, certificate);
	snprintf(paths[2], sizeof paths[2], "%s/%s", directory, key);
	options.certificate = paths[1];
	options.key = paths[2];
	return web_start(&options, err);
}

static char *subject(const struct web *web)
{
	return shell("openssl s_client -connect 127.0.0.1:%d -servername localhost </dev/null | openssl x509 -noout -subject",
		     web_port(web));
}

static void serves_over_tls(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	struct web *web = start("live.crt", "live.key", &err);
	AUTO_FREE char *url = NULL, *got = NULL, *part = NULL, *head = NULL;

	(void)state;
	assert_string_equal(error_message(err), "");
	assert_non_null(web);
	url = web_url(web, "disk.raw", NULL);
	assert_non_null(url);
	assert_int_equal(strncmp(url, "https://localhost:", 18), 0);
	got = shell("curl -sS --noproxy '*' --cacert one.crt -o got.raw '%s' && cmp got.raw root/disk.raw && echo same", url);
	assert_string_equal(got ? got : "", "same");
	part = shell("tail -c 10 root/disk.raw >end && curl -sS --noproxy '*' --cacert one.crt -r 5242870- '%s' | cmp - end && echo same",
		     url);
	assert_string_equal(part ? part : "", "same");
	head = shell("curl -sS --noproxy '*' --cacert one.crt -I '%s' | tr -d '\\r' | sed -n 's/^[Cc]ontent-[Ll]ength: *//p'", url);
	assert_string_equal(head ? head : "", "5242880");
	/* Who does not trust it gets nothing, nor does an old TLS, nor plain HTTP. */
	assert_null(shell("curl -sS --noproxy '*' -o /dev/null '%s'", url));
	assert_null(shell("curl -sS --noproxy '*' -k --tls-max 1.1 -o /dev/null '%s'", url));
	assert_null(shell("curl -sS --noproxy '*' -o /dev/null --max-time 10 http://127.0.0.1:%d/healthz", web_port(web)));
	web_stop(web);
}

static void takes_a_new_certificate(void **state)
{
	AUTO_ERROR struct error *err = NULL;
	struct web *web = start("live.crt", "live.key", &err);
	AUTO_FREE char *first = NULL, *half = NULL, *now = NULL;

	(void)state;
	assert_non_null(web);
	first = subject(web);
	assert_string_equal(first ? first : "", "subject=CN = one");
	/* Half of an exchange: the certificate of another key. */
	run("cp two.crt live.crt && sleep 0.5");
	half = subject(web);
	assert_string_equal(half ? half : "", "subject=CN = one");
	run("cp two.key live.key");
	for (uint64_t end = clock_monotonic_ms() + 60000; clock_monotonic_ms() < end;) {
		free(now);
		now = subject(web);
		if (now && !strcmp(now, "subject=CN = two"))
			break;
	}
	assert_string_equal(now ? now : "", "subject=CN = two");
	web_stop(web);
}

static void complains(const char *certificate, const char *key, const char *part)
{
	AUTO_ERROR struct error *err = NULL;

	assert_null(start(certificate, key, &err));
	assert_non_null(err);
	if (!strstr(err->message, part))
		fail_msg("\"%s\" is not in \"%s\"", part, err->message);
}

static void refuses_what_is_no_pair(void **state)
{
	(void)state;
	run("echo nothing >empty.pem && mkdir -p folder");
	complains("absent.crt", "one.key", "absent.crt: No such file");
	complains("one.crt", "absent.key", "absent.key: No such file");
	complains("empty.pem", "one.key", "no usable certificate in");
	complains("one.crt", "empty.pem", "no key of the certificate in");
	complains("one.crt", "two.key", "no key of the certificate in");
	complains("folder", "one.key", "is no file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serves_over_tls),
		cmocka_unit_test(takes_a_new_certificate),
		cmocka_unit_test(refuses_what_is_no_pair),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
