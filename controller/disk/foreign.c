/* Sources: QEMU's qemu-img(1), docs/qemu-block-drivers ("nbd", "raw"), qapi/block-core.json (ImageInfo, BlockdevOptionsNbd) and
 * qapi/sockets.json (an address of type "fd"); Microsoft "Virtual Hard Disk Image Format" 1.0, "Hard Disk Footer Format". */
#include "disk/foreign.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "disk/bytes.h"
#include "disk/nbd_server.h"
#include "disk/sandbox.h"

#define PROGRAM "qemu-img"
#define MEMORY (UINT64_C(512) << 20)
#define SECONDS_MIN 60
#define SECONDS_MAX (24 * 60 * 60)
#define BYTES_A_SECOND (UINT64_C(16) << 20) /* of the disk: a tenth of what is usual */
#define INFO_MAX (1u << 20)                 /* bytes of qemu-img info's answer */
#define SILENCE_MS (2 * 60 * 1000)
#define NO_END (UINT64_C(1) << 60) /* bytes: more than any image has */
enum { VHD_TYPE = 60, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };

/* QEMU's name of a format, NULL when it is none of ours. */
static const char *driver_of(enum disk_format format)
{
	switch (format) {
	case DISK_QCOW1:
		return "qcow";
	case DISK_VHD:
		return "vpc";
	case DISK_VHDX:
		return "vhdx";
	case DISK_VDI:
		return "vdi";
	case DISK_QED:
		return "qed";
	case DISK_PARALLELS:
		return "parallels";
	default:
		return NULL;
	}
}

/* What else the driver is told. The size of a VHD is in its footer: by the rule that the geometry is the size, which QEMU follows for most
 * programs that write them, the disk's last cylinder would be lost. */
static const char *options_of(enum disk_format format)
{
	return format == DISK_VHD ? "\"force_size_calc\":\"current_size\"," : "";
}

bool foreign_reads(enum disk_format format)
{
	return driver_of(format) != NULL;
}

struct foreign {
	struct disk_input *in;
	enum disk_format format;
	uint64_t shown; /* bytes that the program is told the image has */
	uint64_t capacity;
};

/* The image's bytes for the program, on a thread of its own. */
struct feeder {
	struct foreign *foreign;
	int ours, theirs; /* the connection's ends */
	int other;        /* our end of the connection that waits for the program meanwhile; -1: none */
	struct cancel *cancel;
	_Atomic uint64_t *requests;
	_Atomic bool failed;
	pthread_t thread;
	bool started;
	struct error *input_error; /* of the input; read after the join */
};

static int read_input(void *arg, uint64_t offset, void *data, size_t len, struct error **err)
{
	struct feeder *f = arg;

	if (!f->input_error && disk_input_read(f->foreign->in, offset, data, len, &f->input_error) == 0)
		return 0;
	f->failed = true;
	return error_set(err, ERROR_TRANSIENT, "InputFailed", "the input failed");
}

static void *feed(void *arg)
{
	struct feeder *f = arg;
	struct nbd_export export = { .size = f->foreign->shown, .arg = f, .read = read_input, .requests = f->requests };

	nbd_serve(f->ours, &export, f->cancel, NULL);
	shutdown(f->ours, SHUT_RDWR); /* it learns that there is no more */
	if (f->failed && f->other >= 0)
		shutdown(f->other, SHUT_RDWR); /* what it would write does not count, and is not waited for */
	return NULL;
}

static int connect_pair(int *ours, int *theirs, struct error **err)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set_errno(err, errno, "cannot start %s", PROGRAM);
	*ours = ends[0];
	*theirs = ends[1];
	return 0;
}

static int feeder_start(struct feeder *f, struct error **err)
{
	int failed;

	if (connect_pair(&f->ours, &f->theirs, err) < 0)
		return -1;
	failed = pthread_create(&f->thread, NULL, feed, f);
	if (failed)
		return error_set_errno(err, failed, "cannot start %s", PROGRAM);
	f->started = true;
	return 0;
}

/* The program has its end, or will never. */
static void feeder_let_go(struct feeder *f)
{
	if (f->theirs >= 0)
		close(f->theirs);
	f->theirs = -1;
}

/* The program has ended, so that the thread does. */
static void feeder_end(struct feeder *f)
{
	feeder_let_go(f);
	if (f->started)
		pthread_join(f->thread, NULL);
	f->started = false;
	if (f->ours >= 0)
		close(f->ours);
	f->ours = -1;
}

static void feeder_clear(struct feeder *f)
{
	feeder_end(f);
	error_free(move_ptr(f->input_error));
}

/* An argument that says which descriptor the program reads, and as what; no word of it comes from outside. */
static char *image_argument(const struct foreign *f, uint64_t from)
{
	char *text = NULL;
	const char *driver = driver_of(f->format), *options = options_of(f->format);
	int n = from ? asprintf(&text,
				"json:{\"driver\":\"raw\",\"offset\":%llu,\"file\":{\"driver\":\"%s\",%s\"backing\":null,\"file\":"
				"{\"driver\":\"nbd\",\"server\":{\"type\":\"fd\",\"str\":\"3\"}}}}",
				(unsigned long long)from, driver, options)
		     : asprintf(&text,
				"json:{\"driver\":\"%s\",%s\"backing\":null,\"file\":"
				"{\"driver\":\"nbd\",\"server\":{\"type\":\"fd\",\"str\":\"3\"}}}",
				driver, options);

	return n < 0 ? NULL : text;
}

/* Leaves the options that name our connections, "'json:{...}'", out of what the program says. */
static void name_it(struct error *said)
{
	static const char begin[] = "'json:{", end[] = "}'", it[] = "the image";
	char *from = said->message, *to;

	while ((from = strstr(from, begin)) && (to = strstr(from, end))) {
		to += sizeof end - 1;
		memcpy(from, it, sizeof it - 1);
		from += sizeof it - 1;
		memmove(from, to, strlen(to) + 1);
	}
}

/* Which of the failures is the one to be told: what we were told to do, what the input or the disk say, then the program's. */
static int told(const struct foreign *f, struct feeder *feeder, struct cancel *cancel, struct error *program, struct error **err)
{
	const char *name = disk_input_name(f->in);

	if (cancel_check(cancel, err) < 0 || feeder->input_error) {
		error_free(program);
		return feeder->input_error && !(err && *err) ? error_move(err, move_ptr(feeder->input_error)) : -1;
	}
	if (program)
		name_it(program);
	error_move(err, program);
	return error_wrap(err, "%s, a %s image, is read by another program", name, disk_format_name(f->format));
}

/* What the program writes, until it ends. */
static int read_answer(int fd, char **text, size_t *len, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *answer = malloc(INFO_MAX);
	size_t got = 0;
	ssize_t n;

	if (!answer)
		return error_set_errno(err, ENOMEM, "cannot read what it is");
	do {
		struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = cancel_fd(cancel), .events = POLLIN } };

		if (!poll(fds, 2, SILENCE_MS))
			return error_set(err, ERROR_TRANSIENT, "Stalled", "it did nothing for %d minutes", SILENCE_MS / 60000);
		if (cancel_check(cancel, err) < 0)
			return -1;
		n = read(fd, answer + got, INFO_MAX - got);
		if (n < 0 && errno != EINTR)
			return error_set_errno(err, errno, "cannot read what it is");
		got += n > 0 ? (size_t)n : 0;
	} while (n && got < INFO_MAX);
	*text = move_ptr(answer);
	*len = got;
	return 0;
}

DEFINE_CLEANUP(json_t, json_free_p, json_decref)

/* From what qemu-img info says. */
static int take_info(struct foreign *f, const char *text, size_t len, struct error **err)
{
	CLEANUP(json_free_p) json_t *info = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *size = json_object_get(info, "virtual-size");
	const json_t *data = json_object_get(json_object_get(info, "format-specific"), "data");
	const char *backing = json_string_value(json_object_get(info, "backing-filename"));
	json_int_t bytes = json_integer_value(size);

	if (!json_is_integer(size) || bytes < 0)
		return error_set(err, ERROR_PERMANENT, "InvalidImage", "%s does not tell the disk's size", PROGRAM);
	if (backing)
		return error_set(err, ERROR_PERMANENT, "BackingFile",
				 "the image lies upon another file (\"%.100s\"), which is not followed; make it one image first", backing);
	if (json_object_get(data, "data-file"))
		return error_set(err, ERROR_PERMANENT, "BackingFile", "the image has its data in another file, which is not followed");
	if (json_is_true(json_object_get(info, "encrypted")))
		return error_set(err, ERROR_PERMANENT, "Encrypted", "the image is encrypted; decrypt it first");
	f->capacity = (uint64_t)bytes;
	return 0;
}

static int ask(struct foreign *f, struct error **err)
{
	_Atomic uint64_t requests = 0;
	CLEANUP(feeder_clear) struct feeder feeder = { .foreign = f, .ours = -1, .theirs = -1, .other = -1, .requests = &requests };
	AUTO_FREE char *image = image_argument(f, 0), *answer = NULL;
	char *arguments[] = { (char *)PROGRAM, (char *)"info", (char *)"--output=json", image, NULL };
	struct error *wrong = NULL, *failed = NULL;
	struct sandbox *program;
	int ends[2], descriptors[1];
	size_t len = 0;

	if (!image || pipe2(ends, O_CLOEXEC) < 0)
		return error_set_errno(err, ENOMEM, "cannot start %s", PROGRAM);
	AUTO_FD int ours = ends[0], theirs = ends[1];
	if (feeder_start(&feeder, err) < 0)
		return -1;
	descriptors[0] = feeder.theirs;
	program = sandbox_start(&(struct sandbox_options){ .program = PROGRAM,
							   .arguments = arguments,
							   .descriptors = descriptors,
							   .descriptor_count = 1,
							   .memory = MEMORY,
							   .seconds = SECONDS_MIN,
							   .output = theirs },
				&failed);
	close(move_fd(&theirs));
	feeder_let_go(&feeder);
	if (program && read_answer(ours, &answer, &len, NULL, &wrong) < 0)
		sandbox_kill(program);
	if (program)
		sandbox_end(program, NULL, &failed);
	feeder_end(&feeder);
	if (!failed && !wrong)
		take_info(f, answer, len, &wrong);
	if (!failed && !wrong)
		return 0;
	if (wrong)
		error_free(move_ptr(failed));
	return told(f, &feeder, NULL, wrong ? wrong : failed, err);
}

/* A program that is told where the image ends takes what an image that was cut lacks for zeros, or waits for it, when it does not end with a
 * sector. So only a VHD of fixed size, which is found by its end, has one; of all others a read beyond it comes to us, and fails. */
static uint64_t end_of(const struct foreign *f, bool headed)
{
	return f->format != DISK_VHD || headed ? NO_END : (disk_input_size(f->in) + 511) / 512 * 512;
}

/* What the program would take for something else: a VHD with the changes to another one for a whole disk, with zeros for what that has. */
static int check(struct foreign *f, struct error **err)
{
	unsigned char head[DISK_FORMAT_HEAD] = { 0 };
	uint64_t size = disk_input_size(f->in);
	size_t len = size < sizeof head ? (size_t)size : sizeof head;
	uint32_t type;
	bool headed;

	if (disk_input_read(f->in, 0, head, len, err) < 0)
		return -1;
	headed = f->format == DISK_VHD && disk_format_of(head, len) == DISK_VHD;
	f->shown = end_of(f, headed);
	type = get_be32(head + VHD_TYPE);
	if (!headed || type == VHD_DYNAMIC)
		return 0;
	if (type == VHD_DIFFERENCING)
		return error_set(
			err, ERROR_PERMANENT, "BackingFile",
			"%s holds only changes to another VHD, which is not followed; make it one image first (merge its checkpoints)",
			disk_input_name(f->in));
	return error_set(err, ERROR_PERMANENT, "UnsupportedFormat", "%s is a VHD of the unknown type %u", disk_input_name(f->in), type);
}

struct foreign *foreign_open(struct disk_input *in, enum disk_format format, struct error **err)
{
	struct foreign *f = calloc(1, sizeof *f);
	AUTO_FREE char *path = sandbox_find(PROGRAM);

	if (!f) {
		error_set_errno(err, ENOMEM, "cannot read the image");
		return NULL;
	}
	*f = (struct foreign){ .in = in, .format = format };
	if (!path)
		error_set(
			err, ERROR_PERMANENT, "ProgramMissing",
			"%s is a %s image, which %s would read, but that is not installed: install QEMU's disk image utilities, or convert "
			"the image to VMDK, qcow2 or raw",
			disk_input_name(in), disk_format_name(format), PROGRAM);
	else if (check(f, err) == 0 && ask(f, err) == 0)
		return f;
	free(f);
	return NULL;
}

void foreign_close(struct foreign *f)
{
	free(f);
}

uint64_t foreign_capacity(const struct foreign *f)
{
	return f->capacity;
}

/* The disk's bytes, from the program into the sink. */
struct taker {
	const struct foreign *foreign;
	const struct piece_sink *sink;
	uint64_t from;
	struct error *error; /* of the sink */
};

static void *make_room(void *arg, uint64_t offset, size_t len, struct error **err)
{
	struct taker *t = arg;
	struct piece_place place = { .guest_offset = t->from + offset,
				     .guest_len = len,
				     .stored = len,
				     .codec = PIECE_STORED,
				     .from = t->from + offset,
				     .file = disk_input_name(t->foreign->in) };
	void *room = t->error ? NULL : t->sink->room(t->sink->arg, &place, &t->error);

	if (!room)
		error_set(err, ERROR_TRANSIENT, "OutputFailed", "the output failed");
	return room;
}

static unsigned seconds_for(uint64_t capacity)
{
	uint64_t seconds = SECONDS_MIN + capacity / BYTES_A_SECOND;

	return seconds < SECONDS_MAX ? (unsigned)seconds : SECONDS_MAX;
}

/* In order (no -W), so that the disk's digest is made on the way; nothing is said of zeros, because none were there before. */
static int transfer(struct foreign *f, struct feeder *feeder, struct taker *taker, struct cancel *cancel, struct error **err)
{
	AUTO_FREE char *image = image_argument(f, taker->from);
	char *arguments[] = {
		(char *)PROGRAM,
		(char *)"convert",
		(char *)"-n",
		(char *)"--target-is-zero",
		image,
		(char *)"--target-image-opts",
		(char *)"driver=raw,file.driver=nbd,file.server.type=fd,file.server.str=4",
		NULL,
	};
	AUTO_FD int ours = -1, theirs = -1;
	struct error *wrong = NULL, *failed = NULL;
	struct sandbox *program;
	int descriptors[2];

	if (!image)
		return error_set_errno(err, ENOMEM, "cannot start %s", PROGRAM);
	if (connect_pair(&ours, &theirs, err) < 0)
		return -1;
	feeder->other = ours;
	if (feeder_start(feeder, err) < 0)
		return -1;
	descriptors[0] = feeder->theirs;
	descriptors[1] = theirs;
	program = sandbox_start(&(struct sandbox_options){ .program = PROGRAM,
							   .arguments = arguments,
							   .descriptors = descriptors,
							   .descriptor_count = 2,
							   .memory = MEMORY,
							   .seconds = seconds_for(f->capacity),
							   .output = -1 },
				&failed);
	close(move_fd(&theirs));
	feeder_let_go(feeder);
	struct nbd_export export = { .size = f->capacity - taker->from, .arg = taker, .room = make_room, .requests = feeder->requests };
	/* One that hung up has a reason, and ends by itself; of another the reason is ours. */
	bool hung_up = program && nbd_serve(ours, &export, cancel, &wrong) < 0 && !strcmp(wrong->reason, "HungUp");
	if (program && (feeder->failed || (wrong && !hung_up)))
		sandbox_kill(program);
	shutdown(ours, SHUT_RDWR); /* closed when no thread has it any more */
	if (program)
		sandbox_end(program, cancel, &failed);
	feeder_end(feeder);
	if (wrong && (!failed || !hung_up)) {
		error_free(failed);
		failed = move_ptr(wrong);
	}
	error_free(wrong);
	return failed ? error_move(err, failed) : 0;
}

int foreign_walk(struct foreign *f, uint64_t from, const struct piece_sink *sink, struct cancel *cancel, struct error **err)
{
	_Atomic uint64_t requests = 0;
	CLEANUP(feeder_clear)
	struct feeder feeder = { .foreign = f, .ours = -1, .theirs = -1, .other = -1, .cancel = cancel, .requests = &requests };
	struct taker taker = { .foreign = f, .sink = sink, .from = from };
	struct error *failed = NULL;

	if (sink->capacity(sink->arg, f->capacity, 0, err) < 0)
		return -1;
	if (from >= f->capacity || transfer(f, &feeder, &taker, cancel, &failed) == 0)
		return 0;
	if (!taker.error)
		return told(f, &feeder, cancel, failed, err);
	error_free(failed);
	return error_move(err, taker.error);
}
