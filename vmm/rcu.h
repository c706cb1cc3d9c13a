/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rcu - read without a lock what is replaced as a whole (memory map, bus maps)
 *
 * A reader brackets its use of a published pointer with rcu_read_begin/end: two stores and a fence
 * on data of its own thread, so readers never wait and never share a cache line. A writer publishes
 * a new object with a release store and gives the old one to rcu_free(), which frees it once no
 * reader that began before can still hold it; or waits for them with rcu_synchronize().
 *
 * Sections nest, and may call device handlers: writers that are themselves inside a section (a
 * guest's config write that moves a BAR) use rcu_free and never wait.
 *
 * Threads: any; threads need not be registered.
 */
#ifndef VMM_RCU_H
#define VMM_RCU_H

#include <stdbool.h>

void rcu_read_begin(void);
void rcu_read_end(void);
bool rcu_is_reading(void); /* is the caller inside a section? */

/* Calls free_fn(object) after all sections that are open now have ended: at once, or in a later
 * call of this function or rcu_synchronize by any thread. Never blocks for a reader. */
void rcu_free(void *object, void (*free_fn)(void *object));

/* Returns when all sections that were open at the call have ended. Not from inside a section. */
void rcu_synchronize(void);

#define rcu_load(pointer)         __atomic_load_n(&(pointer), __ATOMIC_ACQUIRE)
#define rcu_publish(pointer, new) __atomic_store_n(&(pointer), (new), __ATOMIC_SEQ_CST)

#endif
