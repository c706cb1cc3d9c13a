/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * types - every device type there is (types.h): to add a device, add its row here
 */
#include "lodge/types.h"

#include <string.h>

#include "backends/block/block.h"
#include "backends/net/net.h"
#include "backends/rdma/rdma.h"
#include "devices/pvrdma/pvrdma.h"
#include "devices/vmxnet3/vmxnet3.h"
#include "lodge/create.h"
#include "virtio/9p.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/gpu.h"
#include "virtio/input.h"
#include "virtio/net.h"
#include "virtio/rng.h"

/* Keys of every device, of PCI devices, and of virtio devices, before the type's own. */
static const struct option_spec common_options[] = {
    {"id", OPTION_STRING, .help = "name, unique in the machine (default: made up)"},
    {},
};
static const struct option_spec pci_options[] = {
    {"slot", OPTION_UINT, .min = 1, .max = 31, .help = "PCI slot (default: the next free one)"},
    {},
};
static const struct option_spec io_options[] = {
    {"iothread", OPTION_UINT, .max = 15, .help = "which I/O thread serves it (default: in turn)"},
    {},
};
static const struct option_spec virtio_options[] = {
    {"msix", OPTION_BOOL, .value = "on", .help = "offer MSI-X; else interrupt pin only"},
    {},
};

/* What a restore may change of a share: the guest sees its tag and whether it may write. */
static const struct option_spec share_host_options[] = {
    {"path", OPTION_PATH}, {"security", OPTION_ENUM}, {"threads", OPTION_UINT}, {}};

static const struct device_type type_serial = {
    .name = "serial",
    .prefix = "serial",
    .summary = "16550A serial port (stock driver 8250)",
    .manual =
        "COM1 at port 0x3f8, GSI 4, then COM2 at port 0x2f8, GSI 3: ttyS0 and ttyS1. Connected\n"
        "to a char backend: the terminal, a pty, a file, a socket, or nothing.",
    .options = char_options,
    .host = char_options,
    .create = create_serial,
};
static const struct device_type type_rtc = {
    .name = "rtc",
    .prefix = "rtc",
    .summary = "MC146818 real-time clock (stock driver rtc_cmos)",
    .flags = DEVICE_TYPE_SINGLE,
    .create = create_rtc,
};
static const struct device_type type_acpi = {
    .name = "acpi",
    .prefix = "acpi",
    .summary = "reset, power-off and power button of a hardware-reduced ACPI machine",
    .manual = "Always there.",
    .flags = DEVICE_TYPE_SINGLE,
    .create = create_acpi,
};
static const struct device_type type_debug_exit = {
    .name = "debug-exit",
    .prefix = "debug-exit",
    .summary = "port 0xf4: a write ends lodge with status (value << 1) | 1",
    .manual = "Always there.",
    .flags = DEVICE_TYPE_SINGLE,
    .create = create_debug_exit,
};
static const struct device_type type_boot_timing = {
    .name = "boot-timing",
    .prefix = "boot-timing",
    .summary = "port 0x80: records when progress codes were written",
    .manual = "Always there. The times are in --result and in `lodge ctl SOCKET stats`.",
    .flags = DEVICE_TYPE_SINGLE,
    .create = create_boot_timing,
};
static const struct device_type type_pvpanic = {
    .name = "pvpanic",
    .prefix = "pvpanic",
    .summary = "tells of the guest's kernel panics (stock driver pvpanic-pci)",
    .flags = DEVICE_TYPE_SINGLE | DEVICE_TYPE_PCI,
    .create = create_pvpanic,
};
static const struct device_type type_vmgenid = {
    .name = "vmgenid",
    .prefix = "vmgenid",
    .summary = "generation id: tells a guest that it was copied (stock driver vmgenid)",
    .flags = DEVICE_TYPE_SINGLE,
    .create = create_vmgenid,
};
static const struct device_type type_blk = {
    .name = "virtio-blk",
    .prefix = "disk",
    .summary = "disk (--disk; stock driver virtio_blk)",
    .manual =
        "A raw image file or a block device. Guest writes go to the file; an image is locked, so\n"
        "that two guests do not write to it at once.",
    .options = virtio_blk_options,
    .host = block_options,
    .flags = DEVICE_TYPE_PCI | DEVICE_TYPE_VIRTIO,
    .create = create_virtio_blk,
};
static const struct device_type type_net = {
    .name = "virtio-net",
    .prefix = "net",
    .summary = "network interface (--net; stock driver virtio_net)",
    .manual =
        "type=user needs no privileges: the guest is 10.0.2.15 behind NAT, the host is 10.0.2.2.\n"
        "lodge's own init sets that up, unless the parameters (-p lodge.ip=...) say otherwise.\n"
        "type=tap is the fastest; type=stream and type=dgram connect to passt, to QEMU and to\n"
        "other guests. pcap=FILE records every frame. model=vmxnet3 is another card (`lodge "
        "devices\n"
        "vmxnet3`).",
    .options = virtio_net_options,
    .host = net_options,
    .flags = DEVICE_TYPE_PCI | DEVICE_TYPE_VIRTIO,
    .create = create_virtio_net,
};
static const struct device_type type_vmxnet3 = {
    .name = "vmxnet3",
    .prefix = "vmxnet",
    .summary = "network interface (--net model=vmxnet3; stock driver vmxnet3)",
    .manual =
        "Revision 3 of VMware's paravirtual interface, for guests that have its driver: up to 8\n"
        "queues a direction, checksums, TSO and LRO, VLAN tags, multicast filter, RSS. Connected\n"
        "to the host as virtio-net is. The driver begins with an MTU of 1500, whatever the host's\n"
        "is; it takes up to 9000.",
    .options = vmxnet3_options,
    .host = net_options,
    .flags = DEVICE_TYPE_PCI | DEVICE_TYPE_IO,
    .create = create_vmxnet3,
};
static const struct device_type type_pvrdma = {
    .name = "pvrdma",
    .prefix = "rdma",
    .summary = "RDMA adapter (--rdma; stock driver vmw_pvrdma)",
    .manual = "RoCE v2, device version 20: queue pairs (RC, UD), shared receive queues, RDMA read "
              "and write,\n"
              "atomics, fast registration, events. It is function 1 of the slot of a vmxnet3, "
              "whose address\n"
              "and link it has: --rdma makes both (net= and what follows is the interface's), "
              "--device pvrdma\n"
              "takes the last vmxnet3 before it, or nic=.\n"
              "backend=loopback connects the queue pairs of one guest with each other, and needs "
              "no RDMA\n"
              "device. Debian's kernels leave the driver out: guest-images/modules/build makes it "
              "from the\n"
              "kernel's own source; vmxnet3 is to be loaded before it.",
    .options = pvrdma_options,
    .host = rdma_options,
    .flags = DEVICE_TYPE_IO,
    .shares_memory = pvrdma_shares_memory,
    .create = create_pvrdma,
};
static const struct device_type type_console = {
    .name = "virtio-console",
    .prefix = "console",
    .summary = "console and byte streams (stock driver virtio_console)",
    .manual =
        "With type=, port 0 is the console hvc0 on that char backend. Command mode adds its own\n"
        "named ports, whether or not.",
    .options = virtio_console_options,
    .backend = char_options,
    .host = char_options,
    .flags = DEVICE_TYPE_PCI | DEVICE_TYPE_VIRTIO,
    .create = create_virtio_console,
};
static const struct device_type type_rng = {
    .name = "virtio-rng",
    .prefix = "rng",
    .summary = "entropy source (--rng; stock driver virtio-rng)",
    .options = virtio_rng_options,
    .flags = DEVICE_TYPE_PCI | DEVICE_TYPE_VIRTIO,
    .create = create_virtio_rng,
};
static const struct device_type type_gpu = {
    .name = "virtio-gpu",
    .prefix = "gpu",
    .summary = "GPU (--gpu; stock driver virtio_gpu)",
    .manual =
        "The guest's console and desktops on screens that --display shows and `lodge ctl SOCKET\n"
        "screendump FILE` takes pictures of. Needs pixman when lodge is built. With virgl=on "
        "guests draw\n"
        "in 3D with the host's OpenGL, without a screen of the host's: it needs virglrenderer, EGL "
        "and\n"
        "Mesa's drivers. Such a guest can be saved only while none of its programs uses 3D.",
    .options = virtio_gpu_options,
    .flags = DEVICE_TYPE_PCI | DEVICE_TYPE_VIRTIO,
    .create = create_virtio_gpu,
};
static const struct device_type type_input = {
    .name = "virtio-input",
    .prefix = "input",
    .summary = "keyboard, tablet, mouse or touch screen (stock driver virtio_input)",
    .manual =
        "Takes what viewers of --display, and `lodge ctl SOCKET send-key` and `pointer`, send. A\n"
        "machine with --gpu has a keyboard and a tablet, unless it is given other devices of this\n"
        "type, or --defaults off.",
    .options = virtio_input_options,
    .flags = DEVICE_TYPE_PCI | DEVICE_TYPE_VIRTIO,
    .create = create_virtio_input,
};
static const struct device_type type_9p = {
    .name = "virtio-9p",
    .prefix = "share",
    .summary = "shared host folder (--share; stock driver 9pnet_virtio)",
    .manual =
        "In the guest: mount -t 9p -o trans=virtio,version=9p2000.L TAG /mnt. readonly is kept by\n"
        "the host, whatever the guest does; nothing outside of the folder can be reached.",
    .options = virtio_9p_options,
    .host = share_host_options,
    .flags = DEVICE_TYPE_PCI | DEVICE_TYPE_VIRTIO,
    .create = create_virtio_9p,
};

const struct device_type *const device_types[] = {
    &type_acpi,    &type_boot_timing, &type_debug_exit, &type_serial,  &type_rtc,    &type_pvpanic,
    &type_vmgenid, &type_blk,         &type_net,        &type_vmxnet3, &type_pvrdma, &type_console,
    &type_rng,     &type_9p,          &type_gpu,        &type_input,   NULL,
};

const struct device_type *device_type_find(const char *name)
{
    for (unsigned i = 0; device_types[i]; i++)
        if (!strcmp(device_types[i]->name, name))
            return device_types[i];
    return NULL;
}

static void append(GArray *all, const struct option_spec *specs, unsigned dropped_flags)
{
    for (; specs && specs->key; specs++) {
        struct option_spec spec = *specs;

        spec.flags &= ~dropped_flags;
        g_array_append_val(all, spec);
    }
}

/* All keys of @type, made once; main thread only. */
static const struct option_spec *compose(GHashTable **tables, const struct device_type *type,
                                         unsigned dropped_flags)
{
    GArray *all;

    if (!*tables)
        *tables = g_hash_table_new(NULL, NULL);
    all = g_hash_table_lookup(*tables, type);
    if (!all) {
        all = g_array_new(TRUE, TRUE, sizeof(struct option_spec));
        append(all, type->options, dropped_flags);
        append(all, type->backend, OPTION_REQUIRED); /* the type may do without */
        append(all, common_options, dropped_flags);
        if (type->flags & DEVICE_TYPE_PCI)
            append(all, pci_options, dropped_flags);
        if (type->flags & (DEVICE_TYPE_VIRTIO | DEVICE_TYPE_IO))
            append(all, io_options, dropped_flags);
        if (type->flags & DEVICE_TYPE_VIRTIO)
            append(all, virtio_options, dropped_flags);
        g_hash_table_insert(*tables, (gpointer)type, all);
    }
    return (const struct option_spec *)(void *)all->data;
}

const struct option_spec *device_type_options(const struct device_type *type)
{
    static GHashTable *tables; /* type -> its composed table */

    return compose(&tables, type, 0);
}

const struct option_spec *device_type_change_options(const struct device_type *type)
{
    static GHashTable *tables;

    return compose(&tables, type, OPTION_REQUIRED);
}

bool device_type_is_host_key(const struct device_type *type, const char *key)
{
    if (!strcmp(key, "iothread"))
        return true;
    for (const struct option_spec *spec = type->host; spec && spec->key; spec++)
        if (!strcmp(spec->key, key))
            return true;
    return false;
}
