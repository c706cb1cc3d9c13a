/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fake_interrupts - an interrupt controller for tests: see the header. */
#include "tests/support/fake_interrupts.h"

#include <errno.h>
#include <unistd.h>

struct message {
    uint64_t address;
    uint32_t data;
};

struct attachment {
    uint32_t gsi;
    int fd, resample_fd;
};

static int fake_route_msi(void *opaque, uint32_t gsi, uint64_t address, uint32_t data)
{
    struct fake_interrupts *fake = opaque;
    struct message *message;

    fake->route_calls++;
    if (fake->fail)
        return fake->fail;
    g_assert_cmpuint(gsi, >=, INTERRUPTS_PINS);
    message = g_new(struct message, 1);
    *message = (struct message){address, data};
    g_hash_table_insert(fake->routes, GUINT_TO_POINTER(gsi), message);
    return 0;
}

static int fake_attach(void *opaque, uint32_t gsi, int fd, int resample_fd)
{
    struct fake_interrupts *fake = opaque;
    struct attachment *attachment;

    fake->attach_calls++;
    if (fake->fail)
        return fake->fail;
    for (unsigned i = 0; i < fake->attachments->len; i++) {
        attachment = g_ptr_array_index(fake->attachments, i);
        if (attachment->fd == fd)
            return -EBUSY; /* KVM: one interrupt an eventfd */
    }
    if (gsi >= INTERRUPTS_PINS && !g_hash_table_contains(fake->routes, GUINT_TO_POINTER(gsi)))
        return -EINVAL;
    attachment = g_new(struct attachment, 1);
    *attachment = (struct attachment){gsi, fd, resample_fd};
    g_ptr_array_add(fake->attachments, attachment);
    return 0;
}

static int fake_detach(void *opaque, uint32_t gsi, int fd)
{
    struct fake_interrupts *fake = opaque;

    fake->detach_calls++;
    for (unsigned i = 0; i < fake->attachments->len; i++) {
        struct attachment *attachment = g_ptr_array_index(fake->attachments, i);
        if (attachment->gsi == gsi && attachment->fd == fd) {
            g_ptr_array_remove_index(fake->attachments, i);
            return 0;
        }
    }
    return -EINVAL;
}

static const struct interrupts_ops fake_ops = {fake_route_msi, fake_attach, fake_detach};

struct fake_interrupts *fake_interrupts_create(void)
{
    struct fake_interrupts *fake = g_new0(struct fake_interrupts, 1);

    fake->routes = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    fake->attachments = g_ptr_array_new_with_free_func(g_free);
    fake->interrupts = interrupts_create(&fake_ops, fake);
    return fake;
}

void fake_interrupts_destroy(struct fake_interrupts *fake)
{
    if (!fake)
        return;
    g_assert_cmpuint(fake->attachments->len, ==, 0); /* who attached did not detach */
    interrupts_destroy(fake->interrupts);
    g_hash_table_destroy(fake->routes);
    g_ptr_array_free(fake->attachments, TRUE);
    g_free(fake);
}

unsigned fake_interrupts_take(struct fake_interrupts *fake, uint32_t gsi)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < fake->attachments->len; i++) {
        struct attachment *attachment = g_ptr_array_index(fake->attachments, i);
        uint64_t count;
        if (attachment->gsi != gsi || read(attachment->fd, &count, sizeof(count)) < 0)
            continue;
        if (attachment->resample_fd >= 0) {
            if (fake->pin_level[gsi])
                continue;
            fake->pin_level[gsi] = true;
        }
        taken++;
    }
    return taken;
}

bool fake_interrupts_attached(const struct fake_interrupts *fake, uint32_t gsi)
{
    for (unsigned i = 0; i < fake->attachments->len; i++) {
        const struct attachment *attachment = g_ptr_array_index(fake->attachments, i);
        if (attachment->gsi == gsi)
            return true;
    }
    return false;
}

bool fake_interrupts_message(const struct fake_interrupts *fake, uint32_t gsi, uint64_t *address,
                             uint32_t *data)
{
    const struct message *message = g_hash_table_lookup(fake->routes, GUINT_TO_POINTER(gsi));

    if (!message)
        return false;
    *address = message->address;
    *data = message->data;
    return true;
}

void fake_interrupts_eoi(struct fake_interrupts *fake, uint32_t pin)
{
    const uint64_t one = 1;

    g_assert_cmpuint(pin, <, INTERRUPTS_PINS);
    g_assert_true(fake->pin_level[pin]);
    fake->pin_level[pin] = false;
    for (unsigned i = 0; i < fake->attachments->len; i++) {
        const struct attachment *attachment = g_ptr_array_index(fake->attachments, i);
        if (attachment->gsi == pin && attachment->resample_fd >= 0)
            g_assert_cmpint(write(attachment->resample_fd, &one, sizeof(one)), ==, sizeof(one));
    }
}
