/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pcap - a decorator that records every frame (the pcap file format, nanosecond variant)
 *
 * Both directions go to one file, as they pass; frames are written as the guest and the backend see
 * them, so that segmentation offloads show as large frames with partial checksums. A write that fails
 * is logged once and ends the recording, never the traffic.
 *
 * The file may be a FIFO, whose reader may stop: the guest does not wait for it. What a full pipe
 * takes no more of is kept, one record; frames that come before that is written are not recorded,
 * but counted.
 *
 * Frames that are to be sent are read from guest memory a second time: a guest that changes them
 * meanwhile deceives the recording, nobody else.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "backends/net/driver.h"
#include "vmm/fd.h"
#include "vmm/iov.h"
#include "vmm/log.h"
#include "vmm/setup.h"

#define PCAP_MAGIC_NS      0xa1b23c4du
#define PCAP_LINK_ETHERNET 1u
#define PIPE_SIZE          (1 << 20) /* what Linux lets anybody have: many frames of the largest */

struct pcap {
    struct net net;
    struct net *inner;
    int fd;
    GMutex lock; /* queues may have several loops */
    uint8_t record[16 + NET_MAX_FRAME];
    size_t start, left; /* of the record: what is not written yet */
    bool behind;        /* the reader: frames are being missed */
    uint64_t missed;    /* frames, in all */
    struct log_limit slow;
};

/* As much of the record as goes now. */
static void write_record(struct pcap *pcap)
{
    ssize_t written = 1;

    while (pcap->left && written > 0) {
        written = write(pcap->fd, pcap->record + pcap->start, pcap->left);
        pcap->start += MAX(written, 0);
        pcap->left -= MAX(written, 0);
    }
    if (written > 0 || (written < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    log_warn("net", "pcap: %s: recording ends", g_strerror(written < 0 ? errno : ENOSPC));
    close(pcap->fd);
    pcap->fd = -1;
}

static void make_record(struct pcap *pcap, const struct iovec *iov, unsigned count, size_t size)
{
    struct timespec now;
    uint32_t head[4];
    size_t length = MIN(size, NET_MAX_FRAME);

    clock_gettime(CLOCK_REALTIME, &now);
    head[0] = now.tv_sec;
    head[1] = now.tv_nsec;
    head[2] = length;
    head[3] = size;
    memcpy(pcap->record, head, sizeof(head));
    iov_read(iov, count, NET_HEADER_SIZE, pcap->record + sizeof(head), length);
    pcap->start = 0;
    pcap->left = sizeof(head) + length;
}

static void miss_frame(struct pcap *pcap)
{
    if (!pcap->behind)
        log_guest(&pcap->slow, "net", "pcap: its reader does not keep up: frames are missing");
    pcap->behind = true;
    pcap->missed++;
}

static void record_frame(struct pcap *pcap, const struct iovec *iov, unsigned count, size_t size)
{
    g_mutex_lock(&pcap->lock);
    if (pcap->fd >= 0)
        write_record(pcap); /* what was left of the one before */
    if (pcap->fd >= 0 && pcap->left) {
        miss_frame(pcap);
    } else if (pcap->fd >= 0) {
        pcap->behind = false;
        make_record(pcap, iov, count, size - NET_HEADER_SIZE);
        write_record(pcap);
    }
    g_mutex_unlock(&pcap->lock);
}

static ssize_t pcap_send(struct net *net, unsigned queue, const struct iovec *iov, unsigned count)
{
    struct pcap *pcap = (struct pcap *)net;
    ssize_t sent = net_send(pcap->inner, queue, iov, count);

    if (sent > (ssize_t)NET_HEADER_SIZE)
        record_frame(pcap, iov, count, sent);
    return sent;
}

static ssize_t pcap_receive(struct net *net, unsigned queue, const struct iovec *iov,
                            unsigned count)
{
    struct pcap *pcap = (struct pcap *)net;
    ssize_t got = net_receive(pcap->inner, queue, iov, count);

    if (got > (ssize_t)NET_HEADER_SIZE)
        record_frame(pcap, iov, count, got);
    return got;
}

static int pcap_set_active(struct net *net, unsigned queue, struct loop *loop, bool on)
{
    return net_set_active(((struct pcap *)net)->inner, queue, loop, on);
}

static int pcap_set_offloads(struct net *net, const struct net_offloads *receive)
{
    return net_set_offloads(((struct pcap *)net)->inner, receive);
}

static void pcap_set_receiving(struct net *net, unsigned queue, bool on)
{
    net_set_receiving(((struct pcap *)net)->inner, queue, on);
}

static int pcap_set_used(struct net *net, unsigned queue, bool used)
{
    return net_set_used(((struct pcap *)net)->inner, queue, used);
}

static void pcap_save(struct net *net, GByteArray *out)
{
    struct pcap *pcap = (struct pcap *)net;

    if (pcap->inner->ops->save)
        pcap->inner->ops->save(pcap->inner, out);
}

static bool pcap_load(struct net *net, const uint8_t *data, size_t size, GError **error)
{
    struct pcap *pcap = (struct pcap *)net;

    return !pcap->inner->ops->load || pcap->inner->ops->load(pcap->inner, data, size, error);
}

static void pcap_close(struct net *net)
{
    struct pcap *pcap = (struct pcap *)net;

    net_close(pcap->inner);
    if (pcap->fd >= 0)
        write_record(pcap);
    if (pcap->missed)
        log_warn("net", "pcap: %" G_GUINT64_FORMAT " frames are missing", pcap->missed);
    close_fd(pcap->fd);
    g_mutex_clear(&pcap->lock);
    g_free(pcap);
}

static const struct net_ops pcap_ops = {
    .send = pcap_send,
    .receive = pcap_receive,
    .set_active = pcap_set_active,
    .set_offloads = pcap_set_offloads,
    .set_receiving = pcap_set_receiving,
    .set_used = pcap_set_used,
    .save = pcap_save,
    .load = pcap_load,
    .close = pcap_close,
};

/* What the inner backend tells goes on to our client. */
static void inner_readable(void *opaque, unsigned queue)
{
    net_readable(opaque, queue);
}

static void inner_writable(void *opaque, unsigned queue)
{
    net_writable(opaque, queue);
}

static void inner_link_changed(void *opaque, bool up)
{
    net_set_link(opaque, up);
}

static const struct net_client_ops inner_client = {
    .readable = inner_readable,
    .writable = inner_writable,
    .link_changed = inner_link_changed,
};

struct net *net_pcap_open(struct net *inner, const struct options *options, GError **error)
{
    static const struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snap_length, link;
    } header = {PCAP_MAGIC_NS, 2, 4, 0, 0, NET_MAX_FRAME, PCAP_LINK_ETHERNET};
    int fd = setup_open(options_string(options, "pcap"), O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
    struct pcap *pcap;

    if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        write(fd, &header, sizeof(header)) != sizeof(header)) {
        options_set_error(error, options, "pcap", "%s", g_strerror(errno));
        close_fd(fd);
        net_close(inner);
        return NULL;
    }
    fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE); /* if it is one; less will do */
    pcap = g_new0(struct pcap, 1);
    net_init(&pcap->net, &pcap_ops, inner->implementation, inner->queues);
    pcap->net.host_offloads = inner->host_offloads;
    pcap->net.checked = inner->checked;
    pcap->net.mtu = inner->mtu;
    pcap->net.link_up = inner->link_up;
    pcap->inner = inner;
    pcap->fd = fd;
    g_mutex_init(&pcap->lock);
    net_set_client(inner, &inner_client, &pcap->net);
    return &pcap->net;
}
