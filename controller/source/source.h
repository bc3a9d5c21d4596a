/* The contract of a provider of virtual machines. A new provider is a directory, a table, and one line in registry.c.
 *
 * A source is an open session with one endpoint. It is thread-safe: several imports use one session. Calls block, each with a
 * deadline of its own, and end early (cancelled) when the cancel token they were given is requested. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/vm_model.h"
#include "base/cancel.h"
#include "base/error.h"

struct disk_input;

struct source {
	const struct source_ops *ops;
};

/* A virtual machine as the user names it. */
struct source_vm_name {
	const char *name;   /* spec.virtualMachineName */
	const char *folder; /* spec.folder; "" or NULL: anywhere */
};

struct source_disk {
	const char *id;   /* vm_disk.id */
	const char *file; /* what the user's package calls the file it is in, for errors; NULL: there is no such file */
	/* "vmdk-stream" or "raw": what export_stream delivers; with by_place also "vmdk" (any form that is no stream) and "qcow2". NULL: told by
	 * its content. Where the source knows it, it is told: the content is the guest's to forge. */
	const char *format;
	uint64_t capacity; /* bytes of the guest's disk */
	bool by_place;     /* any part of it can be read: export_open is used, export_stream is not */
	bool whole; /* by_place: only all of it, read from the start, is known to be right (a checksum): no try goes on where another was */
	const char *host; /* who sends it, "name:port": so many streams at once a host; NULL: nobody in particular */
	/* What comes is a file as it lies at the source, not made anew for each stream: damage that two tries find in one place is the file's. */
	bool stored;
	bool resumable; /* export_resume sends it from any byte on; its format is "raw" */
	/* Set when a call for it has failed because the machine was changed meanwhile: nothing that came of this export counts any more. */
	bool spoilt;
};

/* A running export: the source holds what it needs (a lease) until export_end. Between two streams of a disk its source may find another
 * way to it: then the disk's entry is another one when export_stream, export_resume or a read has returned (-1) to its thread. */
struct source_export {
	const struct source_ops *ops;
	const struct source_disk *disks; /* in the model's order; owned by the export */
	size_t disk_count;
	const char *endpoint; /* the service behind all hosts, "name:port", for the limit of its streams; NULL: none */
};

/* Takes bytes of a disk stream in order. Returns 0, or -1 with an error that ends the stream. */
typedef int (*source_sink)(void *arg, const void *data, size_t len, struct error **err);

/* Called with what was made at the source, before it is made and after it is undone; the caller records it (status.sourceLedger).
 * kind is for people and programs: "ExportLease", "Session", "Snapshot", "PowerState". Returns -1 when it could not be recorded: then it must not be made. */
typedef int (*source_ledger)(void *arg, bool made, const char *kind, const char *id, struct error **err);

/* What the operator of this process allows; the same for all sources. */
struct source_options {
	bool allow_local_urls; /* URLs that a user names may lead to loopback and link-local addresses */
};

/* What an import takes from the source. */
struct source_load {
	uint64_t bytes, largest; /* of all streams, and of the largest one */
	unsigned streams;        /* at most so many at once; 0: as many as one host is asked for */
};

struct source_ops {
	const char *kind; /* "VmwareSource" */
	/* The keys of its Secret that mean something, NULL-ended. Others are told. NULL: any may. */
	const char *const *secret_keys;

	/* Opens a session. object is the source's custom resource; secret its Secret's data, decoded: a JSON object of strings (NULL:
	 * the resource names none). Logs in. */
	struct source *(*open)(const json_t *object, const json_t *secret, const struct source_options *options, struct cancel *cancel,
			       struct error **err);
	/* Logs out. Accepts a session that has expired. */
	void (*close)(struct source *);
	/* What names the session at the source, where one that nobody ends stays for long: owned. The caller records it (kind "Session"), so
	 * that cleanup can end it when this process is no more. NULL: there is nothing to end. The callback may be NULL. */
	char *(*session_id)(struct source *);
	/* Whether the session works and what the spec names exists. Messages say what to change. */
	int (*verify)(struct source *, struct cancel *, struct error **err);
	/* The SHA-256 fingerprint of the endpoint's certificate where it was trusted because it was the first one seen: the source's status
	 * keeps it for the next open. Owned; NULL: the Secret says whom to trust. The callback may be NULL. */
	char *(*certificate)(struct source *);
	/* Finds the machine: not-found or (several) permanent otherwise. The result is owned by the caller. */
	struct vm_model *(*describe)(struct source *, const struct source_vm_name *, struct cancel *, struct error **err);
	/* What would stand in the way of an import: appends a string for each problem to the JSON array problems. */
	int (*preflight)(struct source *, const struct vm_model *, json_t *problems, struct cancel *, struct error **err);
	/* How much an import fetches, where the source knows more than what the disks hold. May be NULL: as much as they hold. */
	int (*load)(struct source *, const struct vm_model *, struct source_load *, struct cancel *, struct error **err);
	/* Why nothing can be said of the time, where that is known: a part of a sentence. Beside a sample that is NULL. */
	const char *no_sample;
	/* How fast a stream of the machine's disks is, in bytes a second, from reading a little of them; within some seconds, and without
	 * touching anything. Fails when that cannot be had now; the message says why. May be NULL: it cannot be told. */
	int (*sample)(struct source *, const struct vm_model *, uint64_t *bytes_per_second, struct cancel *, struct error **err);
	/* Fills model->networks, where a machine may be on others than its cards are. May be NULL: those of its cards are all. */
	int (*networks)(struct source *, struct vm_model *, struct cancel *, struct error **err);
	int (*power_state)(struct source *, const struct vm_model *, enum vm_power *out, struct cancel *, struct error **err);
	int (*shutdown_guest)(struct source *, const struct vm_model *, struct cancel *, struct error **err); /* asks; returns at once */
	/* Calls wake(arg, key) once, from another thread, when the machine does not run any more or cannot be watched any longer, at the latest
	 * after within_ms; until the source is closed. False: it is to be looked at again and again. The callback may be NULL. */
	bool (*watch_power)(struct source *, const struct vm_model *, unsigned within_ms, void (*wake)(void *arg, const char *key),
			    void *arg, const char *key);
	int (*power_off)(struct source *, const struct vm_model *, struct cancel *, struct error **err); /* hard; waits for it */
	int (*power_on)(struct source *, const struct vm_model *, struct cancel *, struct error **err);

	/* Begins an export of a machine that is off. */
	struct source_export *(*export_begin)(struct source *, const struct vm_model *, source_ledger ledger, void *ledger_arg,
					      struct cancel *, struct error **err);
	/* Streams disk i into the sink; several disks may stream at once, each on a thread of its own. Success means the source says
	 * that it sent everything. */
	int (*export_stream)(struct source_export *, size_t i, source_sink sink, void *sink_arg, struct cancel *, struct error **err);
	/* Random access to disk i, where by_place is set; NULL in a source that never sets it. name NULL: the file of the disk itself; else one
	 * that it names (an extent, a parent), as it stands there: whatever is not a file of this disk is refused (not-found or permanent),
	 * above all paths and URLs that lead elsewhere. The input is read by one thread (disk/input.h has the contract of its read_at), several
	 * may be open at once; it is closed before export_end. cancel lives as long. */
	struct disk_input *(*export_open)(struct source_export *, size_t i, const char *name, struct cancel *, struct error **err);
	/* The same from this byte of a disk that is resumable on; at its capacity nothing is sent, and success says, as ever, that what was
	 * sent is right. NULL: no disk ever is. */
	int (*export_resume)(struct source_export *, size_t i, uint64_t offset, source_sink sink, void *sink_arg, struct cancel *,
			     struct error **err);
	/* What a person should know about the way that the disks come, a part of a sentence; owned by the caller, NULL: nothing. May be
	 * NULL. Thread-safe. */
	char *(*export_note)(struct source_export *);
	/* The content of the firmware's memory (EFI variables), where the source offers it: an owned buffer, *len bytes; *data NULL when
	 * there is none. May be NULL. */
	int (*export_nvram)(struct source_export *, unsigned char **data, size_t *len, struct cancel *, struct error **err);
	void (*export_progress)(struct source_export *, unsigned percent); /* tells the source; returns at once */
	/* Ends it: completed when ok, else aborted. Frees the export in any case. Not cancellable, but bounded in time. */
	int (*export_end)(struct source_export *, bool ok, struct error **err);
	/* Undoes one entry of the ledger that a process which is no more left behind. Success when there is nothing to undo. */
	int (*cleanup)(struct source *, const char *kind, const char *id, struct cancel *, struct error **err);
};

/* registry.c: the provider of a kind (case-insensitive), NULL when there is none. */
const struct source_ops *source_ops_of(const char *kind);
