/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * irq - interrupts: an MSI message or a line of the interrupt controller
 *
 * MSI: each vector has a number of its own (GSI) with a route to its message, and an eventfd. It is
 * attached to the controller while it is unmasked and has a message; else signals stay in the
 * eventfd, which is the pending bit, and attaching delivers them.
 *
 * Lines: a level line asserts by a signal and is lowered by the guest's EOI, which signals the
 * resample eventfd: if the device still drives the line, it asserts again. Several devices may share
 * a pin; KVM ORs them. An edge line signals at each rising level.
 *
 * The lifecycle gate latches: whoever fires sets `latched` and looks at the state again, so that a
 * release that ran in between is not missed.
 */
#include "vmm/irq.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/device.h"
#include "vmm/fd.h"
#include "vmm/log.h"
#include "vmm/loop.h"
#include "vmm/trace.h"

TRACE_EVENT(irq_msi_message, "%s gsi=%u address=%#" G_GINT64_MODIFIER "x data=%#x",
            (const char *device, unsigned gsi, guint64 address, unsigned data), device, gsi,
            address, data)
TRACE_EVENT(irq_msi_mask, "%s gsi=%u masked=%d", (const char *device, unsigned gsi, int masked),
            device, gsi, masked)
TRACE_EVENT(irq_msi_fire, "%s gsi=%u", (const char *device, unsigned gsi), device, gsi)
TRACE_EVENT(irq_line_set, "%s pin=%u level=%d", (const char *device, unsigned pin, int level),
            device, pin, level)
TRACE_EVENT(irq_latched, "%s gsi=%u", (const char *device, unsigned gsi), device, gsi)

/* As many routes as KVM takes. */
#define MAX_GSIS 4096u

struct interrupts {
    const struct interrupts_ops *ops;
    void *opaque;
    pthread_mutex_t lock; /* numbers, messages, masks, attachments */
    uint64_t used[MAX_GSIS / 64];
};

struct interrupts *interrupts_create(const struct interrupts_ops *ops, void *opaque)
{
    struct interrupts *interrupts = g_new0(struct interrupts, 1);

    interrupts->ops = ops;
    interrupts->opaque = opaque;
    pthread_mutex_init(&interrupts->lock, NULL);
    interrupts->used[0] = (UINT64_C(1) << INTERRUPTS_PINS) - 1;
    return interrupts;
}

void interrupts_destroy(struct interrupts *interrupts)
{
    if (!interrupts)
        return;
    pthread_mutex_destroy(&interrupts->lock);
    g_free(interrupts);
}

static int claim_gsi(struct interrupts *interrupts)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(interrupts->used); i++) {
        if (interrupts->used[i] != UINT64_MAX) {
            unsigned bit = (unsigned)__builtin_ctzll(~interrupts->used[i]);
            interrupts->used[i] |= UINT64_C(1) << bit;
            return (int)(i * 64 + bit);
        }
    }
    return -ENOSPC;
}

static void release_gsi(struct interrupts *interrupts, uint32_t gsi)
{
    interrupts->used[gsi / 64] &= ~(UINT64_C(1) << (gsi % 64));
}

static const char *owner(const struct device *device)
{
    return device ? device->name : "-";
}

static void signal_fd(int fd)
{
    const uint64_t one = 1;

    /* EAGAIN: the count is at its maximum, so it is signalled already. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void drain_fd(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

/*
 * May @device interrupt? If the state says later, sets *latched; a state that changed meanwhile
 * either finds the latch (irq_release_latched) or is found here.
 */
static bool gate(struct device *device, bool *latched, uint32_t gsi)
{
    enum device_verdict verdict;

    if (!device)
        return true;
    verdict = device_check(device, DEVICE_OP_INTERRUPT);
    if (verdict == DEVICE_ALLOW)
        return true;
    if (verdict == DEVICE_REFUSE)
        return false;
    __atomic_store_n(latched, true, __ATOMIC_SEQ_CST);
    trace_irq_latched(device->name, gsi);
    return device_rule(device_state(device), DEVICE_OP_INTERRUPT) == DEVICE_ALLOW &&
           __atomic_exchange_n(latched, false, __ATOMIC_SEQ_CST);
}

/* ---- MSI ---- */

int irq_msi_init(struct irq_msi *msi, struct interrupts *interrupts, struct device *device)
{
    int gsi;

    memset(msi, 0, sizeof(*msi));
    msi->interrupts = interrupts;
    msi->device = device;
    msi->masked = true;
    msi->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (msi->fd < 0)
        return -errno;
    pthread_mutex_lock(&interrupts->lock);
    gsi = claim_gsi(interrupts);
    pthread_mutex_unlock(&interrupts->lock);
    if (gsi < 0) {
        close(msi->fd);
        msi->fd = -1;
        msi->interrupts = NULL;
        return gsi;
    }
    msi->gsi = (uint32_t)gsi;
    if (device) {
        msi->next = device->msis;
        device->msis = msi;
    }
    return 0;
}

static int detach(struct irq_msi *msi)
{
    struct interrupts *interrupts = msi->interrupts;
    int ret = 0;

    if (msi->attached) {
        ret = interrupts->ops->detach(interrupts->opaque, msi->gsi, msi->fd);
        msi->attached = false;
    }
    return ret;
}

/* Brings the controller in line with message and mask. The lock is held. */
static int update(struct irq_msi *msi)
{
    struct interrupts *interrupts = msi->interrupts;
    int ret;

    if (msi->masked || !msi->routed)
        return detach(msi);
    if (!msi->set || msi->set_address != msi->address || msi->set_data != msi->data) {
        ret = interrupts->ops->route_msi(interrupts->opaque, msi->gsi, msi->address, msi->data);
        if (ret < 0)
            return ret;
        msi->set = true;
        msi->set_address = msi->address;
        msi->set_data = msi->data;
    }
    if (!msi->attached) {
        ret = interrupts->ops->attach(interrupts->opaque, msi->gsi, msi->fd, -1);
        if (ret < 0)
            return ret;
        msi->attached = true;
    }
    return 0;
}

static int update_logged(struct irq_msi *msi)
{
    int ret = update(msi);

    if (ret < 0)
        log_warn("irq", "%s: interrupt %u can't be set up: %s", owner(msi->device), msi->gsi,
                 g_strerror(-ret));
    return ret;
}

void irq_msi_finish(struct irq_msi *msi)
{
    struct interrupts *interrupts = msi->interrupts;

    if (!interrupts)
        return;
    pthread_mutex_lock(&interrupts->lock);
    detach(msi);
    release_gsi(interrupts, msi->gsi);
    pthread_mutex_unlock(&interrupts->lock);
    if (msi->device) {
        struct irq_msi **link = &msi->device->msis;
        while (*link && *link != msi)
            link = &(*link)->next;
        if (*link)
            *link = msi->next;
    }
    close(msi->fd);
    msi->fd = -1;
    msi->interrupts = NULL;
}

int irq_msi_set_message(struct irq_msi *msi, uint64_t address, uint32_t data)
{
    int ret;

    trace_irq_msi_message(owner(msi->device), msi->gsi, address, data);
    pthread_mutex_lock(&msi->interrupts->lock);
    msi->address = address;
    msi->data = data;
    msi->routed = true;
    ret = update_logged(msi);
    pthread_mutex_unlock(&msi->interrupts->lock);
    return ret;
}

int irq_msi_set_masked(struct irq_msi *msi, bool masked)
{
    int ret;

    trace_irq_msi_mask(owner(msi->device), msi->gsi, masked);
    pthread_mutex_lock(&msi->interrupts->lock);
    msi->masked = masked;
    ret = update_logged(msi);
    pthread_mutex_unlock(&msi->interrupts->lock);
    return ret;
}

bool irq_msi_pending(const struct irq_msi *msi)
{
    struct pollfd pfd = {.fd = msi->fd, .events = POLLIN};

    if (__atomic_load_n(&msi->latched, __ATOMIC_ACQUIRE))
        return true;
    /* While it is attached the controller takes every signal. */
    return !msi->attached && poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN);
}

void irq_msi_clear_pending(struct irq_msi *msi)
{
    __atomic_store_n(&msi->latched, false, __ATOMIC_RELEASE);
    pthread_mutex_lock(&msi->interrupts->lock);
    if (!msi->attached)
        drain_fd(msi->fd);
    pthread_mutex_unlock(&msi->interrupts->lock);
}

void irq_msi_fire(struct irq_msi *msi)
{
    if (!gate(msi->device, &msi->latched, msi->gsi))
        return;
    trace_irq_msi_fire(owner(msi->device), msi->gsi);
    __atomic_fetch_add(&msi->fired, 1, __ATOMIC_RELAXED);
    signal_fd(msi->fd);
}

/* ---- lines ---- */

/* Signals the line, or latches that. */
static void assert_line(struct irq_line *line)
{
    if (!gate(line->device, &line->latched, line->pin))
        return;
    __atomic_fetch_add(&line->fired, 1, __ATOMIC_RELAXED);
    signal_fd(line->fd);
}

/* The guest's EOI lowered the pin: the device may still want it up. */
static void on_resample(void *opaque)
{
    struct irq_line *line = opaque;

    if (__atomic_load_n(&line->level, __ATOMIC_SEQ_CST))
        assert_line(line);
}

int irq_line_init(struct irq_line *line, struct interrupts *interrupts, struct device *device,
                  uint32_t pin, bool level_triggered, struct loop *loop)
{
    int ret;

    memset(line, 0, sizeof(*line));
    line->fd = line->resample_fd = -1;
    if (pin >= INTERRUPTS_PINS)
        return -EINVAL;
    line->device = device;
    line->pin = pin;
    line->level_triggered = level_triggered;
    line->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (line->fd < 0)
        return -errno;
    if (level_triggered) {
        line->resample_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (line->resample_fd < 0) {
            ret = -errno;
            goto fail;
        }
    }
    pthread_mutex_lock(&interrupts->lock);
    ret = interrupts->ops->attach(interrupts->opaque, pin, line->fd, line->resample_fd);
    pthread_mutex_unlock(&interrupts->lock);
    if (ret < 0)
        goto fail;
    line->interrupts = interrupts;
    if (level_triggered)
        line->resample = loop_eventfd_create(loop, line->resample_fd, on_resample, line);
    if (device) {
        line->next = device->lines;
        device->lines = line;
    }
    return 0;

fail:
    close(line->fd);
    close_fd(line->resample_fd);
    line->fd = line->resample_fd = -1;
    return ret;
}

void irq_line_finish(struct irq_line *line)
{
    struct interrupts *interrupts = line->interrupts;

    if (!interrupts)
        return;
    loop_fd_destroy(line->resample);
    line->resample = NULL;
    pthread_mutex_lock(&interrupts->lock);
    interrupts->ops->detach(interrupts->opaque, line->pin, line->fd);
    pthread_mutex_unlock(&interrupts->lock);
    if (line->device) {
        struct irq_line **link = &line->device->lines;
        while (*link && *link != line)
            link = &(*link)->next;
        if (*link)
            *link = line->next;
    }
    close(line->fd);
    close_fd(line->resample_fd);
    line->fd = line->resample_fd = -1;
    line->interrupts = NULL;
}

void irq_line_set(struct irq_line *line, bool level)
{
    bool before = __atomic_exchange_n(&line->level, level, __ATOMIC_SEQ_CST);

    if (before == level)
        return;
    trace_irq_line_set(owner(line->device), line->pin, level);
    if (level)
        assert_line(line);
}

void irq_release_latched(struct device *device)
{
    for (struct irq_msi *msi = device->msis; msi; msi = msi->next) {
        if (__atomic_exchange_n(&msi->latched, false, __ATOMIC_SEQ_CST))
            irq_msi_fire(msi);
    }
    for (struct irq_line *line = device->lines; line; line = line->next) {
        bool latched = __atomic_exchange_n(&line->latched, false, __ATOMIC_SEQ_CST);
        /* An edge happened once; a level counts as it is now (asserting twice is one assertion). */
        if (line->level_triggered ? __atomic_load_n(&line->level, __ATOMIC_SEQ_CST) : latched)
            assert_line(line);
    }
}
