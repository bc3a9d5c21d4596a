/* Images of formats that are not read here: VHD, VHDX, VDI, qcow version 1, QED, Parallels. qemu-img reads them, as a program that can do
 * nothing else (disk/sandbox.h): it opens no file, not even the image, but asks us for its bytes and gives us the disk's, over one
 * connection each (disk/nbd_server.h). So the image may be anything that an input can be, and the disk goes where all disks go, with its
 * digest made on the way. Backing files, external data and encryption are refused. Internal to disk/. */
#pragma once

#include "base/cancel.h"
#include "base/error.h"
#include "disk/decoder.h"
#include "disk/format.h"
#include "disk/input.h"

/* Whether the format is one of these. */
bool foreign_reads(enum disk_format format);

struct foreign;

/* Asks qemu-img what the image is. The input stays the caller's, who does not use it meanwhile, nor while it is walked. */
struct foreign *foreign_open(struct disk_input *in, enum disk_format format, struct error **err);
void foreign_close(struct foreign *f);              /* accepts NULL */
uint64_t foreign_capacity(const struct foreign *f); /* bytes */
/* As disk_image_walk. */
int foreign_walk(struct foreign *f, uint64_t from, const struct piece_sink *sink, struct cancel *cancel, struct error **err);
