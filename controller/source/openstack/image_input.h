/* An image of Glance's as something that can be read at any place, downloaded once: as a stream, in order, whose last 4 MiB are kept (by all
 * disks together). What is
 * read ahead of them (as tables at the end are) or behind them comes by a request of its own, where the store gives parts. Writers of
 * qcow2 images put a table before what it names, so that nearly all is in the stream. The checksum is that of the stream: of the whole image. */
#pragma once

#include "disk/input.h"
#include "source/openstack/session.h"

/* image: as the Image API describes it, with its size; a reference is kept. A read that would need a part of a store that gives none is
 * transient NO_RANGES, one of an image that is not to be had any more transient IMAGE_GONE (download.h); either is told to unusable on the
 * reading thread before. */
struct disk_input *openstack_image_input(struct openstack_session *s, json_t *image, void (*unusable)(void *arg, const char *reason),
					 void *arg, struct cancel *cancel, struct error **err);
