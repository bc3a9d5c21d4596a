#include "transfer/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
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

/* The claim's file, locked until it is closed: -1 with errno. */
static int open_claim(const char *path, bool write)
{
	AUTO_FD int fd = open(path, (write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	int given = fd;

	while (fd >= 0 && flock(fd, write ? LOCK_EX : LOCK_SH) < 0)
		if (errno != EINTR)
			return -1;
	fd = -1;
	return given;
}

/* NULL: it says nothing, or was not written to its end. */
static json_t *load(int fd)
{
	return fd >= 0 ? json_loadfd(fd, 0, NULL) : NULL;
}

/* In place, so that the lock is on what the next one opens. Cut in the middle it says nothing, and what lies there is doubted. */
static int put(int fd, const char *path, const char *import, const json_t *of, struct error **err)
{
	AUTO_JSON json_t *json = json_pack("{s:s, s:O}", "import", import, "of", of);

	if (!json)
		return error_set_errno(err, ENOMEM, "cannot write %s", path);
	if (lseek(fd, 0, SEEK_SET) < 0 || ftruncate(fd, 0) < 0 || json_dumpfd(json, fd, JSON_INDENT(2)) < 0 || fsync(fd) < 0)
		return error_set_errno(err, errno, "cannot write %s", path);
	return 0;
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
	AUTO_JSON json_t *claim = NULL;
	AUTO_FD int fd = -1;
	struct stat st;

	if (!path)
		return error_set_errno(err, ENOMEM, "cannot claim %s", directory);
	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return error_set_errno(err, errno, "cannot create the directory %s", directory);
	fd = open_claim(path, true);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "cannot open %s", path);
	if (!st.st_nlink)
		return error_set(err, ERROR_TRANSIENT, "DirectoryRemoved", "%s was removed while it was claimed", directory);
	claim = load(fd);
	if (check_holder(directory, claim, import, err) < 0)
		return -1;
	if (json_path_string(claim, "import") && json_equal(json_object_get(claim, "of"), of))
		return 0;
	journal_doubt(directory);
	return put(fd, path, import, of, err);
}

char *claim_holder(const char *directory)
{
	AUTO_FREE char *path = claim_path(directory);
	AUTO_FD int fd = path ? open_claim(path, false) : -1;
	AUTO_JSON json_t *claim = load(fd);
	const char *holder = json_path_string(claim, "import");

	return holder ? strdup(holder) : NULL;
}
