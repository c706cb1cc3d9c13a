/* SPDX-License-Identifier: GPL-2.0-or-later */
/* screen - the machine's screens (screen.h) */
#include "lodge/screen.h"

#include "backends/display/display.h"

bool screen_open(struct machine *machine, GError **error)
{
    const GPtrArray *wanted = machine->config->displays;

    for (guint i = 0; i < wanted->len; i++) {
        struct display_output *output =
            display_open(machine->display, g_ptr_array_index(wanted, i), error);
        if (!output)
            return false;
        g_ptr_array_add(machine->displays, output);
    }
    return true;
}

void screen_close(struct machine *machine)
{
    g_ptr_array_set_size(machine->displays, 0);
}

static bool has_scanout(struct machine *machine, unsigned scanout, GError **error)
{
    unsigned count = display_scanouts(machine->display);

    if (scanout < count)
        return true;
    if (count)
        g_set_error(error, OPTIONS_ERROR, 0, "scanout %u: the machine has %u, counted from 0",
                    scanout, count);
    else
        g_set_error(error, OPTIONS_ERROR, 0, "the machine has no screen: run it with --gpu");
    return false;
}

bool screen_dump(struct machine *machine, unsigned scanout, const char *path, GError **error)
{
    g_autoptr(display_surface_t) surface = NULL;

    if (!has_scanout(machine, scanout, error))
        return false;
    surface = display_look(machine->display, scanout);
    if (surface)
        return display_write_picture(surface, path, error);
    g_set_error(error, OPTIONS_ERROR, 0, "scanout %u is dark: the guest shows nothing there",
                scanout);
    return false;
}

bool screen_resize(struct machine *machine, unsigned scanout, unsigned width, unsigned height,
                   GError **error)
{
    if (!has_scanout(machine, scanout, error))
        return false;
    if (display_request_size(machine->display, scanout, width, height))
        return true;
    g_set_error(error, OPTIONS_ERROR, 0,
                "%ux%u: width and height must be 1 to %u, or both 0 to unplug the screen", width,
                height, DISPLAY_MAX_SIZE);
    return false;
}

JsonNode *screen_query(struct machine *machine)
{
    JsonArray *array = json_array_new();
    JsonNode *node = json_node_new(JSON_NODE_ARRAY);

    for (unsigned i = 0; i < display_scanouts(machine->display); i++) {
        g_autoptr(display_surface_t) surface = display_look(machine->display, i);
        JsonObject *object = json_object_new();

        json_object_set_int_member(object, "scanout", i);
        json_object_set_boolean_member(object, "on", surface != NULL);
        json_object_set_int_member(object, "width", surface ? surface->width : 0);
        json_object_set_int_member(object, "height", surface ? surface->height : 0);
        json_array_add_object_element(array, object);
    }
    json_node_take_array(node, array);
    return node;
}
