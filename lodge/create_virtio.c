/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create_virtio - virtio devices of a machine: the device, its PCI transport, and a slot (create.h) */
#include "lodge/create.h"

#include <string.h>

#include "virtio/9p.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/gpu.h"
#include "virtio/input.h"
#include "virtio/net.h"
#include "virtio/pci.h"
#include "virtio/rng.h"

static void destroy_transport(void *object)
{
    virtio_pci_destroy(object);
}

/* Takes over @vdev (NULL: @error is set already). */
static bool attach(struct machine *machine, struct machine_device *entry,
                   struct virtio_device *vdev, GError **error)
{
    struct virtio_pci *vpci;

    if (!vdev)
        return false;
    vpci = virtio_pci_create(vdev, entry->id, &machine->env, options_bool(entry->options, "msix"),
                             error);
    if (!vpci) {
        vdev->class->destroy(vdev);
        return false;
    }
    entry->object = vpci;
    entry->destroy = destroy_transport;
    entry->vdev = vdev;
    if (!machine_attach(machine, entry, virtio_pci_function(vpci), error))
        return false;
    entry->device = &virtio_pci_function(vpci)->device;
    return true;
}

#define CREATE_VIRTIO(NAME)                                                                        \
    bool create_virtio_##NAME(struct machine *machine, struct machine_device *entry,               \
                              GError **error)                                                      \
    {                                                                                              \
        return attach(                                                                             \
            machine, entry,                                                                        \
            virtio_##NAME##_create(entry->options, machine_io_loop(machine, entry), error),        \
            error);                                                                                \
    }
CREATE_VIRTIO(rng)

bool create_virtio_blk(struct machine *machine, struct machine_device *entry, GError **error)
{
    if (!attach(machine, entry,
                virtio_blk_create(entry->options, machine_io_loop(machine, entry), error), error))
        return false;
    if (options_bool(entry->options, "snapshot"))
        entry->device->migration_blocker =
            "with snapshot=on what the guest writes is in a temporary file";
    return true;
}

/* A guest could only ever mount the first of two shares with the same tag. */
bool create_virtio_9p(struct machine *machine, struct machine_device *entry, GError **error)
{
    const char *tag = options_string(entry->options, "tag");

    for (guint i = 0; i < machine->entries->len; i++) {
        struct machine_device *other = g_ptr_array_index(machine->entries, i);

        if (other->type == entry->type && !strcmp(options_string(other->options, "tag"), tag)) {
            options_set_error(error, entry->options, "tag",
                              "is taken by %s; tags are unique in a machine", other->id);
            return false;
        }
    }
    return attach(machine, entry,
                  virtio_9p_create(entry->options, machine_io_loop(machine, entry), error), error);
}

bool create_virtio_gpu(struct machine *machine, struct machine_device *entry, GError **error)
{
    /* OpenGL takes its time. */
    struct loop *loop = options_bool(entry->options, "virgl")
                            ? machine_own_loop(machine, "gpu-virgl", error)
                            : machine_io_loop(machine, entry);

    return loop && attach(machine, entry,
                          virtio_gpu_create(entry->options, loop, machine->display, error), error);
}

/* Slow, and fed by the main thread or viewers' own: it lives on the main loop. */
bool create_virtio_input(struct machine *machine, struct machine_device *entry, GError **error)
{
    return attach(machine, entry,
                  virtio_input_create(entry->options, loop_main(), machine->display, error), error);
}

static void set_link(struct machine_device *entry, bool up)
{
    virtio_net_set_link(entry->vdev, up);
}

static void announce(struct machine_device *entry)
{
    virtio_net_announce(entry->vdev);
}

bool create_virtio_net(struct machine *machine, struct machine_device *entry, GError **error)
{
    entry->set_link = set_link;
    entry->announce = announce;
    return attach(machine, entry,
                  virtio_net_create(entry->options, machine_io_loop(machine, entry), error), error);
}

/* Consoles and ports are not a data path: they live on the main loop. With a type= key, port 0 is an
 * hvc console on that char backend. */
bool create_virtio_console(struct machine *machine, struct machine_device *entry, GError **error)
{
    struct virtio_device *vdev = virtio_console_create(entry->options, loop_main(), error);
    struct console_port *port;
    struct chardev *chardev;

    if (vdev && machine->hooks.console_created &&
        !machine->hooks.console_created(machine->hooks.opaque, vdev, error)) {
        vdev->class->destroy(vdev);
        return false;
    }
    if (vdev && options_given(entry->options, "type")) {
        chardev = char_open(entry->options, loop_main(), error);
        port = chardev ? virtio_console_add_port(vdev, NULL, true, NULL, NULL, error) : NULL;
        if (!port) {
            if (chardev)
                char_close(chardev);
            vdev->class->destroy(vdev);
            return false;
        }
        machine_console_opened(machine, entry, chardev);
        virtio_console_attach_char(port, chardev);
    }
    return attach(machine, entry, vdev, error);
}
