/* SPDX-License-Identifier: GPL-2.0-or-later */
/* announce - tells the networks where a guest is now (announce.h) */
#include "lodge/announce.h"

#define ROUNDS   5u
#define FIRST_NS INT64_C(50000000)
#define MORE_NS  INT64_C(100000000) /* that each pause is longer than the one before */

struct announce {
    struct machine *machine;
    struct loop_timer *timer;
    unsigned rounds; /* done */
};

/* A device that is being stopped, or was, sends nothing. */
static bool may_send(const struct machine_device *entry)
{
    enum device_state state = entry->device ? device_state(entry->device) : DEVICE_STOP;

    return entry->announce && (state == DEVICE_RUNNING || state == DEVICE_PRE_COPY);
}

static void next_round(void *opaque)
{
    struct announce *announce = opaque;
    struct machine *machine = announce->machine;

    for (guint i = 0; i < machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(machine->entries, i);

        if (may_send(entry))
            entry->announce(entry);
    }
    announce->rounds++;
    if (announce->rounds < ROUNDS)
        loop_timer_set(announce->timer, loop_now_ns() + FIRST_NS + announce->rounds * MORE_NS);
}

void machine_announce(struct machine *machine)
{
    struct announce *announce = g_new0(struct announce, 1);

    announce->machine = machine;
    announce->timer = loop_timer_create(loop_main(), next_round, announce);
    machine->announce = announce;
    loop_timer_set(announce->timer, loop_now_ns() + FIRST_NS);
}

void announce_destroy(struct announce *announce)
{
    if (!announce)
        return;
    loop_timer_destroy(announce->timer);
    g_free(announce);
}
