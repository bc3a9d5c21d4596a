/* What is known of finished disks over a restart: a file beside each disk, ".<disk>.journal", a JSON object.
 *
 * Write order: the disk's data is synced (disk_pipeline_finish), then the journal is written to a temporary file, synced, renamed over
 * the old one, and the directory synced. So a journal that exists tells the truth about data that is on the disk, after a power cut too;
 * one that does not exist costs a second download, never a wrong disk. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "api/vm_model.h"
#include "disk/pipeline.h"

/* The file name of the model's i-th disk: "disk-0.raw". */
#define JOURNAL_DISK_NAME_SIZE 32
void journal_disk_name(size_t i, char out[JOURNAL_DISK_NAME_SIZE]);

int journal_record(const char *directory, size_t i, const struct vm_disk *disk, const struct disk_result *result, struct error **err);
/* True when the journal records this disk (id, capacity) as finished and the file is there in its full length; fills *result. */
bool journal_find(const char *directory, size_t i, const struct vm_disk *disk, struct disk_result *result);
/* True when every disk of the model is recorded. */
bool journal_complete(const char *directory, const struct vm_model *model);

/* The model itself, so that an import can go on without its source once the disks are here. */
int journal_save_model(const char *directory, const struct vm_model *model, struct error **err);
struct vm_model *journal_load_model(const char *directory); /* NULL when there is none */

/* Removes the directory with all it holds (files only, no links followed). An absent one is success. */
int journal_remove(const char *directory, struct error **err);
/* Removes journals and model, keeps the disks. */
void journal_forget(const char *directory, const struct vm_model *model);
