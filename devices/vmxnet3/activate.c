/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * activate - reading what the driver shares: configuration, queues, filters, RSS
 *
 * At ACTIVATE the shared structure and the queue descriptors are copied once; the copies are checked
 * (counts, sizes, alignment, vectors, that rings lie in RAM) and only they are used. Later commands
 * read one part again. The same check is made of a state that was loaded.
 */
#include <errno.h>
#include <string.h>

#include "devices/vmxnet3/private.h"
#include "vmm/trace.h"

TRACE_EVENT(vmxnet3_activate, "%s tx=%u rx=%u features=0x%x mtu=%u",
            (const char *device, unsigned tx, unsigned rx, unsigned features, unsigned mtu), device,
            tx, rx, features, mtu)
TRACE_EVENT(vmxnet3_filter, "%s mode=0x%x multicasts=%u",
            (const char *device, unsigned mode, unsigned multicasts), device, mode, multicasts)

#define SHARED_OFFSET(MEMBER) (v->setup.shared + offsetof(struct vmxnet3_shared, MEMBER))

/* ---- rings ---- */

bool vmxnet3_ring_peek(const struct vmxnet3_ring *ring, uint32_t index, uint32_t bit,
                       bool generation, struct vmxnet3_entry *entry)
{
    const struct vmxnet3_entry *guest = (const struct vmxnet3_entry *)(void *)ring->host + index;

    entry->word2 = __atomic_load_n(&guest->word2, __ATOMIC_ACQUIRE);
    if (!(entry->word2 & bit) == generation)
        return false;
    entry->address = __atomic_load_n(&guest->address, __ATOMIC_RELAXED);
    entry->word3 = __atomic_load_n(&guest->word3, __ATOMIC_RELAXED);
    return true;
}

void vmxnet3_complete(struct vmxnet3 *v, struct vmxnet3_ring *ring,
                      const struct vmxnet3_completion *completion)
{
    struct vmxnet3_completion *guest = (struct vmxnet3_completion *)(void *)ring->host + ring->next;
    uint32_t last = completion->words[3] & ~VMXNET3_CD_GENERATION;

    if (ring->generation)
        last |= VMXNET3_CD_GENERATION;
    for (unsigned i = 0; i < 3; i++)
        __atomic_store_n(&guest->words[i], completion->words[i], __ATOMIC_RELAXED);
    __atomic_store_n(&guest->words[3], last, __ATOMIC_RELEASE);
    dma_written(&v->function.dma, ring->base + 16 * (uint64_t)ring->next, 16);
    vmxnet3_ring_step(&ring->next, &ring->generation, ring->size);
}

unsigned vmxnet3_cast(const uint8_t address[6])
{
    if (!(address[0] & 1))
        return 0;
    return memcmp(address, "\xff\xff\xff\xff\xff\xff", 6) ? 2 : 4;
}

static bool map_ring(struct vmxnet3 *v, struct vmxnet3_ring *ring, uint32_t max, const char *what,
                     const char **why)
{
    *why = what;
    ring->host = NULL;
    if (!ring->size || ring->size > max || ring->size % VMXNET3_SIZE_UNIT ||
        ring->base % VMXNET3_RING_ALIGN || ring->next >= ring->size)
        return false;
    ring->host = dma_map_ring(&v->function.dma, ring->base, 16 * (uint64_t)ring->size);
    return ring->host != NULL;
}

static bool map_rx(struct vmxnet3 *v, struct vmxnet3_rx_queue *queue, const char **why)
{
    *why = "rx data ring";
    if (queue->data_entry % VMXNET3_DATA_UNIT || queue->data_entry > VMXNET3_MAX_DATA ||
        (queue->data_entry && queue->data % VMXNET3_RING_ALIGN))
        return false;
    *why = "rx vector";
    if (queue->vector >= VMXNET3_VECTORS ||
        !map_ring(v, &queue->ring[0], VMXNET3_MAX_RING, "rx ring 0", why) ||
        !map_ring(v, &queue->completions, VMXNET3_MAX_RX_RESULTS, "rx completion ring", why))
        return false;
    /* A driver may do without the second ring. */
    if (!queue->ring[1].size && !queue->ring[1].next)
        return true;
    return map_ring(v, &queue->ring[1], VMXNET3_MAX_RING, "rx ring 1", why);
}

bool vmxnet3_map(struct vmxnet3 *v, const char **why)
{
    struct vmxnet3_setup *setup = &v->setup;

    *why = "number of queues";
    if (!setup->tx_count || setup->tx_count > VMXNET3_MAX_QUEUES || !setup->rx_count ||
        setup->rx_count > VMXNET3_MAX_QUEUES)
        return false;
    *why = "event vector";
    if (setup->event_vector >= VMXNET3_VECTORS)
        return false;
    *why = "filter or RSS table";
    if (setup->multicast_count > VMXNET3_MULTICASTS || setup->rss_table_size > VMXNET3_RSS_TABLE)
        return false;
    *why = "shared memory";
    if (setup->queues % VMXNET3_QUEUES_ALIGN || setup->shared % 8)
        return false;
    if (!dma_map_ring(&v->function.dma, setup->shared, sizeof(struct vmxnet3_shared)))
        return false;
    for (unsigned i = 0; i < setup->tx_count; i++) {
        *why = "tx vector";
        if (v->tx[i].vector >= VMXNET3_VECTORS ||
            !map_ring(v, &v->tx[i].ring, VMXNET3_MAX_RING, "tx ring", why) ||
            !map_ring(v, &v->tx[i].completions, VMXNET3_MAX_RING, "tx completion ring", why))
            return false;
    }
    for (unsigned i = 0; i < setup->rx_count; i++)
        if (!map_rx(v, &v->rx[i], why))
            return false;
    return true;
}

/* ---- parts that commands read again ---- */

int vmxnet3_read_rx_mode(struct vmxnet3 *v)
{
    uint32_t mode;
    int ret = dma_read(&v->function.dma, SHARED_OFFSET(filter.mode), &mode, sizeof(mode));

    if (!ret)
        v->setup.rx_mode = mode;
    trace_vmxnet3_filter(vmxnet3_name(v), v->setup.rx_mode, v->setup.multicast_count);
    return ret;
}

static int take_multicasts(struct vmxnet3 *v, const struct vmxnet3_rx_filter *filter)
{
    struct vmxnet3_setup *setup = &v->setup;
    unsigned count = filter->multicast_size / 6;
    uint8_t addresses[sizeof(setup->multicasts)];
    int ret = 0;

    setup->many_multicasts = count > VMXNET3_MULTICASTS;
    if (setup->many_multicasts)
        count = 0;
    if (count)
        ret = dma_read(&v->function.dma, filter->multicast, addresses, 6 * count);
    if (ret)
        return ret;
    memcpy(setup->multicasts, addresses, 6 * count);
    setup->multicast_count = count;
    trace_vmxnet3_filter(vmxnet3_name(v), setup->rx_mode, count);
    return 0;
}

int vmxnet3_read_multicasts(struct vmxnet3 *v)
{
    struct vmxnet3_rx_filter filter;
    int ret = dma_read(&v->function.dma, SHARED_OFFSET(filter), &filter,
                       offsetof(struct vmxnet3_rx_filter, vlans));

    return ret ? ret : take_multicasts(v, &filter);
}

int vmxnet3_read_vlans(struct vmxnet3 *v)
{
    return dma_read(&v->function.dma, SHARED_OFFSET(filter.vlans), v->setup.vlans,
                    sizeof(v->setup.vlans));
}

/* RSS with a function or sizes that nobody knows is no RSS. */
static int take_rss(struct vmxnet3 *v, const struct vmxnet3_block *block)
{
    struct vmxnet3_rss rss;
    int ret;

    v->setup.rss_table_size = 0;
    if (!(v->setup.features & VMXNET3_F_RSS))
        return 0;
    if (block->size < sizeof(rss))
        return -EINVAL;
    ret = dma_read(&v->function.dma, block->address, &rss, sizeof(rss));
    if (ret)
        return ret;
    if (rss.function != VMXNET3_RSS_TOEPLITZ || rss.key_size != VMXNET3_RSS_KEY ||
        !rss.table_size || rss.table_size > VMXNET3_RSS_TABLE)
        return -EINVAL;
    v->setup.rss_types = rss.types;
    v->setup.rss_table_size = rss.table_size;
    memcpy(v->setup.rss_key, rss.key, sizeof(rss.key));
    memcpy(v->setup.rss_table, rss.table, sizeof(rss.table));
    return 0;
}

int vmxnet3_read_rss(struct vmxnet3 *v)
{
    struct vmxnet3_block block;
    int ret = dma_read(&v->function.dma, SHARED_OFFSET(rss), &block, sizeof(block));

    return ret ? ret : take_rss(v, &block);
}

int vmxnet3_read_features(struct vmxnet3 *v)
{
    uint64_t features;
    int ret = dma_read(&v->function.dma, SHARED_OFFSET(misc.features), &features, sizeof(features));

    if (!ret)
        v->setup.features = features;
    return ret;
}

/* ---- activation ---- */

static struct vmxnet3_ring new_ring(uint64_t base, uint32_t size)
{
    return (struct vmxnet3_ring){.base = base, .size = size, .generation = true};
}

static void take_tx(struct vmxnet3_tx_queue *queue, const struct vmxnet3_tx_descriptor *from)
{
    queue->ring = new_ring(from->ring, from->ring_size);
    queue->completions = new_ring(from->completions, from->completions_size);
    queue->vector = from->vector;
    queue->stopped = queue->blocked = false;
    queue->error = 0;
}

static void take_rx(struct vmxnet3_rx_queue *queue, const struct vmxnet3_rx_descriptor *from,
                    bool data_ring)
{
    for (unsigned i = 0; i < 2; i++)
        queue->ring[i] = new_ring(from->ring[i], from->ring_size[i]);
    queue->completions = new_ring(from->completions, from->completions_size);
    queue->data = from->data_ring;
    queue->data_entry = data_ring ? from->data_entry : 0;
    queue->vector = from->vector;
    queue->stopped = false;
    queue->error = 0;
}

static int read_queues(struct vmxnet3 *v, const struct vmxnet3_misc *misc, const char **why)
{
    struct vmxnet3_tx_descriptor tx[VMXNET3_MAX_QUEUES];
    struct vmxnet3_rx_descriptor rx[VMXNET3_MAX_QUEUES];
    struct dma *dma = &v->function.dma;
    size_t tx_size = misc->tx_queues * sizeof(tx[0]), rx_size = misc->rx_queues * sizeof(rx[0]);
    int ret;

    *why = "number of queues";
    if (!misc->tx_queues || misc->tx_queues > VMXNET3_MAX_QUEUES || !misc->rx_queues ||
        misc->rx_queues > VMXNET3_MAX_QUEUES || misc->queues_size < tx_size + rx_size)
        return -EINVAL;
    *why = "queue descriptors";
    if (misc->queues > UINT64_MAX - tx_size)
        return -EINVAL;
    ret = dma_read(dma, misc->queues, tx, tx_size);
    if (!ret)
        ret = dma_read(dma, misc->queues + tx_size, rx, rx_size);
    if (ret)
        return ret;
    for (unsigned i = 0; i < misc->tx_queues; i++)
        take_tx(&v->tx[i], &tx[i]);
    for (unsigned i = 0; i < misc->rx_queues; i++)
        take_rx(&v->rx[i], &rx[i], v->revision > 2);
    return 0;
}

static int read_all(struct vmxnet3 *v, const char **why)
{
    struct vmxnet3_setup *setup = &v->setup;
    struct vmxnet3_shared shared;
    int ret;

    *why = "shared memory";
    ret = dma_read(&v->function.dma, v->shared_register, &shared, sizeof(shared));
    if (ret)
        return ret;
    *why = "magic number";
    if (shared.magic != VMXNET3_MAGIC)
        return -EINVAL;
    *setup = (struct vmxnet3_setup){
        .shared = v->shared_register,
        .queues = shared.misc.queues,
        .features = shared.misc.features,
        .mtu = shared.misc.mtu,
        .max_rx_pieces = shared.misc.max_rx_pieces,
        .tx_count = shared.misc.tx_queues,
        .rx_count = shared.misc.rx_queues,
        .auto_mask = shared.interrupts.auto_mask,
        .event_vector = shared.interrupts.event_vector,
        .rx_mode = shared.filter.mode,
    };
    memcpy(setup->vlans, shared.filter.vlans, sizeof(setup->vlans));
    ret = read_queues(v, &shared.misc, why);
    if (ret)
        return ret;
    *why = "filter or RSS table";
    ret = take_multicasts(v, &shared.filter);
    return ret ? ret : take_rss(v, &shared.rss);
}

/* Where the host gives no large frames, the driver had better merge small ones itself: it does so
 * (GRO) while it is asked to write RXPROD. It need not where it is not asked (rx.c). */
static void ask_for_rxprod(struct vmxnet3 *v)
{
    uint8_t ask = !v->net->host_offloads;
    uint64_t rx = v->setup.queues + v->setup.tx_count * sizeof(struct vmxnet3_tx_descriptor);

    for (unsigned i = 0; i < v->setup.rx_count; i++)
        dma_write(&v->function.dma, rx + i * sizeof(struct vmxnet3_rx_descriptor), &ask, 1);
}

int vmxnet3_activate(struct vmxnet3 *v)
{
    const char *why;
    int ret;

    vmxnet3_deactivate(v);
    ret = read_all(v, &why);
    if (!ret && !vmxnet3_map(v, &why))
        ret = -EINVAL;
    if (ret) {
        vmxnet3_guest_error(v, "activation refused: %s: %s", why, g_strerror(-ret));
        v->setup = (struct vmxnet3_setup){0};
        return ret;
    }
    ask_for_rxprod(v);
    v->active = true;
    v->generation++;
    v->events = 0;
    v->link_told = vmxnet3_link_now(v);
    trace_vmxnet3_activate(vmxnet3_name(v), v->setup.tx_count, v->setup.rx_count, v->setup.features,
                           v->setup.mtu);
    return 0;
}

/* What waits is lost with the rings; counters stay. */
void vmxnet3_deactivate(struct vmxnet3 *v)
{
    v->active = false;
    v->generation++;
    __atomic_store_n(&v->rx_waiting, 0, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < NET_MAX_QUEUES; i++)
        v->received[i].size = 0;
    pthread_mutex_lock(&v->interrupt_lock);
    v->masked = UINT32_MAX;
    v->pending = 0;
    v->icr = false;
    pci_function_set_intx(&v->function, false);
    pthread_mutex_unlock(&v->interrupt_lock);
}

/* ---- what the driver reads ---- */

static void write_one(struct vmxnet3 *v, uint64_t descriptor, bool stopped, uint32_t error,
                      const uint64_t *counters)
{
    struct vmxnet3_queue_status status = {.stopped = stopped, .error = error};
    struct dma *dma = &v->function.dma;

    dma_write(dma, descriptor + offsetof(struct vmxnet3_tx_descriptor, status), &status,
              sizeof(status));
    if (counters)
        dma_write(dma, descriptor + offsetof(struct vmxnet3_tx_descriptor, counters), counters,
                  VMXNET3_COUNTERS * sizeof(*counters));
}

void vmxnet3_write_status(struct vmxnet3 *v, bool counters)
{
    uint64_t at = v->setup.queues;

    for (unsigned i = 0; i < v->setup.tx_count; i++, at += sizeof(struct vmxnet3_tx_descriptor))
        write_one(v, at, v->tx[i].stopped, v->tx[i].error, counters ? v->tx[i].counters : NULL);
    for (unsigned i = 0; i < v->setup.rx_count; i++, at += sizeof(struct vmxnet3_rx_descriptor))
        write_one(v, at, v->rx[i].stopped, v->rx[i].error, counters ? v->rx[i].counters : NULL);
}
