/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 9p - the virtio 9P device (contract: virtio/9p.h; config space and queue as in the virtio 9P transport
 * of Linux and QEMU, virtio_9p.h: one queue, feature MOUNT_TAG; stock driver: 9pnet_virtio)
 *
 * Each chain of the queue is one message: the request in its first pieces, room for the reply in the
 * others. The loop pops chains and hands them to the pool (9p_pool.c); the server (9p_server.c) does
 * what they ask on a thread of the pool; the loop gives them back. A request that was flushed before it
 * began comes back with 0 bytes written, which a driver takes as "no reply".
 *
 * A chain without a whole message header, or without room for an error reply, can't be answered: the
 * device then needs a reset. Everything else that is wrong with a message is an Rlerror.
 *
 * A reset of the device ends the session and closes all files. What runs at that time runs to its end
 * first: a host file system that hangs holds up the reset, not the rest of the machine.
 *
 * Limits: as many requests in flight as the queue is long; 1 MiB a message.
 */
#include "virtio/9p.h"

#include <errno.h>
#include <linux/virtio_9p.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <string.h>

#include "virtio/9p_pool.h"
#include "virtio/9p_server.h"
#include "vmm/state.h"

#define MAX_TAG           (VIRTIO_MAX_CONFIG_SIZE - offsetof(struct virtio_9p_config, tag))
#define PCI_CLASS_STORAGE 0x018000u
#define SPLIT_PIECES      4u /* descriptors that cross the end of a memory region */
#define MAX_SESSION       (256u * 1024 * 1024)
#define BATCH             256u /* chains popped before other work of the loop gets its turn */

const struct option_spec virtio_9p_options[] = {
    {"path", OPTION_PATH, .flags = OPTION_REQUIRED | OPTION_FIRST, .help = "directory to share"},
    {"tag", OPTION_STRING, .flags = OPTION_REQUIRED, .help = "name the guest mounts it by"},
    {"readonly", OPTION_BOOL, .value = "off", .help = "refuse every change by the guest"},
    {"security", OPTION_ENUM, .choices = (const char *const[]){"passthrough", "none", NULL},
     .help = "owners of files: the guest's (needs root, and its default), or the user's"},
    {"threads", OPTION_UINT, .value = "4", .min = 1, .max = 64, .help = "requests done at a time"},
    VIRTIO_DEVICE_OPTIONS,
    {},
};

struct request {
    struct p9_job job; /* first */
    struct request *next_free;
    struct virtq_element *element;
};

struct virtio_9p {
    struct virtio_device vdev; /* first */
    struct share *share;       /* the server's, once there is one */
    struct p9_server *server;
    struct p9_pool *pool;
    char *thread_name;
    struct request *free;
    struct request **requests; /* @allocated of the queue's size */
    unsigned allocated;
    bool starved;        /* chains wait for a free request */
    bool stopping;       /* completions are dropped */
    bool queue_stopping; /* likewise, for a reset of the queue */
    bool resetting;      /* the session is being ended on a thread */
    struct p9_job reset;
    GByteArray
        *session; /* the saved one: between before_save and the saving, or loading and after_load */
    struct {
        uint16_t length;
        char text[MAX_TAG];
    } tag;         /* as config space has it */
    char name[64]; /* for messages of the server: the device's, once it has one */
    struct log_limit limit;
};

static struct virtio_9p *to_9p(struct virtio_device *vdev)
{
    return (struct virtio_9p *)vdev;
}

/* ---- requests ---- */

static struct request *get_request(struct virtio_9p *p9)
{
    struct virtq *vq = virtio_device_queue(&p9->vdev, 0);
    struct request *request = p9->free;

    if (request) {
        p9->free = request->next_free;
    } else if (p9->allocated < vq->max_size) {
        request = g_new0(struct request, 1);
        /* A chain is at most as long as the queue. */
        request->element = virtq_element_create(vq->max_size + SPLIT_PIECES);
        p9->requests[p9->allocated++] = request;
    }
    return request;
}

static void put_request(struct virtio_9p *p9, struct request *request)
{
    request->next_free = p9->free;
    p9->free = request;
}

/* Begins the request that was popped into @request; false if the device needs a reset now. */
static bool begin(struct virtio_9p *p9, struct request *request)
{
    struct virtq_element *element = request->element;
    struct p9_message *message = &request->job.message;

    *message = (struct p9_message){
        .out = virtq_out(element),
        .out_count = element->out_count,
        .out_bytes = element->out_bytes,
        .in = virtq_in(element),
        .in_count = element->in_count,
        .in_bytes = element->in_bytes,
    };
    if (p9_message_begin(message) < 0) {
        virtio_device_needs_reset(&p9->vdev, "a request without header or room for a reply");
        put_request(p9, request);
        return false;
    }
    p9_pool_submit(p9->pool, &request->job);
    return true;
}

static void process_queue(struct virtio_device *vdev, unsigned index)
{
    struct virtio_9p *p9 = to_9p(vdev);
    struct virtq *vq = virtio_device_queue(vdev, 0);

    virtq_disable_notify(vq);
    for (unsigned n = 0; n < BATCH; n++) {
        struct request *request = get_request(p9);

        if (!request) {
            p9->starved = true; /* batch_done goes on */
            return;
        }
        if (virtq_pop(vq, request->element) <= 0) {
            put_request(p9, request);
            if (!virtq_enable_notify(vq)) {
                return;
            }
        } else if (!begin(p9, request)) {
            return;
        }
    }
    virtio_device_kick(vdev, 0); /* there may be more; the others' turn first */
}

static void reset_session(void *opaque)
{
    p9_server_reset(opaque);
}

/* When nothing is in flight any more: goes on with what was waiting for that. */
static void drained(struct virtio_9p *p9)
{
    if (p9->queue_stopping) {
        p9->queue_stopping = false;
        virtio_device_queue_stopped(&p9->vdev, 0);
    }
    if (!p9->stopping) {
        return;
    }
    if (!p9->resetting) {
        p9->resetting = true;
        p9->reset.run = reset_session; /* closing files may block */
        p9->reset.opaque = p9->server;
        p9_pool_submit(p9->pool, &p9->reset);
        return;
    }
    p9->resetting = p9->stopping = false;
    virtio_device_stopped(&p9->vdev);
}

static void request_done(struct p9_job *job, void *opaque)
{
    struct virtio_9p *p9 = opaque;
    struct request *request = (struct request *)job;

    if (job == &p9->reset) {
        return;
    }
    if (!p9->stopping && !p9->queue_stopping) {
        virtq_push(virtio_device_queue(&p9->vdev, 0), request->element, job->written);
    }
    put_request(p9, request);
}

static void batch_done(void *opaque)
{
    struct virtio_9p *p9 = opaque;

    if (!p9->stopping && !p9->queue_stopping) {
        virtq_flush(virtio_device_queue(&p9->vdev, 0));
    }
    if (p9_pool_active(p9->pool) == 0) {
        drained(p9);
    }
    if (p9->starved && p9->vdev.started) {
        p9->starved = false;
        virtio_device_kick(&p9->vdev, 0);
    }
}

/* ---- the device ---- */

static int p9_start(struct virtio_device *vdev)
{
    struct virtio_9p *p9 = to_9p(vdev);

    g_strlcpy(p9->name, vdev->device->name, sizeof(p9->name)); /* no request is under way */
    return 0;
}

static void p9_stop(struct virtio_device *vdev)
{
    struct virtio_9p *p9 = to_9p(vdev);
    struct p9_stats stats;

    p9->starved = false;
    p9_server_get_stats(p9->server, &stats);
    /* Closing files may block, so a thread does it; but a state that is to be loaded can't wait. */
    if (p9_pool_active(p9->pool) == 0 &&
        (stats.fids == 0 || device_state(vdev->device) == DEVICE_RESUMING)) {
        p9_server_reset(p9->server);
        virtio_device_stopped(vdev);
        return;
    }
    p9->stopping = true;
    p9_pool_cancel(p9->pool);
    if (p9_pool_active(p9->pool) == 0) {
        drained(p9);
    }
}

static void p9_queue_stop(struct virtio_device *vdev, unsigned index)
{
    struct virtio_9p *p9 = to_9p(vdev);

    p9->starved = false;
    p9->queue_stopping = true;
    p9_pool_cancel(p9->pool);
    if (p9_pool_active(p9->pool) == 0) {
        drained(p9);
    }
}

static void p9_before_save(struct virtio_device *vdev)
{
    struct virtio_9p *p9 = to_9p(vdev);

    g_byte_array_set_size(p9->session, 0);
    p9_server_save(p9->server, p9->session);
}

/* What was saved is not needed any more. */
static void p9_resume(struct virtio_device *vdev)
{
    struct virtio_9p *p9 = to_9p(vdev);

    g_byte_array_unref(p9->session);
    p9->session = g_byte_array_new();
}

static bool p9_after_load(struct virtio_device *vdev, GError **error)
{
    struct virtio_9p *p9 = to_9p(vdev);
    bool ok = memcmp(vdev->config, &p9->tag, sizeof(p9->tag)) == 0;

    if (!ok) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "%s: the state is that of a share with tag '%.*s', not '%.*s'",
                    vdev->device->name, (int)MAX_TAG,
                    (const char *)vdev->config + offsetof(struct virtio_9p_config, tag),
                    (int)MAX_TAG, p9->tag.text);
        memcpy(vdev->config, &p9->tag, sizeof(p9->tag));
    } else {
        ok = p9_server_load(p9->server, p9->session->data, p9->session->len, error);
        if (!ok) {
            g_prefix_error(error, "%s: ", vdev->device->name);
        }
    }
    g_byte_array_set_size(p9->session, 0);
    return ok;
}

bool virtio_9p_is_unchanged(struct virtio_device *vdev)
{
    return p9_server_is_unchanged(to_9p(vdev)->server);
}

static const struct state_field p9_fields[] = {
    STATE_BUFFER(struct virtio_9p, session, MAX_SESSION, 1),
    STATE_END,
};

static const struct state_table p9_state = {"virtio-9p", 1, 1, p9_fields};

static bool p9_quiesced(struct virtio_device *vdev)
{
    return p9_pool_active(to_9p(vdev)->pool) == 0;
}

static void p9_destroy(struct virtio_device *vdev)
{
    struct virtio_9p *p9 = to_9p(vdev);

    p9_pool_destroy(p9->pool);
    if (p9->server) {
        p9_server_destroy(p9->server);
    } else {
        share_close(p9->share);
    }
    for (unsigned i = 0; i < p9->allocated; i++) {
        g_free(p9->requests[i]->element);
        g_free(p9->requests[i]);
    }
    g_free(p9->requests);
    g_byte_array_unref(p9->session);
    virtio_device_finish(vdev);
    g_free(p9->thread_name);
    g_free(p9);
}

static const struct virtio_class p9_class = {
    .type = "virtio-9p",
    .id = VIRTIO_ID_9P,
    .pci_class = PCI_CLASS_STORAGE,
    .features = UINT64_C(1) << VIRTIO_9P_MOUNT_TAG,
    .config_size = VIRTIO_MAX_CONFIG_SIZE,
    .start = p9_start,
    .queue_ready = process_queue,
    .stop = p9_stop,
    .queue_stop = p9_queue_stop,
    .quiesced = p9_quiesced,
    .state_table = &p9_state,
    .resume = p9_resume,
    .before_save = p9_before_save,
    .after_load = p9_after_load,
    .destroy = p9_destroy,
};

static bool set_tag(struct virtio_9p *p9, const struct options *options, GError **error)
{
    const char *tag = options_string(options, "tag");
    size_t length = strlen(tag);

    if (length == 0 || length > MAX_TAG) {
        options_set_error(error, options, "tag", "must have 1 to %zu bytes", (size_t)MAX_TAG);
        return false;
    }
    G_STATIC_ASSERT(sizeof(p9->tag) == VIRTIO_MAX_CONFIG_SIZE);
    p9->tag.length = GUINT16_TO_LE(length);
    memcpy(p9->tag.text, tag, length);
    memcpy(p9->vdev.config, &p9->tag, sizeof(p9->tag));
    g_snprintf(p9->name, sizeof(p9->name), "9p:%s", tag);
    p9->thread_name = g_strdup_printf("9p-%s", tag);
    return true;
}

static bool open_share(struct virtio_9p *p9, const struct options *options, GError **error)
{
    const char *security = options_string(options, "security");
    struct share_config config = {
        .path = options_string(options, "path"),
        .readonly = options_bool(options, "readonly"),
        .security = !security                              ? SHARE_SECURITY_AUTO
                    : strcmp(security, "passthrough") == 0 ? SHARE_SECURITY_PASSTHROUGH
                                                           : SHARE_SECURITY_NONE,
    };
    struct p9_server_config server = {.name = p9->name, .limit = &p9->limit};

    p9->share = share_open(&config, error);
    if (!p9->share) {
        g_prefix_error(error, "%s: ", options_what(options));
        return false;
    }
    server.share = p9->share;
    p9->server = p9_server_create(&server);
    if (!p9->server) {
        p9->share = NULL;
        options_set_error(error, options, "path", "the directory went away");
        return false;
    }
    return true;
}

static bool start_pool(struct virtio_9p *p9, const struct options *options, GError **error)
{
    struct p9_pool_config config = {
        .server = p9->server,
        .loop = p9->vdev.loop,
        .name = p9->thread_name,
        .threads = options_uint(options, "threads"),
        .done = request_done,
        .batch_done = batch_done,
        .opaque = p9,
    };

    p9->pool = p9_pool_create(&config, error);
    if (!p9->pool) {
        g_prefix_error(error, "%s: ", options_what(options));
    }
    return p9->pool != NULL;
}

struct virtio_device *virtio_9p_create(const struct options *options, struct loop *loop,
                                       GError **error)
{
    struct virtio_ring_options ring;
    struct virtio_9p *p9;
    uint16_t queue_size;
    int ret;

    if (!virtio_ring_options_read(options, &ring, &queue_size, error)) {
        return NULL;
    }
    p9 = g_new0(struct virtio_9p, 1);
    ret = virtio_device_init(&p9->vdev, &p9_class, 1, queue_size, loop);
    if (ret < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-ret), "%s: event file: %s",
                    options_what(options), g_strerror(-ret));
        g_free(p9);
        return NULL;
    }
    virtio_device_set_ring_options(&p9->vdev, &ring);
    p9->requests = g_new0(struct request *, queue_size);
    p9->session = g_byte_array_new();
    if (!set_tag(p9, options, error) || !open_share(p9, options, error) ||
        !start_pool(p9, options, error)) {
        p9_destroy(&p9->vdev);
        return NULL;
    }
    return &p9->vdev;
}
