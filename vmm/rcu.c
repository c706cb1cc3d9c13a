/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rcu - epochs: see rcu.h for what it is for
 *
 * A global epoch counts up with every retirement. A reader notes the epoch it saw at its outermost
 * begin in a record of its own thread (0: not reading). An object retired at epoch E may be freed
 * once every record is 0 or at least E: a reader that noted E or more loaded its pointers after the
 * replacement was published. A reader that is between loading the epoch and noting it is covered
 * by the fence after the note: its pointer loads come after the writer's scan, so they find the new
 * object.
 *
 * Records of ended threads are used again; their number is that of the most threads at one time.
 */
#include "vmm/rcu.h"

#include <glib.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

struct reader {
    uint64_t epoch; /* atomic; 0: not in a section */
    unsigned depth; /* the thread's own */
    bool used;      /* atomic */
    struct reader *next;
};

struct retired {
    void *object;
    void (*free_fn)(void *object);
    uint64_t epoch;
    struct retired *next;
};

static struct reader *readers; /* atomic head; records are never freed */
static uint64_t epoch_now = 1; /* atomic */
static pthread_mutex_t retired_lock = PTHREAD_MUTEX_INITIALIZER;
static struct retired *retired_list; /* newest first, so epochs descend */
static pthread_key_t reader_key;
static pthread_once_t reader_once = PTHREAD_ONCE_INIT;
static __thread struct reader *self;

static void release_reader(void *data)
{
    struct reader *reader = data;

    /* Other thread-exit destructors may still read: they get a record again. */
    self = NULL;
    __atomic_store_n(&reader->epoch, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&reader->used, false, __ATOMIC_RELEASE);
}

static void make_key(void)
{
    pthread_key_create(&reader_key, release_reader);
}

static struct reader *claim_reader(void)
{
    struct reader *reader;

    pthread_once(&reader_once, make_key);
    for (reader = __atomic_load_n(&readers, __ATOMIC_ACQUIRE); reader; reader = reader->next) {
        bool unused = false;
        if (__atomic_compare_exchange_n(&reader->used, &unused, true, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            break;
    }
    if (!reader) {
        reader = g_new0(struct reader, 1);
        reader->used = true;
        reader->next = __atomic_load_n(&readers, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(&readers, &reader->next, reader, true, __ATOMIC_ACQ_REL,
                                            __ATOMIC_RELAXED))
            ;
    }
    reader->depth = 0;
    pthread_setspecific(reader_key, reader);
    self = reader;
    return reader;
}

void rcu_read_begin(void)
{
    struct reader *reader = self;

    if (G_UNLIKELY(!reader))
        reader = claim_reader();
    if (reader->depth++ > 0)
        return;
    __atomic_store_n(&reader->epoch, __atomic_load_n(&epoch_now, __ATOMIC_ACQUIRE),
                     __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void rcu_read_end(void)
{
    struct reader *reader = self;

    if (--reader->depth == 0)
        __atomic_store_n(&reader->epoch, 0, __ATOMIC_RELEASE);
}

bool rcu_is_reading(void)
{
    return self && self->depth > 0;
}

/* The oldest epoch that a reader is in, or UINT64_MAX. */
static uint64_t oldest_reader(void)
{
    uint64_t oldest = UINT64_MAX;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (struct reader *r = __atomic_load_n(&readers, __ATOMIC_ACQUIRE); r; r = r->next) {
        uint64_t epoch = __atomic_load_n(&r->epoch, __ATOMIC_ACQUIRE);
        if (epoch && epoch < oldest)
            oldest = epoch;
    }
    return oldest;
}

/* Frees what no reader can hold any more. Outside of the lock: free functions may retire more. */
static void reclaim(void)
{
    struct retired *ready;
    uint64_t oldest;

    pthread_mutex_lock(&retired_lock);
    oldest = oldest_reader();
    struct retired **link = &retired_list;
    while (*link && (*link)->epoch > oldest)
        link = &(*link)->next;
    ready = *link;
    *link = NULL;
    pthread_mutex_unlock(&retired_lock);

    while (ready) {
        struct retired *next = ready->next;
        ready->free_fn(ready->object);
        g_free(ready);
        ready = next;
    }
}

void rcu_free(void *object, void (*free_fn)(void *object))
{
    struct retired *retired;

    if (!object)
        return;
    retired = g_new0(struct retired, 1);
    retired->object = object;
    retired->free_fn = free_fn;
    pthread_mutex_lock(&retired_lock);
    retired->epoch = __atomic_add_fetch(&epoch_now, 1, __ATOMIC_SEQ_CST);
    retired->next = retired_list;
    retired_list = retired;
    pthread_mutex_unlock(&retired_lock);
    reclaim();
}

void rcu_synchronize(void)
{
    uint64_t target = __atomic_add_fetch(&epoch_now, 1, __ATOMIC_SEQ_CST);
    unsigned turns = 0;

    g_assert(!rcu_is_reading());
    /* Sections are short (a lookup, a register access); changes that wait are rare. */
    while (oldest_reader() < target) {
        if (turns++ < 100)
            g_thread_yield();
        else
            g_usleep(MIN(turns, 1000));
    }
    reclaim();
}
