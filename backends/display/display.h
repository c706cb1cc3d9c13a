/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * display - where a guest's pictures meet those who look at them, and their input the guest's devices
 *
 * One struct display a machine. Four parties, each with its own loop, none of which waits for another:
 *
 *     source   a display device (virtio/gpu): shows surfaces on scanouts, says what it changed, moves
 *              the cursor; is asked for other sizes
 *     viewer   a window, a VNC server, a PNG file: is woken once, then takes what changed since it last
 *              did, when it likes. A viewer that never does costs nothing
 *     typist   whoever has keys and pointer movements (mostly viewers): display_send()
 *     input    an input device (virtio/input) that takes them: a bounded queue for each
 *
 * Coordinates and sizes are pixels, from the upper left corner. The guest says sizes and positions:
 * the source has checked that a surface is what it says and that damage lies within.
 *
 * A surface is shared, not copied: its size never changes, its pixels do, while viewers read them. A
 * viewer may see half of a change; the damage that follows a change makes it look again. A source whose
 * pixels have to be fetched from elsewhere may do so when somebody looks (display_damage_behind).
 *
 * Threads: any, unless said otherwise; callbacks come on the loop that was given, with no lock held.
 */
#ifndef BACKENDS_DISPLAY_DISPLAY_H
#define BACKENDS_DISPLAY_DISPLAY_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/loop.h"
#include "vmm/options.h"

#define DISPLAY_MAX_SCANOUTS 16u
#define DISPLAY_MAX_SIZE     16384u /* pixels, each way */
#define DISPLAY_MAX_RECTS    8u     /* of damage that is kept apart */
#define DISPLAY_MAX_POSITION                                                                       \
    32767 /* right and lower end of positions, whatever the scanout's size */

struct display;

struct display_rect {
    uint32_t x, y, width, height;
};

/* ---- surfaces ---- */

/*
 * Pixels are 32 bits, little-endian 0xXXRRGGBB (B, G, R, X in memory: pixman's x8r8g8b8, DRM's
 * XRGB8888). Of a cursor 0xAARRGGBB, premultiplied; of anything else X means nothing.
 */
struct display_surface {
    uint32_t width, height; /* 1 to DISPLAY_MAX_SIZE */
    uint32_t stride;        /* bytes, at least 4 * width, a multiple of 4 */
    uint8_t *pixels;        /* the upper left one; only the source writes */
    int references;         /* atomic */
    void (*release)(void *opaque);
    void *opaque;
};

/* A surface with memory of its own, black; NULL: no memory, or a size of 0 or beyond the limits. */
struct display_surface *display_surface_create(uint32_t width, uint32_t height);
/* A surface over @pixels, which stay until @release is called (once, on any thread). */
struct display_surface *display_surface_wrap(uint32_t width, uint32_t height, uint32_t stride,
                                             uint8_t *pixels, void (*release)(void *opaque),
                                             void *opaque);
struct display_surface *display_surface_ref(struct display_surface *surface);
void display_surface_unref(struct display_surface *surface); /* NULL is allowed */
typedef struct display_surface display_surface_t;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(display_surface_t, display_surface_unref)

struct display *display_create(void);
/* After all sources, viewers and inputs are gone; NULL is allowed. */
void display_destroy(struct display *display);
unsigned display_scanouts(struct display *display); /* of all sources */

/* ---- a source ---- */

struct display_source;
struct display_source_ops {
    /* Somebody wants @scanout (of this source, from 0) to be that large; 0 x 0: to look unplugged. Only
     * the last wish for each scanout is told. */
    void (*resize)(void *opaque, unsigned scanout, uint32_t width, uint32_t height);
    /* Somebody is about to look at @scanout, whose pixels are behind: bring them up to date. On the
     * source's loop, for which the viewer waits. NULL: they never are. */
    void (*refresh)(void *opaque, unsigned scanout);
};
/* Adds @count scanouts after those there are; main thread, before there are viewers. NULL with @error
 * set when it would be more than DISPLAY_MAX_SCANOUTS. */
struct display_source *display_add_source(struct display *display, unsigned count,
                                          struct loop *loop, const struct display_source_ops *ops,
                                          void *opaque, GError **error);
/* Its scanouts stay, dark. On the source's loop, or while that does not run; NULL is allowed. */
void display_remove_source(struct display_source *source);

/* @scanout shows @surface (NULL: it is off) from now on, all of it damaged. Takes its own reference. */
void display_show(struct display_source *source, unsigned scanout, struct display_surface *surface);
/* Pixels in @rect changed; what lies outside of the surface does not count. */
void display_damage(struct display_source *source, unsigned scanout,
                    const struct display_rect *rect);
/* The same, of pixels that the surface doesn't have yet: ops->refresh fetches them when somebody looks, so
 * that what nobody looks at costs nothing. */
void display_damage_behind(struct display_source *source, unsigned scanout,
                           const struct display_rect *rect);
/* @cursor: NULL hides it. It does not change once it was given. Takes its own reference. */
void display_set_cursor(struct display_source *source, unsigned scanout,
                        struct display_surface *cursor, uint32_t hot_x, uint32_t hot_y);
/* Where the cursor's upper left corner is, as DRM drivers say it; the hot spot is hot_x, hot_y from
 * there. Either may lie outside. */
void display_move_cursor(struct display_source *source, unsigned scanout, int32_t x, int32_t y);

/* ---- a viewer ---- */

struct display_viewer;
/* What happened to a scanout since the viewer last took it. */
struct display_update {
    struct display_surface *surface; /* NULL: off. The caller's reference */
    bool mode_changed;               /* another size, or on or off */
    unsigned rect_count;             /* damage; within the surface */
    struct display_rect rects[DISPLAY_MAX_RECTS];
    bool cursor_changed, cursor_moved;
    struct display_surface *cursor; /* NULL: hidden. The caller's reference */
    uint32_t hot_x, hot_y;
    int32_t cursor_x, cursor_y;
};

/* @changed is called on @loop when there is something to take: at once, and then once after each time
 * the viewer took something. On @loop's thread, or while that does not run: @changed would come before
 * this returns. NULL: no event file (errno). */
struct display_viewer *display_add_viewer(struct display *display, struct loop *loop,
                                          loop_fn changed, void *opaque);
/* On the viewer's loop, or while that does not run; NULL is allowed. */
void display_remove_viewer(struct display_viewer *viewer);
/* False: nothing happened on @scanout since the last time; @update then has the present state all the
 * same. Clear it with display_update_clear() either way. */
bool display_take(struct display_viewer *viewer, unsigned scanout, struct display_update *update);
void display_update_clear(struct display_update *update);
/* What @scanout shows now (the caller's reference), or NULL: off, or no such scanout. Like display_take()
 * it may wait for the source's loop: not on an I/O loop of another's. */
struct display_surface *display_look(struct display *display, unsigned scanout);
/* Asks the source for another size; 0 x 0: unplugged. False: no such scanout, or beyond the limits. */
bool display_request_size(struct display *display, unsigned scanout, uint32_t width,
                          uint32_t height);

/* ---- input ---- */

enum display_input_kind {
    DISPLAY_KEYS = 1 << 0,
    DISPLAY_RELATIVE = 1 << 1, /* a mouse */
    DISPLAY_ABSOLUTE = 1 << 2, /* a tablet */
    DISPLAY_TOUCH = 1 << 3,
};

enum display_event_type {
    DISPLAY_KEY,        /* code: KEY_* of <linux/input-event-codes.h>; value: 1 down, 0 up */
    DISPLAY_BUTTON,     /* code: BTN_*; value: 1 down, 0 up */
    DISPLAY_MOTION,     /* x, y: by so many pixels */
    DISPLAY_POSITION,   /* x, y: 0 to DISPLAY_MAX_POSITION, on @scanout */
    DISPLAY_WHEEL,      /* x: clicks to the right; y: clicks away from the user */
    DISPLAY_TOUCH_DOWN, /* code: slot; x, y: as for POSITION */
    DISPLAY_TOUCH_MOVE,
    DISPLAY_TOUCH_UP,    /* code: slot */
    DISPLAY_FRAME,       /* what came since the last one happened at once */
    DISPLAY_RELEASE_ALL, /* all keys, buttons and fingers are up: sent, or events were lost */
};

struct display_event {
    enum display_event_type type;
    unsigned scanout;
    unsigned code;
    int32_t value;
    int32_t x, y;
};

struct display_input;
struct display_input_ops {
    void (*event)(void *opaque, const struct display_event *event);
};

/* An input device of these @kinds, for @scanout only, or for all (-1). Inactive at first. Main thread;
 * NULL: no event file (errno). */
struct display_input *display_add_input(struct display *display, unsigned kinds, int scanout,
                                        struct loop *loop, const struct display_input_ops *ops,
                                        void *opaque);
void display_remove_input(struct display_input *input); /* on its loop, or while that is still */
/* Does its driver listen? An inactive one is sent nothing. */
void display_input_set_active(struct display_input *input, bool active);
/* Lit LEDs: bits 1 << LED_* of <linux/input-event-codes.h>; viewers are woken. */
void display_input_set_leds(struct display_input *input, uint32_t leds);

/*
 * Sends an event to the active device of its kind that was added first, and is for its scanout. Buttons
 * and the wheel go with the pointer that moved last (at first: a tablet if there is one). False: nobody
 * takes it. Codes are checked by the device. A device that does not listen loses events, then gets
 * DISPLAY_RELEASE_ALL.
 */
bool display_send(struct display *display, const struct display_event *event);
/* Pixel @x, @y of a scanout of that size, as x and y of a position: its middle. */
void display_to_position(uint32_t width, uint32_t height, uint32_t x, uint32_t y,
                         struct display_event *event);
unsigned display_input_kinds(struct display *display); /* of active devices */
uint32_t display_leds(struct display *display);        /* of all keyboards */

/* ---- what --display opens ---- */

/* Keys: type (none, png, vnc, sdl), scanout, and those of each type. */
extern const struct option_spec display_options[];

/* What --display is given: TYPE,KEY=VALUE..., or vnc=WHERE. NULL with @error set: no such type or key, or one
 * that does not go with the type. Any thread; free with options_free. */
struct options *display_parse(const char *text, GError **error);

struct display_output;
/* With options of display_parse(). Main thread. NULL with @error set: what can't be served, and which
 * library or permission is missing. */
struct display_output *display_open(struct display *display, const struct options *options,
                                    GError **error);
void display_close(struct display_output *output); /* main thread; NULL is allowed */
/* "png", for messages. */
const char *display_output_type(const struct display_output *output);

/* ---- pictures in files ---- */

/*
 * Writes @surface to the file @path, which is replaced at once when all is written: PNG, or PPM if the
 * name ends in .ppm. Takes as long as it takes: not on an I/O loop. Any thread.
 */
bool display_write_picture(const struct display_surface *surface, const char *path, GError **error);

#endif
