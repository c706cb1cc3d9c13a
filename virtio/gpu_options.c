/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gpu_options - the keys of virtio/gpu, with or without the device behind them (contract: gpu.h) */
#include <gio/gio.h>

#include "backends/display/display.h"
#include "config.h"
#include "virtio/gpu.h"

const struct option_spec virtio_gpu_options[] = {
    {"scanouts", OPTION_UINT, .value = "1", .min = 1, .max = DISPLAY_MAX_SCANOUTS,
     .help = "screens"},
    {"width", OPTION_UINT, .value = "1280", .min = 64, .max = DISPLAY_MAX_SIZE,
     .help = "pixels across that each screen prefers"},
    {"height", OPTION_UINT, .value = "800", .min = 64, .max = DISPLAY_MAX_SIZE,
     .help = "pixels down that each screen prefers"},
    {"memory", OPTION_SIZE, .value = "256M", .min = 1 << 20, .max = UINT64_C(2) << 30,
     .help = "host memory that the guest's resources may take"},
    {"edid", OPTION_BOOL, .value = "on", .help = "describe the screens by EDID"},
    {"blob", OPTION_BOOL, .value = "on",
     .help = "offer resources in guest memory, if this lodge's kernel headers know them"},
    {"virgl", OPTION_BOOL, .value = "off",
     .help = "3D by virglrenderer and the host's OpenGL, if the host can"},
    VIRTIO_DEVICE_OPTIONS,
    {},
};

#ifndef HAVE_PIXMAN

struct virtio_device *virtio_gpu_create(const struct options *options, struct loop *loop,
                                        struct display *display, GError **error)
{
    g_set_error(error, OPTIONS_ERROR, 0,
                "%s: this lodge was built without pixman; install it (Debian: apt-get install "
                "libpixman-1-dev) and build again",
                options_what(options));
    return NULL;
}

#endif
