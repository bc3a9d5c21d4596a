/* What is known of disks over a restart: of a finished one a file beside it, ".<disk>.journal", a JSON object; of one that is under way
 * ".<disk>.blocks" (disk/block_journal.h), which stays until the import is done.
 *
 * Write order: the disk's data is synced (disk_pipeline_finish), then the journal is written to a temporary file, synced, renamed over
 * the old one, and the directory synced. So a journal that exists tells the truth about data that is on the disk, after a power cut too;
 * one that does not exist costs a second download, never a wrong disk. The disk's time of modification is noted, too: a disk that has
 * another one is believed only when its digest is still the same.
 *
 * A failed import keeps its disks for the retry, but the machine may have run in between. So what was finished is doubted
 * (journal_doubt): the disks are fetched again, and only blocks that differ are written. A mark beside each, ".<disk>.doubt", says until
 * the disk is whole again that nothing of it may be taken as it is: a source with ranges is read from the beginning then. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api/vm_model.h"
#include "disk/pipeline.h"

/* The file name of the model's i-th disk: "disk-0.raw". */
#define JOURNAL_DISK_NAME_SIZE 32
void journal_disk_name(size_t i, char out[JOURNAL_DISK_NAME_SIZE]);

int journal_record(const char *directory, size_t i, const struct vm_model *model, const struct disk_result *result, struct error **err);
/* The path of the block journal of the model's i-th disk; owned by the caller, NULL when memory is out. */
char *journal_blocks_path(const char *directory, size_t i);
/* True when the journal records the model's i-th disk (machine, id, capacity) as finished and the file is there, unchanged; fills *result. Quick, but for a
 * file that was touched, which is read once. */
bool journal_find(const char *directory, size_t i, const struct vm_model *model, struct disk_result *result);
/* Whether an earlier try's blocks of this disk may be of another state of the source; and forgets them, durably. */
bool journal_doubted(const char *directory, size_t i);
int journal_forget(const char *directory, size_t i, struct error **err);
/* True when every disk of the model is recorded. */
bool journal_complete(const char *directory, const struct vm_model *model);

/* The model itself, so that an import can go on without its source once the disks are here. */
int journal_save_model(const char *directory, const struct vm_model *model, struct error **err);
struct vm_model *journal_load_model(const char *directory); /* NULL when there is none */

/* What is worth a word about how the disks came; NULL: nothing, or what is there goes. Load: owned, NULL when there is none. */
void journal_save_note(const char *directory, const char *note);
char *journal_load_note(const char *directory);

/* Removes the directory with all it holds (files only, no links followed). An absent one is success. */
int journal_remove(const char *directory, struct error **err);
/* Removes the model and what says that disks are finished, and marks those begun; keeps the disks and their block journals, and of an empty
 * directory nothing. */
void journal_doubt(const char *directory);
/* Bytes that the directory's files occupy, so far as they belong to disks that are under way. */
uint64_t journal_kept_bytes(const char *directory, const struct vm_model *model);
