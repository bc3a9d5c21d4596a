/* Scope-bound ownership: every owned pointer, descriptor and lock is declared with one of these and given away with move_ptr or move_fd. */
#pragma once

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn), unused)) /* a variable may be there for its cleanup alone */

/* Defines name(type **p), which calls fn on *p unless it is NULL: DEFINE_CLEANUP(FILE, file_close_p, fclose). */
#define DEFINE_CLEANUP(type, name, fn)    \
	static inline void name(type **p) \
	{                                 \
		if (*p)                   \
			(void)fn(*p);     \
	}

static inline void cleanup_free_p(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd_p(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void cleanup_unlock_p(pthread_mutex_t **lock)
{
	if (*lock)
		pthread_mutex_unlock(*lock);
}

DEFINE_CLEANUP(FILE, cleanup_file_p, fclose)

#define AUTO_FREE CLEANUP(cleanup_free_p)
#define AUTO_FD CLEANUP(cleanup_fd_p)
#define AUTO_FILE CLEANUP(cleanup_file_p)

/* Holds the lock until the end of the scope. */
#define LOCK_GUARD(lock) LOCK_GUARD_(lock, __COUNTER__)
#define LOCK_GUARD_(lock, n) LOCK_GUARD__(lock, n)
#define LOCK_GUARD__(lock, n) CLEANUP(cleanup_unlock_p) pthread_mutex_t *guard_##n __attribute__((unused)) = cleanup_lock(lock)

static inline pthread_mutex_t *cleanup_lock(pthread_mutex_t *lock)
{
	pthread_mutex_lock(lock);
	return lock;
}

/* Gives the pointer away: returns it and leaves NULL behind, so that the cleanup does nothing. */
#define move_ptr(p)                         \
	({                                  \
		__typeof__(p) moved_ = (p); \
		(p) = NULL;                 \
		moved_;                     \
	})

static inline int move_fd(int *fd)
{
	int moved = *fd;

	*fd = -1;
	return moved;
}
