/* Machines that are about to stop: who waits for one is told when it is off, and need not ask. A thread a machine, blocked in a call
 * (wait.h). Thread-safe. */
#pragma once

#include "source/vmware/session.h"

struct vmware_watches;

/* Borrows the session, which must outlive it. NULL when memory is out. */
struct vmware_watches *vmware_watches_new(struct vmware_session *s);
/* Ends all, without telling anybody. Accepts NULL. */
void vmware_watches_free(struct vmware_watches *w);
/* Calls wake(arg, key) once, from a thread of its own, when the machine (vm-12) is not powered on any more, or cannot be watched any longer,
 * at the latest after within_ms. Success also when a watch of this key is on already. False: it cannot be watched now. */
bool vmware_watches_add(struct vmware_watches *w, const char *vm, unsigned within_ms, void (*wake)(void *arg, const char *key), void *arg,
			const char *key);
