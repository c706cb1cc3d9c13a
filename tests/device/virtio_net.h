/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio_net - what the tests of virtio/net share: a device whose backend's other end the test holds,
 * frames, and a driver that posts buffers, sends, receives and gives commands
 *
 * A violated expectation ends the test (g_assert).
 */
#ifndef TESTS_DEVICE_VIRTIO_NET_H
#define TESTS_DEVICE_VIRTIO_NET_H

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>

#include "backends/net/net.h"
#include "tests/device/virtio_driver.h"
#include "virtio/net.h"

#define NETTEST_BIT(n) (UINT64_C(1) << (n))
#define NETTEST_RINGS                                                                              \
    (NETTEST_BIT(VIRTIO_RING_F_INDIRECT_DESC) | NETTEST_BIT(VIRTIO_RING_F_EVENT_IDX))
#define NETTEST_CONTROL                                                                            \
    (NETTEST_BIT(VIRTIO_NET_F_CTRL_VQ) | NETTEST_BIT(VIRTIO_NET_F_CTRL_RX) |                       \
     NETTEST_BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | NETTEST_BIT(VIRTIO_NET_F_CTRL_VLAN) |               \
     NETTEST_BIT(VIRTIO_NET_F_CTRL_MAC_ADDR))
#define NETTEST_MERGE NETTEST_BIT(VIRTIO_NET_F_MRG_RXBUF)
#define NETTEST_SEND                                                                               \
    (NETTEST_BIT(VIRTIO_NET_F_CSUM) | NETTEST_BIT(VIRTIO_NET_F_HOST_TSO4) |                        \
     NETTEST_BIT(VIRTIO_NET_F_HOST_TSO6) | NETTEST_BIT(VIRTIO_NET_F_HOST_ECN))

enum { NETTEST_RX, NETTEST_TX, NETTEST_CTRL }; /* queues of a device with one pair */

extern const uint8_t nettest_mac[6]; /* the device's */

struct nettest {
    struct harness *h;
    struct virtio_device *vdev;
    struct virtio_pci *vpci;
    struct virtio_driver *driver;
    int peer, type;                  /* the backend's other end, or -1; SOCK_DGRAM or SOCK_STREAM */
    uint64_t frame, command;         /* guest memory to send from, and for commands */
    GPtrArray *buffers;              /* receive buffers ever posted; each a struct driver_buffer */
    struct virtio_net_hdr_v1 header; /* of the frame received last */
};

/* @type: SOCK_DGRAM or SOCK_STREAM, with the other end in ->peer; 0: @options say it all. */
void nettest_set_up(struct nettest *t, int type, const char *options);
void nettest_tear_down(struct nettest *t);
struct net *nettest_backend(struct nettest *t);

/* A frame of @length bytes from somebody to @to; what follows the header depends on @seed. */
void nettest_fill(uint8_t *frame, size_t length, const uint8_t *to, unsigned seed);

/* ---- the host's end ---- */

void nettest_peer_send(struct nettest *t, const uint8_t *frame, size_t length);
/* The next frame that the device sent: its bytes; turns the loop meanwhile. -1: none came. */
ssize_t nettest_peer_receive(struct nettest *t, uint8_t *frame, size_t size, int timeout_ms);

/* ---- the driver ---- */

/* Posts @count receive buffers of @size bytes in @pieces descriptors each; returns how many fitted. */
unsigned nettest_post(struct nettest *t, unsigned count, uint32_t size, unsigned pieces);
/* The next frame received into @frame; its length, or -1 when none comes in @timeout_ms. */
ssize_t nettest_receive(struct nettest *t, uint8_t *frame, size_t size, int timeout_ms);
/* Expects exactly this frame next. */
void nettest_expect(struct nettest *t, const uint8_t *frame, size_t length);
/* Expects that nothing comes for a while. */
void nettest_expect_nothing(struct nettest *t);
/* Sends a frame behind @header (NULL: zeroes), cut into @pieces, and waits until it is used. */
void nettest_send(struct nettest *t, const struct virtio_net_hdr_v1 *header, const uint8_t *frame,
                  size_t length, unsigned pieces);
/* Sends a frame and expects it at the other end. */
void nettest_echo(struct nettest *t, size_t length, unsigned pieces);
/* One command on the control queue; VIRTIO_NET_OK or _ERR. */
uint8_t nettest_command(struct nettest *t, unsigned class, unsigned command, const void *data,
                        size_t size);

#define NETTEST_CONFIG(T, MEMBER)                                                                  \
    virtio_driver_config((T)->driver, offsetof(struct virtio_net_config, MEMBER),                  \
                         sizeof(((struct virtio_net_config *)0)->MEMBER))

#endif
