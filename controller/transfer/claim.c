#include "transfer/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer/journal.h"
#include "json/codec.h"

#define CLAIM_NAME ".import.json"

static char *claim_path(const char *directory)
{
	char *path = NULL;

	return asprintf(&path, "%s/" CLAIM_NAME, directory) < 0 ? NULL : path;
}

static json_t *load(const char *path)
{
	return access(path, F_OK) == 0 ? json_load_file(path, 0, NULL) : NULL;
}

/* Written beside, and put in place whole: over the old one, or only where there is none. */
static int put(const char *path, const char *import, const json_t *of, bool over, struct error **err)
{
	AUTO_JSON json_t *json = json_pack("{s:s, s:O}", "import", import, "of", of);
	AUTO_FREE char *beside = NULL;
	int result, why;

	if (!json || asprintf(&beside, "%s.XXXXXX", path) < 0) {
		beside = NULL;
		return error_set_errno(err, ENOMEM, "cannot write %s", path);
	}
	AUTO_FD int fd = mkostemp(beside, O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot create %s", beside);
	result = json_dumpfd(json, fd, JSON_INDENT(2)) < 0 || fsync(fd) < 0 ? -1 : over ? rename(beside, path) : link(beside, path);
	why = errno;
	if (result < 0 || !over)
		unlink(beside);
	return result < 0 ? error_set_errno(err, why, "cannot write %s", path) : 0;
}

static int check_holder(const char *directory, const json_t *claim, const char *import, struct error **err)
{
	const char *holder = json_path_string(claim, "import");

	if (!holder || !strcmp(holder, import))
		return 0;
	return error_set(err, ERROR_PERMANENT, "DirectoryTaken",
			 "%s belongs to the import %s; choose another -o or spec.targetVirtualMachineName, or delete it", directory,
			 holder);
}

int claim_take(const char *directory, const char *import, const json_t *of, struct error **err)
{
	AUTO_FREE char *path = claim_path(directory);
	AUTO_JSON json_t *claim = path ? load(path) : NULL, *first = NULL;
	bool known = json_path_string(claim, "import") != NULL;

	if (!path)
		return error_set_errno(err, ENOMEM, "cannot claim %s", directory);
	if (check_holder(directory, claim, import, err) < 0)
		return -1;
	if (known && json_equal(json_object_get(claim, "of"), of))
		return 0;
	journal_doubt(directory);
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "cannot create the directory %s", directory);
	if (known || access(path, F_OK) == 0) /* one that cannot be read is nobody's */
		return put(path, import, of, true, err);
	if (put(path, import, of, false, err) == 0)
		return 0;
	first = load(path); /* somebody was faster */
	if (!json_path_string(first, "import") || !strcmp(json_path_string(first, "import"), import))
		return -1;
	error_free(move_ptr(*err));
	return check_holder(directory, first, import, err);
}

char *claim_holder(const char *directory)
{
	AUTO_FREE char *path = claim_path(directory);
	AUTO_JSON json_t *claim = path ? load(path) : NULL;
	const char *holder = json_path_string(claim, "import");

	return holder ? strdup(holder) : NULL;
}
