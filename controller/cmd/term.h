/* What carries imports out, for the time that this process may: from when it leads until it does no more, or, where there is no election,
 * from start to end. A term has a store of its own, so that its requests can be broken off at once, and through which nothing is written
 * once another may lead. */
#pragma once

#include "leader/election.h"
#include "reconcile/reconciler.h"
#include "store/kube/kube.h"

struct term;

/* All is borrowed, the strings too. */
struct term_options {
	const struct kube_options *kube;
	struct election *election; /* NULL: there is none */
	struct web *web;
	struct metrics *metrics;
	const char *scratch;
	unsigned workers, streams, host_streams, endpoint_streams;
	struct source_options sources;
};

struct term *term_start(const struct term_options *options, struct error **err);
/* As of the reconciler. */
char *term_unready(const struct term *term);
char *term_stuck(const struct term *term);
const struct store *term_store(const struct term *term); /* the store/kube, for what its requests came to */
/* Stops it in good order; requests that are under way patience_ms later are broken off. With 0 all is broken off at once: then the
 * disks that were being fetched, and what is under way at sources, are for the next term to go on with. Its store stays. */
void term_stop(struct term *term, unsigned patience_ms);
void term_free(struct term *term); /* after term_stop; accepts NULL */
