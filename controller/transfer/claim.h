/* Whose a directory of disks is, where directories are named by people and stay (vm-import-controller import): a file ".import.json" in it
 * tells the import and what its disks are of. Without it a second import of the same target name would take the first one's disks for
 * its own. Thread-safe; two processes that claim one directory at once are told apart, too. */
#pragma once

#include <jansson.h>

#include "base/error.h"

/* Claims the directory (created) for the import "NAMESPACE/NAME". of: what tells its machine from all others, an object. Disks that lie
 * there and are of another, or of nobody knows what, are doubted (journal_doubt). Another import's directory: permanent, DirectoryTaken. */
int claim_take(const char *directory, const char *import, const json_t *of, struct error **err);
/* The import whose the directory is; owned, NULL: nobody's. */
char *claim_holder(const char *directory);
