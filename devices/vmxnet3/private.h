/* SPDX-License-Identifier: GPL-2.0-or-later */
/* private - what the files of devices/vmxnet3 share */
#ifndef DEVICES_VMXNET3_PRIVATE_H
#define DEVICES_VMXNET3_PRIVATE_H

#include <pthread.h>

#include "backends/net/net.h"
#include "devices/vmxnet3/interface.h"
#include "devices/vmxnet3/vmxnet3.h"
#include "vmm/loop.h"

#define VMXNET3_REVISIONS  0x7u /* 1 to 3 */
#define VMXNET3_MAX_QUEUES 8u   /* of each direction */
#define VMXNET3_BATCH      64u  /* frames of one queue before others get their turn */
#define VMXNET3_MULTICASTS 256u /* addresses of the filter; with more, all are let through */
#define VMXNET3_RX_PIECES  18u  /* buffers a received frame may take unless the driver says more */
#define VMXNET3_LATER      8u   /* commands that can wait for the end of a pause */
#define VMXNET3_LOOK_SOON  INT64_C(1000000) /* ns; until buffers are looked for first, and again: */
#define VMXNET3_LOOK_LATER INT64_C(10000000)
#define VMXNET3_LINK_SPEED 10000u
#define VMXNET3_MTU        1500u /* before a driver says otherwise */
#define VMXNET3_FRAME      (NET_HEADER_SIZE + NET_MAX_FRAME)
#define VMXNET3_MAX_STATE  (8u << 20) /* bytes of saved frames, and of the backend's state */

/* A ring of 16-byte entries in guest memory; @host is derived. */
struct vmxnet3_ring {
    uint64_t base;
    uint32_t size; /* entries */
    uint32_t next; /* the one that we look at, or write, next */
    bool generation;
    uint8_t *host;
};

struct vmxnet3_tx_queue {
    struct vmxnet3_ring ring, completions;
    uint8_t vector;
    bool stopped;
    uint32_t error;
    uint64_t counters[VMXNET3_COUNTERS];
    bool blocked;       /* the backend takes nothing now */
    bool discards;      /* and has not for so long that frames are lost */
    int64_t blocked_at; /* ns */
    int doorbell;
    struct loop_fd *watch;
    struct vmxnet3 *owner;
};

struct vmxnet3_rx_queue {
    struct vmxnet3_ring ring[2], completions;
    uint64_t data;       /* the data ring */
    uint16_t data_entry; /* bytes; 0: there is none */
    uint8_t vector;
    bool stopped;
    uint32_t error;
    uint64_t counters[VMXNET3_COUNTERS];
};

/* A frame from the host, behind its virtio header; of one of the backend's queues. */
struct vmxnet3_received {
    uint8_t *bytes; /* NULL until the first */
    size_t size;    /* 0: none waits */
};

/* What the driver shared, as it was read: nothing of it is looked at again in guest memory. */
struct vmxnet3_setup {
    uint64_t shared, queues; /* addresses */
    uint32_t features;
    uint32_t mtu;
    uint16_t max_rx_pieces;
    uint32_t tx_count, rx_count;
    bool auto_mask;
    uint8_t event_vector;
    uint32_t rx_mode;
    bool many_multicasts; /* more than fit */
    uint32_t multicast_count;
    uint8_t multicasts[VMXNET3_MULTICASTS * 6];
    uint32_t vlans[128];
    uint16_t rss_types;
    uint16_t rss_table_size; /* 0: no RSS */
    uint8_t rss_key[VMXNET3_RSS_KEY];
    uint8_t rss_table[VMXNET3_RSS_TABLE];
};

struct vmxnet3 {
    struct pci_function function;
    struct net *net;
    struct loop *loop;

    /* The lock is held by the loop for a batch, and by vCPUs for a command; a waiting vCPU ends the
     * batch. It is never held while the listener is called. */
    pthread_mutex_t lock;
    unsigned impatient; /* atomic: vCPUs that wait for the lock */
    uint32_t revision;  /* bit, as chosen */
    uint64_t shared_register;
    uint32_t result; /* of the last command */
    uint8_t mac[6], own_mac[6];
    bool link;           /* as the user has it */
    bool active;         /* between ACTIVATE and QUIESCE */
    bool paused;         /* by the lifecycle */
    uint32_t generation; /* counts activations and changes that the backend is to follow */
    struct vmxnet3_setup setup;
    struct vmxnet3_tx_queue tx[VMXNET3_MAX_QUEUES];
    struct vmxnet3_rx_queue rx[VMXNET3_MAX_QUEUES];
    uint32_t events; /* ECR */
    bool link_told;  /* what the driver knows */
    uint32_t later[VMXNET3_LATER];
    uint32_t later_count; /* commands that came while there was no DMA */

    pthread_mutex_t interrupt_lock; /* innermost */
    uint32_t masked, pending;       /* a bit a vector */
    bool icr;                       /* INTx is up */

    /* The loop's own. */
    bool busy;                   /* in a batch: */
    uint64_t readable, writable; /* backend queues that called back meanwhile */
    uint32_t fire;               /* vectors to fire at its end */
    bool backend_on;
    uint32_t backend_generation; /* that the backend follows */
    unsigned backend_queues;     /* in use while it is on */
    int rx_doorbell;
    struct loop_fd *rx_watch;
    struct vmxnet3_received received[NET_MAX_QUEUES];
    uint64_t rx_waiting;         /* atomic, by backend queue: no buffers */
    struct loop_timer *rx_timer; /* set while a frame waits for buffers */
    int64_t rx_patience;         /* ns until they are looked for again */
    struct loop_timer *tx_timer; /* set while a queue is blocked and does not discard */
    uint8_t *headers;            /* of the frame that is sent */

    int work; /* rings when something is to be applied */
    struct loop_fd *work_watch;
    vmxnet3_listener_fn changed;
    void *changed_opaque;
    struct {
        uint8_t mac[6];
        bool link, active;
        unsigned mtu;
    } told; /* to the listener */

    GByteArray *saved_frames, *saved_backend; /* while it is saved or loaded */
};

static inline const char *vmxnet3_name(const struct vmxnet3 *v)
{
    return v->function.device.name;
}
#define vmxnet3_guest_error(V, ...)                                                                \
    log_guest(&(V)->function.device.guest_errors, vmxnet3_name(V), __VA_ARGS__)

/* ---- vmxnet3.c ---- */

void vmxnet3_lock(struct vmxnet3 *v); /* not the loop's batches */
/* May rings be looked at? With the lock. */
bool vmxnet3_can_run(const struct vmxnet3 *v);
/* The backend, the link event and the listener follow what has changed; on the loop, soon. Any
 * thread. */
void vmxnet3_apply_later(struct vmxnet3 *v);
static inline bool vmxnet3_link_now(const struct vmxnet3 *v)
{
    return __atomic_load_n(&v->link, __ATOMIC_RELAXED) && v->net->link_up;
}

/* ---- registers.c ---- */

extern const struct pci_function_ops vmxnet3_function_ops;
/* Carries out the commands that waited; with the lock. */
void vmxnet3_do_later(struct vmxnet3 *v);
/* The vector's cause has come: fires it, or keeps it until it is unmasked. Any thread. */
void vmxnet3_interrupt(struct vmxnet3 *v, unsigned vector);
/* Fires what the batch has collected. */
void vmxnet3_fire(struct vmxnet3 *v);
/* Sets bits of the event register in shared memory and interrupts. With the lock. */
void vmxnet3_event(struct vmxnet3 *v, uint32_t events);
void vmxnet3_reset_registers(struct vmxnet3 *v);

/* ---- activate.c; all with the lock ---- */

/* 0 or -errno: what the driver shares was read, checked and mapped; the device is active. */
int vmxnet3_activate(struct vmxnet3 *v);
void vmxnet3_deactivate(struct vmxnet3 *v);
/* Checks sizes and alignment of what was read or loaded, and maps it. False, with *@why set. */
bool vmxnet3_map(struct vmxnet3 *v, const char **why);
/* One part again, as a command asks. 0 or -errno: it is as before. */
int vmxnet3_read_rx_mode(struct vmxnet3 *v);
int vmxnet3_read_multicasts(struct vmxnet3 *v);
int vmxnet3_read_vlans(struct vmxnet3 *v);
int vmxnet3_read_rss(struct vmxnet3 *v);
int vmxnet3_read_features(struct vmxnet3 *v);
/* Writes status and counters of all queues to where the driver reads them. */
void vmxnet3_write_status(struct vmxnet3 *v, bool counters);

/* ---- rings ---- */

/* Entry @index, if it is the guest's turn to have written it with @generation in @bit of word 2. */
bool vmxnet3_ring_peek(const struct vmxnet3_ring *ring, uint32_t index, uint32_t bit,
                       bool generation, struct vmxnet3_entry *entry);
static inline void vmxnet3_ring_step(uint32_t *index, bool *generation, uint32_t size)
{
    if (++*index == size) {
        *index = 0;
        *generation = !*generation;
    }
}
/* Writes the next completion, its last word last; the generation bit is added. */
void vmxnet3_complete(struct vmxnet3 *v, struct vmxnet3_ring *ring,
                      const struct vmxnet3_completion *completion);
/* Which of three neighbouring counters @address counts in: 0 unicast, 2 multicast, 4 broadcast. */
unsigned vmxnet3_cast(const uint8_t address[6]);

/* ---- tx.c, rx.c: on the loop ---- */

void vmxnet3_transmit(struct vmxnet3 *v, unsigned queue);
/* Queues that were blocked for too long discard what they have; by tx_timer. */
void vmxnet3_discard_blocked(void *opaque);
/* Passes on what the backend's queue has. */
void vmxnet3_receive(struct vmxnet3 *v, unsigned backend_queue);
/* What the backend brought in, or made room for, while a batch ran. */
void vmxnet3_after_batch(struct vmxnet3 *v);
extern const struct net_client_ops vmxnet3_client;
/* Backend queues whose frame waits for buffers are looked at again; on the loop. */
void vmxnet3_receive_waiting(struct vmxnet3 *v);
/* The same, by rx_timer. */
void vmxnet3_receive_later(void *opaque);

/* ---- rss.c ---- */

/* Toeplitz: the hash of @size bytes of @input. */
uint32_t vmxnet3_toeplitz(const uint8_t key[VMXNET3_RSS_KEY], const uint8_t *input, size_t size);

/* ---- state.c ---- */

extern const struct state_table vmxnet3_state;
void vmxnet3_before_save(struct device *device);
bool vmxnet3_after_load(struct device *device, GError **error);

#endif
