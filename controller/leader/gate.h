/* A store that lets writes through only as long as it is open: whoever is no leader any more writes nothing, even if it does not know yet. */
#pragma once

#include "store/store.h"

/* Over inner, which is borrowed. open is asked before each write, must not block, and once it has said no, must not say yes again. Refused
 * writes are cancelled errors, reason NotLeader. Reads and watches pass always. */
struct store *gate_store_new(struct store *inner, bool (*open)(void *arg), void *arg, struct error **err);
