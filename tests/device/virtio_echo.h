/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_echo - a device type for tests of the virtio core: what is written to it comes back
 *
 * Each chain's readable bytes are copied to its writable part. With @hold, chains stay with the device
 * until echo_release: to have something in flight.
 */
#ifndef TESTS_DEVICE_VIRTIO_ECHO_H
#define TESTS_DEVICE_VIRTIO_ECHO_H

#include "tests/device/virtio_driver.h"
#include "virtio/device.h"

#define ECHO_QUEUES      3u
#define ECHO_QUEUE_SIZE  64u
#define ECHO_CONFIG_SIZE 16u /* bytes 8-11 can be written by the driver */
#define ECHO_FEATURE     5u  /* a bit of the device type */

struct echo_chain {
    struct virtq_element *element;
    unsigned queue;
};

struct echo {
    struct virtio_device vdev;
    bool hold;                     /* atomic */
    bool refuse;                   /* start fails */
    GQueue held;                   /* struct echo_chain */
    unsigned held_in[ECHO_QUEUES]; /* atomic */
    bool stopping;                 /* a stop waits for what is held */
    bool queue_stopping[ECHO_QUEUES];
    unsigned starts, stops, served; /* atomic */
    uint32_t writes[64];            /* values that config_written saw */
    unsigned write_count;
    uint32_t counter; /* saved: chains served */
};

/* @name unique in the harness. Frees itself with the transport. */
struct echo *echo_create(struct loop *loop, const struct virtio_ring_options *ring);
/* Completes what is held, on the loop. @newest_first: in the reverse of the order of popping. */
void echo_release(struct echo *echo, bool newest_first);

/* A harness with one echo device and its driver. */
struct echo_fixture {
    struct harness *h;
    struct echo *echo;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    uint64_t data; /* guest memory for buffers, 64 KiB */
};
void echo_setup(struct echo_fixture *f, struct loop *loop, bool msix);
void echo_teardown(struct echo_fixture *f);
/* Sends @seed through @queue and checks that it comes back. */
void echo_check(struct echo_fixture *f, unsigned queue, uint64_t seed);
/* Adds such a chain and rings, without waiting; @slot tells chains apart (below 512). */
void echo_submit(struct echo_fixture *f, unsigned queue, unsigned slot, uint64_t seed);
/* Waits for one; returns its slot, or -1. */
int echo_wait(struct echo_fixture *f, unsigned queue);

#endif
