/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmxnet3 - what the tests of devices/vmxnet3 share: the device on a backend that the test holds in its
 * hands, and the driver's side
 *
 * The backend keeps every frame that the device sends, header first, and gives it those that the test
 * queues. The driver lays out shared memory and rings, sends, refills and looks at completions the
 * way the stock driver does, and ends the test (g_assert) where that one would stop its kernel.
 */
#ifndef TESTS_DEVICE_VMXNET3_H
#define TESTS_DEVICE_VMXNET3_H

#include "backends/net/net.h"
#include "devices/vmxnet3/interface.h"
#include "devices/vmxnet3/vmxnet3.h"
#include "tests/device/harness.h"

#define VMXTEST_RAM    (UINT64_C(512) << 20)
#define VMXTEST_QUEUES 8u
#define VMXTEST_RING   64u
#define VMXTEST_HEAD   1536u /* bytes of a head buffer; of a body: */
#define VMXTEST_BODY   4096u

extern const uint8_t vmxtest_mac[6]; /* the device's own */

/* A frame behind its virtio header. */
struct vmxtest_frame {
    struct virtio_net_hdr_v1 header;
    unsigned queue; /* the backend's */
    size_t length;
    uint8_t data[];
};

struct vmxtest_backend {
    struct net net;
    GQueue sent, incoming; /* of struct vmxtest_frame; incoming: those of queue 0 */
    bool full;             /* sends give -EAGAIN */
    bool active[NET_MAX_QUEUES], receiving[NET_MAX_QUEUES], used[NET_MAX_QUEUES];
};

/* One direction's ring as the driver keeps it. */
struct vmxtest_ring {
    uint64_t base;
    uint32_t size, next;
    bool generation;
};

struct vmxtest_tx {
    struct vmxtest_ring ring, completions;
    uint64_t buffers; /* 64 KiB a descriptor */
};

struct vmxtest_rx {
    struct vmxtest_ring ring[2], completions;
    uint64_t data;        /* data ring */
    uint64_t buffers[2];  /* a page a descriptor */
    unsigned heads_every; /* in ring 0: a head, then bodies */
};

struct vmxtest {
    struct harness *h;
    struct vmxnet3 *v;
    struct vmxtest_backend backend;
    unsigned slot;
    uint64_t shared, queues, multicasts, rss;
    /* What activation tells; set up by vmxtest_set_up, changed by tests before vmxtest_activate. */
    struct vmxnet3_shared config;
    struct vmxnet3_rss rss_config;
    unsigned tx_count, rx_count;
    uint16_t data_entry;
    struct vmxtest_tx tx[VMXTEST_QUEUES];
    struct vmxtest_rx rx[VMXTEST_QUEUES];
};

/* A frame as received, with what its completions said. */
struct vmxtest_received {
    uint8_t data[NET_MAX_FRAME];
    size_t length;
    unsigned queue, buffers;
    bool data_ring;
    uint32_t first[4], last[4]; /* words of the first and last completion */
};

/* The device attached, MSI-X on, nothing activated. @backend_queues: of the backend. */
void vmxtest_set_up(struct vmxtest *t, unsigned backend_queues, bool host_offloads);
/* The same on @loop (NULL: the test's own) and a backend that @options say; ->backend is not used. */
void vmxtest_set_up_on(struct vmxtest *t, struct loop *loop, const char *options);
void vmxtest_tear_down(struct vmxtest *t);

uint32_t vmxtest_read(struct vmxtest *t, unsigned offset); /* of BAR 1 */
void vmxtest_write(struct vmxtest *t, unsigned offset, uint32_t value);
uint32_t vmxtest_command(struct vmxtest *t, uint32_t command); /* and its result */

/* Lays out rings and shared memory as t->config says, without activating. */
void vmxtest_lay_out(struct vmxtest *t);
/* That, ACTIVATE (which must succeed), vectors unmasked, filter: unicast and broadcast. */
void vmxtest_activate(struct vmxtest *t);
/* Writes t->config to shared memory again. */
void vmxtest_share(struct vmxtest *t);
void vmxtest_unmask(struct vmxtest *t, unsigned vector);

/* ---- sending ---- */

struct vmxtest_offload {
    unsigned mode, headers, mss; /* word 3, word 3, word 2 */
    bool tag;
    uint16_t tci;
};
/* Puts a packet of @pieces descriptors into the ring; the doorbell is not rung. */
void vmxtest_put(struct vmxtest *t, unsigned queue, const uint8_t *frame, size_t length,
                 unsigned pieces, const struct vmxtest_offload *offload);
void vmxtest_ring_doorbell(struct vmxtest *t, unsigned queue);
/* Takes a completion, which must be of descriptor @last; false: there is none. */
bool vmxtest_reap(struct vmxtest *t, unsigned queue);
/* Puts a packet, rings, waits for its completion; what the backend got (the caller frees), or NULL. */
struct vmxtest_frame *vmxtest_send(struct vmxtest *t, unsigned queue, const uint8_t *frame,
                                   size_t length, unsigned pieces,
                                   const struct vmxtest_offload *offload);

/* ---- receiving ---- */

/* Queues a frame at the backend and says so. @header NULL: zeroes. */
void vmxtest_host_sends(struct vmxtest *t, const struct virtio_net_hdr_v1 *header,
                        const uint8_t *frame, size_t length);
/* The next frame on any queue; refills, and unmasks the queue's vector. False: none in time. */
bool vmxtest_receive(struct vmxtest *t, struct vmxtest_received *received, int timeout_ms);
/* The same by a driver that refills and tells the device nothing of it. */
bool vmxtest_poll(struct vmxtest *t, struct vmxtest_received *received, int timeout_ms);
/* Expects this frame next, on queue 0 unless @received is wanted. */
void vmxtest_expect(struct vmxtest *t, const uint8_t *frame, size_t length);
void vmxtest_expect_nothing(struct vmxtest *t);

/* ---- whole ways ---- */

/* Sends a frame, which the backend must get as it is. */
void vmxtest_echo(struct vmxtest *t, unsigned queue, size_t length, unsigned pieces);
/* A frame from the host, which the driver must get as it is. */
void vmxtest_pass(struct vmxtest *t, size_t length, unsigned seed);
/* The same of one to @to with a tag of @vlan (0: none), which must arrive or not. */
void vmxtest_offer(struct vmxtest *t, const uint8_t *to, unsigned vlan, bool expected);

/* ---- frames ---- */

/* TCP over IPv4 or IPv6 from @port to the device, @payload bytes; checksums zero. Length. */
size_t vmxtest_tcp(uint8_t *frame, bool ipv6, uint16_t port, size_t payload);
size_t vmxtest_tcp_headers(bool ipv6); /* bytes before the payload */
void vmxtest_fill(uint8_t *frame, size_t length, const uint8_t *to, unsigned seed);
/* Makes the IPv4 header's checksum right. */
void vmxtest_fix_ip(uint8_t *frame);

#endif
