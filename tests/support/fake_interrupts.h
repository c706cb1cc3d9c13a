/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake_interrupts - an interrupt controller for tests, in place of KVM's
 *
 * It records routes and attachments, takes signals from attached eventfds when asked, and plays the
 * guest's EOI. As KVM's does: signals that come before it looks are one interrupt, a signal that
 * waits in an eventfd when it is attached is delivered, a level pin stays up until its EOI.
 *
 * Threads: one, but firing into it from any.
 */
#ifndef TESTS_SUPPORT_FAKE_INTERRUPTS_H
#define TESTS_SUPPORT_FAKE_INTERRUPTS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/irq.h"

struct fake_interrupts {
    struct interrupts *interrupts; /* what is tested plugs in here */
    GHashTable *routes;            /* gsi -> message */
    GPtrArray *attachments;
    bool pin_level[INTERRUPTS_PINS];
    unsigned route_calls, attach_calls, detach_calls;
    int fail; /* -errno for all calls while it is not 0 */
};

struct fake_interrupts *fake_interrupts_create(void);
void fake_interrupts_destroy(struct fake_interrupts *fake);

/* How many interrupts came on @gsi since the last call. A level pin that is up already gives none. */
unsigned fake_interrupts_take(struct fake_interrupts *fake, uint32_t gsi);
bool fake_interrupts_attached(const struct fake_interrupts *fake, uint32_t gsi);
/* The message of @gsi; false when it has none. */
bool fake_interrupts_message(const struct fake_interrupts *fake, uint32_t gsi, uint64_t *address,
                             uint32_t *data);
/* The guest ends the interrupt of a level pin: it goes down and all its resample eventfds are
 * signalled (whoever watches them needs a turn of its loop). */
void fake_interrupts_eoi(struct fake_interrupts *fake, uint32_t pin);

#endif
