/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * interface - what a vmxnet3 driver and the device have agreed upon: registers, commands, shared memory
 *
 * Revision 3. Everything is little-endian, and so is the host. The driver writes the shared structures
 * and activates the device; the device reads them then, and again a part at a time when a command
 * says so. Rings are arrays of 16-byte descriptors with a generation bit: whoever produces an entry
 * writes the bit last, its value changes with every turn round the ring, and begins with 1.
 */
#ifndef DEVICES_VMXNET3_INTERFACE_H
#define DEVICES_VMXNET3_INTERFACE_H

#include <stdint.h>

#define VMXNET3_VENDOR_ID 0x15ad
#define VMXNET3_DEVICE_ID 0x07b0

/* BAR 0: interrupt masks and producer indices, 8 bytes apart for every vector or queue. */
#define VMXNET3_IMR     0x000u
#define VMXNET3_TXPROD  0x600u
#define VMXNET3_RXPROD  0x800u
#define VMXNET3_RXPROD2 0xa00u

/* BAR 1. */
#define VMXNET3_VRRS 0x00u /* revisions offered (bits); the driver writes the one it chose */
#define VMXNET3_UVRS 0x08u
#define VMXNET3_DSAL 0x10u /* address of struct vmxnet3_shared */
#define VMXNET3_DSAH 0x18u
#define VMXNET3_CMD  0x20u /* write: a command; read: its result */
#define VMXNET3_MACL 0x28u
#define VMXNET3_MACH 0x30u
#define VMXNET3_ICR  0x38u /* INTx: is it us? Reading takes the line down */
#define VMXNET3_ECR  0x40u /* write: these events were seen */

/* Commands that set something, and that get something. */
enum vmxnet3_command {
    VMXNET3_ACTIVATE = 0xcafe0000,
    VMXNET3_QUIESCE = 0xcafe0001,
    VMXNET3_RESET = 0xcafe0002,
    VMXNET3_UPDATE_RX_MODE = 0xcafe0003,
    VMXNET3_UPDATE_MAC_FILTERS = 0xcafe0004,
    VMXNET3_UPDATE_VLAN_FILTERS = 0xcafe0005,
    VMXNET3_UPDATE_RSS = 0xcafe0006,
    VMXNET3_UPDATE_MODERATION = 0xcafe0007,
    VMXNET3_UPDATE_WAKE_UP = 0xcafe0008,
    VMXNET3_UPDATE_FEATURES = 0xcafe0009,
    VMXNET3_SET_COALESCE = 0xcafe000e,
    VMXNET3_GET_QUEUE_STATUS = 0xf00d0000,
    VMXNET3_GET_STATS = 0xf00d0001,
    VMXNET3_GET_LINK = 0xf00d0002, /* speed in Mb/s << 16 | up */
    VMXNET3_GET_MAC_LOW = 0xf00d0003,
    VMXNET3_GET_MAC_HIGH = 0xf00d0004,
    VMXNET3_GET_INTERRUPTS = 0xf00d0008, /* type | who masks << 2 */
    VMXNET3_GET_TX_DATA_SIZE = 0xf00d000a,
    VMXNET3_GET_COALESCE = 0xf00d000b,
};
#define VMXNET3_FIRST_GET 0xf00d0000u

#define VMXNET3_INTERRUPTS_MSIX 3u
#define VMXNET3_MASK_AUTO       0u /* the device masks a vector as it fires it */

/* ---- shared memory ---- */

#define VMXNET3_MAGIC 0xbabefee1u

/* Features that the driver wants. */
#define VMXNET3_F_RX_CHECKSUM 0x1u
#define VMXNET3_F_RSS         0x2u
#define VMXNET3_F_VLAN_STRIP  0x4u
#define VMXNET3_F_LRO         0x8u

struct vmxnet3_misc {
    uint32_t driver_version;
    uint32_t guest;
    uint32_t revisions;
    uint32_t upt_versions;
    uint64_t features;
    uint64_t driver_data;
    uint64_t queues; /* address of the Tx queue descriptors, behind them those of Rx */
    uint32_t driver_data_size;
    uint32_t queues_size; /* bytes */
    uint32_t mtu;
    uint16_t max_rx_pieces; /* buffers of one received frame */
    uint8_t tx_queues, rx_queues;
    uint32_t reserved[4];
};

#define VMXNET3_VECTORS 25u

struct vmxnet3_interrupts {
    uint8_t auto_mask;
    uint8_t count;
    uint8_t event_vector;
    uint8_t moderation[VMXNET3_VECTORS];
    uint32_t control;
    uint32_t reserved[2];
};
#define VMXNET3_INTERRUPTS_OFF 1u /* control: none; masks say so, too (registers.c) */

#define VMXNET3_RX_UNICAST       0x01u
#define VMXNET3_RX_MULTICAST     0x02u /* those in the table */
#define VMXNET3_RX_BROADCAST     0x04u
#define VMXNET3_RX_ALL_MULTICAST 0x08u
#define VMXNET3_RX_PROMISCUOUS   0x10u

struct vmxnet3_rx_filter {
    uint32_t mode;
    uint16_t multicast_size; /* bytes; 6 an address */
    uint16_t reserved;
    uint64_t multicast;
    uint32_t vlans[128]; /* a bit for each VLAN that is let through */
};

struct vmxnet3_block {
    uint32_t version;
    uint32_t size;
    uint64_t address;
};

#define VMXNET3_EVENT_RX_ERROR 0x1u
#define VMXNET3_EVENT_TX_ERROR 0x2u
#define VMXNET3_EVENT_LINK     0x4u

struct vmxnet3_shared {
    uint32_t magic;
    uint32_t reserved;
    struct vmxnet3_misc misc;
    struct vmxnet3_interrupts interrupts;
    struct vmxnet3_rx_filter filter;
    struct vmxnet3_block rss, wake_up, plugin;
    uint32_t events; /* ECR; set by the device */
    uint32_t reserved2;
    struct vmxnet3_block command; /* of a command that has parameters */
};

#define VMXNET3_RSS_IPV4     0x1u
#define VMXNET3_RSS_TCP_IPV4 0x2u
#define VMXNET3_RSS_IPV6     0x4u
#define VMXNET3_RSS_TCP_IPV6 0x8u
#define VMXNET3_RSS_TOEPLITZ 1u
#define VMXNET3_RSS_KEY      40u
#define VMXNET3_RSS_TABLE    128u

struct vmxnet3_rss {
    uint16_t types;
    uint16_t function;
    uint16_t key_size;
    uint16_t table_size;
    uint8_t key[VMXNET3_RSS_KEY];
    uint8_t table[VMXNET3_RSS_TABLE];
};

struct vmxnet3_coalesce {
    uint32_t mode; /* 0: none */
    uint32_t parameters[3];
};

/* ---- queue descriptors ---- */

struct vmxnet3_queue_status {
    uint8_t stopped;
    uint8_t reserved[3];
    uint32_t error;
};
#define VMXNET3_ERROR_NO_EOP        0x80000000u /* the ring ends in the middle of a packet */
#define VMXNET3_ERROR_BIG_PACKET    0x80000002u
#define VMXNET3_ERROR_NOT_SUPPORTED 0x80000003u
#define VMXNET3_ERROR_TX_DESCRIPTOR 0x80000007u
#define VMXNET3_ERROR_RX_DESCRIPTOR 0x80000004u

enum vmxnet3_tx_counter {
    VMXNET3_TX_TSO_PACKETS,
    VMXNET3_TX_TSO_BYTES,
    VMXNET3_TX_UNICAST_PACKETS,
    VMXNET3_TX_UNICAST_BYTES,
    VMXNET3_TX_MULTICAST_PACKETS,
    VMXNET3_TX_MULTICAST_BYTES,
    VMXNET3_TX_BROADCAST_PACKETS,
    VMXNET3_TX_BROADCAST_BYTES,
    VMXNET3_TX_ERRORS,
    VMXNET3_TX_DISCARDS,
};

enum vmxnet3_rx_counter {
    VMXNET3_RX_LRO_PACKETS,
    VMXNET3_RX_LRO_BYTES,
    VMXNET3_RX_UNICAST_PACKETS,
    VMXNET3_RX_UNICAST_BYTES,
    VMXNET3_RX_MULTICAST_PACKETS,
    VMXNET3_RX_MULTICAST_BYTES,
    VMXNET3_RX_BROADCAST_PACKETS,
    VMXNET3_RX_BROADCAST_BYTES,
    VMXNET3_RX_NO_BUFFERS,
    VMXNET3_RX_ERRORS,
};
#define VMXNET3_COUNTERS 10u

struct vmxnet3_tx_descriptor {
    uint32_t deferred;  /* packets since the last doorbell; counted by the driver */
    uint32_t threshold; /* doorbells from that many on; set by the device */
    uint64_t reserved;
    uint64_t ring, data_ring, completions, driver_data, reserved2;
    uint32_t ring_size, data_size, completions_size, driver_data_size; /* entries, bytes */
    uint8_t vector;
    uint8_t reserved3;
    uint16_t data_entry; /* bytes */
    uint8_t reserved4[4];
    struct vmxnet3_queue_status status;
    uint64_t counters[VMXNET3_COUNTERS];
    uint8_t reserved5[88];
};

struct vmxnet3_rx_descriptor {
    uint8_t update_producer; /* set by the device: the driver shall write RXPROD as it refills */
    uint8_t reserved[7];
    uint64_t reserved2;
    uint64_t ring[2], completions, driver_data, data_ring;
    uint32_t ring_size[2], completions_size, driver_data_size;
    uint8_t vector;
    uint8_t reserved3;
    uint16_t data_entry; /* bytes; 0: no data ring */
    uint8_t reserved4[4];
    struct vmxnet3_queue_status status;
    uint64_t counters[VMXNET3_COUNTERS];
    uint8_t reserved5[88];
};

#define VMXNET3_QUEUES_ALIGN   128u
#define VMXNET3_RING_ALIGN     512u
#define VMXNET3_SIZE_UNIT      32u /* ring sizes are multiples of it */
#define VMXNET3_MAX_RING       4096u
#define VMXNET3_MAX_RX_RESULTS 8192u
#define VMXNET3_DATA_UNIT      64u
#define VMXNET3_MAX_DATA       2048u
#define VMXNET3_TX_DATA        128u

/* ---- ring entries: an address and two words, or four words ---- */

struct vmxnet3_entry {
    uint64_t address;
    uint32_t word2, word3;
};
struct vmxnet3_completion {
    uint32_t words[4];
};

/* Tx: word 2. */
#define VMXNET3_TXD_LENGTH     0x3fffu /* 0 means 16384 */
#define VMXNET3_TXD_GENERATION (1u << 14)
#define VMXNET3_TXD_TYPE       (1u << 16) /* must be 0 */
#define VMXNET3_TXD_MSS_SHIFT  18         /* MSS, or where the checksum field is */
/* Word 3. */
#define VMXNET3_TXD_HEADERS    0x3ffu /* TSO: bytes; checksum: where it starts */
#define VMXNET3_TXD_MODE_SHIFT 10
#define VMXNET3_TXD_MODE_CSUM  2u
#define VMXNET3_TXD_MODE_TSO   3u
#define VMXNET3_TXD_END        (1u << 12)
#define VMXNET3_TXD_COMPLETE   (1u << 13)
#define VMXNET3_TXD_TAG        (1u << 15) /* insert the VLAN tag */
#define VMXNET3_TXD_TAG_SHIFT  16
/* Tx completion: word 0 has the last descriptor's index. */

/* Rx: word 2. */
#define VMXNET3_RXD_LENGTH     0x3fffu
#define VMXNET3_RXD_BODY       (1u << 14) /* else a head */
#define VMXNET3_RXD_TYPE       (1u << 15) /* must be 0 */
#define VMXNET3_RXD_GENERATION (1u << 31)

/* Rx completion: word 0. */
#define VMXNET3_RCD_END         (1u << 14)
#define VMXNET3_RCD_START       (1u << 15)
#define VMXNET3_RCD_QUEUE_SHIFT 16 /* ring 0: queue; ring 1: + queues; data ring: + 2 queues */
#define VMXNET3_RCD_HASH_SHIFT  26
#define VMXNET3_RCD_UNCHECKED   (1u << 30)
/* Word 1: RSS hash; LRO: number of segments. Word 2. */
#define VMXNET3_RCD_LENGTH    0x3fffu
#define VMXNET3_RCD_TAGGED    (1u << 15)
#define VMXNET3_RCD_TAG_SHIFT 16
/* Word 3: the low half is the MSS with LRO. */
#define VMXNET3_RCD_L4_CORRECT  (1u << 16)
#define VMXNET3_RCD_UDP         (1u << 17)
#define VMXNET3_RCD_TCP         (1u << 18)
#define VMXNET3_RCD_IP_CORRECT  (1u << 19)
#define VMXNET3_RCD_IPV6        (1u << 20)
#define VMXNET3_RCD_IPV4        (1u << 21)
#define VMXNET3_RCD_FRAGMENT    (1u << 22)
#define VMXNET3_RCD_FCS_CORRECT (1u << 23)
#define VMXNET3_RCD_KIND_SHIFT  24
#define VMXNET3_KIND_RX         3u
#define VMXNET3_KIND_LRO        4u
#define VMXNET3_CD_GENERATION   (1u << 31) /* word 3 of every completion */

#define VMXNET3_HASH_NONE     0u
#define VMXNET3_HASH_IPV4     1u
#define VMXNET3_HASH_TCP_IPV4 2u
#define VMXNET3_HASH_IPV6     3u
#define VMXNET3_HASH_TCP_IPV6 4u

#endif
