/* SPDX-License-Identifier: GPL-2.0-or-later */
/* open - what --display opens: the keys and the kinds (contract: display.h; driver.h) */
#include <limits.h>
#include <string.h>

#include "backends/display/driver.h"
#include "config.h"

static const char *const types[] = {"none", "png", "vnc", "sdl", NULL};
static const struct display_driver *const drivers[] = {&display_none, &display_png, &display_vnc,
                                                       &display_sdl};

const struct option_spec display_options[] = {
    {"type", OPTION_ENUM, .flags = OPTION_REQUIRED | OPTION_FIRST, .choices = types,
     .help = "none: pictures on demand (screendump); png: a file that follows the picture; "
             "vnc: for VNC viewers; sdl: a window"},
    {"path", OPTION_PATH, .help = "png: the file, replaced at every change"},
    {"scanout", OPTION_UINT, .value = "0", .max = DISPLAY_MAX_SCANOUTS - 1,
     .help = "png, vnc, sdl: which one, counted from 0"},
    {"interval", OPTION_UINT, .value = "1000", .min = 10, .max = 3600000,
     .help = "png: milliseconds between two writes, at least"},
    {"listen", OPTION_STRING, .help = "vnc: unix:PATH, or HOST:PORT (a password is needed there)"},
    {"password-file", OPTION_PATH, .help = "vnc: its first line is the password; mode 0600"},
    {"password-fd", OPTION_UINT, .max = INT_MAX, .help = "vnc: a descriptor to read it from"},
    {"view-only", OPTION_BOOL, .value = "off", .help = "vnc: viewers can't type or resize"},
    {"remote", OPTION_BOOL, .value = "off", .help = "vnc: HOST may be other than loopback"},
    {},
};

struct display_output {
    const struct display_driver *driver;
    void *state;
};

static bool check_keys(const struct options *options, const struct display_driver *driver,
                       GError **error)
{
    for (const struct option_spec *spec = display_options; spec->key; spec++) {
        if (!strcmp(spec->key, "type") || !options_given(options, spec->key) ||
            g_strv_contains(driver->keys, spec->key))
            continue;
        options_set_error(error, options, spec->key, "does not go with type=%s", driver->type);
        return false;
    }
    return true;
}

static void *open_none(struct display *display, const struct options *options, GError **error)
{
    return display;
}

static void close_none(void *state)
{
}

#ifndef HAVE_LIBVNCSERVER
static const char *const vnc_keys[] = {
    "listen", "scanout", "password-file", "password-fd", "view-only", "remote", NULL};

static void *open_missing_vnc(struct display *display, const struct options *options,
                              GError **error)
{
    options_set_error(error, options, "type",
                      "this lodge was built without LibVNCServer (Debian: libvncserver-dev)");
    return NULL;
}

const struct display_driver display_vnc = {"vnc", vnc_keys, open_missing_vnc, close_none};
#endif

#ifndef HAVE_SDL2
static const char *const sdl_keys[] = {"scanout", NULL};

static void *open_missing_sdl(struct display *display, const struct options *options,
                              GError **error)
{
    options_set_error(error, options, "type",
                      "this lodge was built without SDL 2 (Debian: libsdl2-dev)");
    return NULL;
}

const struct display_driver display_sdl = {"sdl", sdl_keys, open_missing_sdl, close_none};
#endif

static const char *const no_keys[] = {NULL};
const struct display_driver display_none = {"none", no_keys, open_none, close_none};

static const struct display_driver *find_driver(const struct options *options)
{
    const char *type = options_string(options, "type");

    for (unsigned i = 0; i < G_N_ELEMENTS(drivers); i++)
        if (!strcmp(drivers[i]->type, type))
            return drivers[i];
    g_assert_not_reached(); /* the option's choices are the drivers */
}

struct options *display_parse(const char *text, GError **error)
{
    /* "vnc=WHERE": where it listens. */
    g_autofree char *spelled = g_str_has_prefix(text, "vnc=")
                                   ? g_strconcat("vnc,listen=", text + 4, NULL)
                                   : g_strdup(text);
    g_autoptr(options_t) options = options_parse(display_options, "--display", spelled, error);

    if (!options || !check_keys(options, find_driver(options), error))
        return NULL;
    return g_steal_pointer(&options);
}

struct display_output *display_open(struct display *display, const struct options *options,
                                    GError **error)
{
    const struct display_driver *driver = find_driver(options);
    struct display_output *output;
    void *state = driver->open(display, options, error);

    if (!state)
        return NULL;
    output = g_new0(struct display_output, 1);
    output->driver = driver;
    output->state = state;
    return output;
}

void display_close(struct display_output *output)
{
    if (!output)
        return;
    output->driver->close(output->state);
    g_free(output);
}

const char *display_output_type(const struct display_output *output)
{
    return output->driver->type;
}
