/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sdl - --display sdl: a window on this machine's screen, through SDL 2
 *
 * A thread of its own does all that SDL does: it opens the window, copies what the guest changed into
 * a texture, and looks for input every POLL_NS, as SDL has nothing to wait for. The window follows
 * the guest's screen; resizing it asks the guest for that size. Closing it ends the display, not the
 * guest. Keys are taken by their place on the keyboard, so that layouts are the guest's business.
 *
 * SDL is one a process, and so is this display.
 */
#include <SDL.h>
#include <errno.h>
#include <gio/gio.h>
#include <linux/input-event-codes.h>

#include "backends/display/driver.h"
#include "backends/display/library.h"
#include "vmm/log.h"

#define LIBRARY     "libSDL2-2.0.so.0"
#define POLL_NS     (10 * G_GINT64_CONSTANT(1000000))
#define DARK_WIDTH  640
#define DARK_HEIGHT 480
#define FINGERS     10u
#define POSITION(f) ((int32_t)(CLAMP(f, 0.0f, 1.0f) * DISPLAY_MAX_POSITION))

/* clang-format off */
#define FUNCTIONS(X) \
    X(SDL_CreateColorCursor) X(SDL_CreateRGBSurfaceWithFormatFrom) X(SDL_CreateRenderer) \
    X(SDL_CreateTexture) X(SDL_CreateWindow) X(SDL_DestroyRenderer) X(SDL_DestroyTexture) \
    X(SDL_DestroyWindow) X(SDL_EventState) X(SDL_FreeCursor) X(SDL_FreeSurface) \
    X(SDL_GetDefaultCursor) X(SDL_GetError) X(SDL_GetWindowSize) X(SDL_Init) \
    X(SDL_PollEvent) X(SDL_Quit) X(SDL_RenderClear) X(SDL_RenderCopy) X(SDL_RenderPresent) \
    X(SDL_SetCursor) X(SDL_SetHint) X(SDL_SetMainReady) X(SDL_SetWindowSize) \
    X(SDL_UpdateTexture) X(SDL_WasInit)
/* clang-format on */
static struct {
    FUNCTIONS(LIBRARY_MEMBER)
} lib;
static const struct library_symbol symbols[] = {FUNCTIONS(LIBRARY_SYMBOL){}};

struct sdl {
    struct display *display;
    unsigned scanout;
    struct loop *loop;
    struct loop_timer *poll;
    struct display_viewer *viewer;
    SDL_Window *window; /* NULL: closed */
    SDL_Renderer *renderer;
    SDL_Texture *texture; /* NULL: dark */
    SDL_Cursor *cursor;
    int width, height;             /* of the texture */
    int asked_width, asked_height; /* the window's, as the guest was told or told us */
    SDL_FingerID fingers[FINGERS];
    bool touching[FINGERS];
    char *problem; /* of the start */
};

/* USB HID usages, which SDL's scancodes are, from 4 on. */
static const uint8_t keys[] = {
    KEY_A,          KEY_B,          KEY_C,          KEY_D,          KEY_E,         KEY_F,
    KEY_G,          KEY_H,          KEY_I,          KEY_J,          KEY_K,         KEY_L,
    KEY_M,          KEY_N,          KEY_O,          KEY_P,          KEY_Q,         KEY_R,
    KEY_S,          KEY_T,          KEY_U,          KEY_V,          KEY_W,         KEY_X,
    KEY_Y,          KEY_Z,          KEY_1,          KEY_2,          KEY_3,         KEY_4,
    KEY_5,          KEY_6,          KEY_7,          KEY_8,          KEY_9,         KEY_0,
    KEY_ENTER,      KEY_ESC,        KEY_BACKSPACE,  KEY_TAB,        KEY_SPACE,     KEY_MINUS,
    KEY_EQUAL,      KEY_LEFTBRACE,  KEY_RIGHTBRACE, KEY_BACKSLASH,  KEY_BACKSLASH, KEY_SEMICOLON,
    KEY_APOSTROPHE, KEY_GRAVE,      KEY_COMMA,      KEY_DOT,        KEY_SLASH,     KEY_CAPSLOCK,
    KEY_F1,         KEY_F2,         KEY_F3,         KEY_F4,         KEY_F5,        KEY_F6,
    KEY_F7,         KEY_F8,         KEY_F9,         KEY_F10,        KEY_F11,       KEY_F12,
    KEY_SYSRQ,      KEY_SCROLLLOCK, KEY_PAUSE,      KEY_INSERT,     KEY_HOME,      KEY_PAGEUP,
    KEY_DELETE,     KEY_END,        KEY_PAGEDOWN,   KEY_RIGHT,      KEY_LEFT,      KEY_DOWN,
    KEY_UP,         KEY_NUMLOCK,    KEY_KPSLASH,    KEY_KPASTERISK, KEY_KPMINUS,   KEY_KPPLUS,
    KEY_KPENTER,    KEY_KP1,        KEY_KP2,        KEY_KP3,        KEY_KP4,       KEY_KP5,
    KEY_KP6,        KEY_KP7,        KEY_KP8,        KEY_KP9,        KEY_KP0,       KEY_KPDOT,
    KEY_102ND,      KEY_COMPOSE,    KEY_POWER,      KEY_KPEQUAL,    KEY_F13,       KEY_F14,
    KEY_F15,        KEY_F16,        KEY_F17,        KEY_F18,        KEY_F19,       KEY_F20,
    KEY_F21,        KEY_F22,        KEY_F23,        KEY_F24,
};
static const uint8_t modifiers[] = {KEY_LEFTCTRL,  KEY_LEFTSHIFT,  KEY_LEFTALT,  KEY_LEFTMETA,
                                    KEY_RIGHTCTRL, KEY_RIGHTSHIFT, KEY_RIGHTALT, KEY_RIGHTMETA};

static unsigned key_of(SDL_Scancode scancode)
{
    if (scancode >= SDL_SCANCODE_A && scancode - SDL_SCANCODE_A < G_N_ELEMENTS(keys))
        return keys[scancode - SDL_SCANCODE_A];
    if (scancode >= SDL_SCANCODE_LCTRL && scancode <= SDL_SCANCODE_RGUI)
        return modifiers[scancode - SDL_SCANCODE_LCTRL];
    return 0;
}

/* ---- input ---- */

static bool post(struct sdl *sdl, enum display_event_type type, unsigned code, int32_t value,
                 int32_t x, int32_t y)
{
    const struct display_event event = {type, sdl->scanout, code, value, x, y};

    return display_send(sdl->display, &event);
}

static void on_key(struct sdl *sdl, const SDL_KeyboardEvent *event)
{
    unsigned code = key_of(event->keysym.scancode);

    if (code && !event->repeat) /* the guest repeats keys itself */
        post(sdl, DISPLAY_KEY, code, event->state == SDL_PRESSED, 0, 0);
}

static void on_motion(struct sdl *sdl, const SDL_MouseMotionEvent *motion)
{
    struct display_event event = {.type = DISPLAY_POSITION, .scanout = sdl->scanout};
    int width, height;

    if (motion->which == SDL_TOUCH_MOUSEID)
        return;
    lib.SDL_GetWindowSize(sdl->window, &width, &height);
    display_to_position(MAX(width, 1), MAX(height, 1), MAX(motion->x, 0), MAX(motion->y, 0),
                        &event);
    if (!display_send(sdl->display, &event))
        post(sdl, DISPLAY_MOTION, 0, 0, motion->xrel, motion->yrel);
}

static void on_button(struct sdl *sdl, const SDL_MouseButtonEvent *event)
{
    static const unsigned codes[] = {
        [SDL_BUTTON_LEFT] = BTN_LEFT,   [SDL_BUTTON_MIDDLE] = BTN_MIDDLE,
        [SDL_BUTTON_RIGHT] = BTN_RIGHT, [SDL_BUTTON_X1] = BTN_SIDE,
        [SDL_BUTTON_X2] = BTN_EXTRA,
    };

    if (event->which != SDL_TOUCH_MOUSEID && event->button < G_N_ELEMENTS(codes) &&
        codes[event->button])
        post(sdl, DISPLAY_BUTTON, codes[event->button], event->state == SDL_PRESSED, 0, 0);
}

static void on_finger(struct sdl *sdl, const SDL_TouchFingerEvent *event)
{
    unsigned slot = 0;

    while (slot < FINGERS && !(sdl->touching[slot] && sdl->fingers[slot] == event->fingerId))
        slot++;
    if (event->type == SDL_FINGERDOWN && slot == FINGERS) {
        for (slot = 0; slot < FINGERS && sdl->touching[slot];)
            slot++;
    }
    if (slot == FINGERS)
        return;
    sdl->touching[slot] = event->type != SDL_FINGERUP;
    sdl->fingers[slot] = event->fingerId;
    post(sdl,
         event->type == SDL_FINGERUP     ? DISPLAY_TOUCH_UP
         : event->type == SDL_FINGERDOWN ? DISPLAY_TOUCH_DOWN
                                         : DISPLAY_TOUCH_MOVE,
         slot, 0, POSITION(event->x), POSITION(event->y));
}

static void draw(struct sdl *sdl)
{
    lib.SDL_RenderClear(sdl->renderer);
    if (sdl->texture)
        lib.SDL_RenderCopy(sdl->renderer, sdl->texture, NULL, NULL);
    lib.SDL_RenderPresent(sdl->renderer);
}

static void close_window(struct sdl *sdl)
{
    g_clear_pointer(&sdl->texture, lib.SDL_DestroyTexture);
    g_clear_pointer(&sdl->renderer, lib.SDL_DestroyRenderer);
    g_clear_pointer(&sdl->cursor, lib.SDL_FreeCursor);
    g_clear_pointer(&sdl->window, lib.SDL_DestroyWindow);
}

static void on_window(struct sdl *sdl, const SDL_WindowEvent *event)
{
    switch (event->event) {
    case SDL_WINDOWEVENT_RESIZED:
        if (event->data1 == sdl->asked_width && event->data2 == sdl->asked_height)
            break;
        sdl->asked_width = event->data1;
        sdl->asked_height = event->data2;
        display_request_size(sdl->display, sdl->scanout, event->data1, event->data2);
        break;
    case SDL_WINDOWEVENT_FOCUS_LOST:
        post(sdl, DISPLAY_RELEASE_ALL, 0, 0, 0, 0);
        break;
    case SDL_WINDOWEVENT_EXPOSED:
        draw(sdl);
        break;
    case SDL_WINDOWEVENT_CLOSE:
        log_info("display", "sdl: the window was closed; the guest goes on");
        post(sdl, DISPLAY_RELEASE_ALL, 0, 0, 0, 0);
        close_window(sdl);
        break;
    default:
        break;
    }
}

static void on_sdl_event(struct sdl *sdl, const SDL_Event *event)
{
    switch (event->type) {
    case SDL_KEYDOWN:
    case SDL_KEYUP:
        on_key(sdl, &event->key);
        break;
    case SDL_MOUSEMOTION:
        on_motion(sdl, &event->motion);
        break;
    case SDL_MOUSEBUTTONDOWN:
    case SDL_MOUSEBUTTONUP:
        on_button(sdl, &event->button);
        break;
    case SDL_MOUSEWHEEL:
        post(sdl, DISPLAY_WHEEL, 0, 0, event->wheel.x, event->wheel.y);
        break;
    case SDL_FINGERDOWN:
    case SDL_FINGERMOTION:
    case SDL_FINGERUP:
        on_finger(sdl, &event->tfinger);
        break;
    case SDL_WINDOWEVENT:
        on_window(sdl, &event->window);
        break;
    default:
        return;
    }
    post(sdl, DISPLAY_FRAME, 0, 0, 0, 0);
}

static void on_poll(void *opaque)
{
    struct sdl *sdl = opaque;
    SDL_Event event;

    while (sdl->window && lib.SDL_PollEvent(&event))
        on_sdl_event(sdl, &event);
    if (sdl->window)
        loop_timer_set(sdl->poll, loop_now_ns() + POLL_NS);
}

/* ---- the picture ---- */

static void set_texture(struct sdl *sdl, const struct display_surface *surface)
{
    int width = surface ? (int)surface->width : DARK_WIDTH;
    int height = surface ? (int)surface->height : DARK_HEIGHT;

    g_clear_pointer(&sdl->texture, lib.SDL_DestroyTexture);
    if (surface) {
        sdl->texture = lib.SDL_CreateTexture(sdl->renderer, SDL_PIXELFORMAT_RGB888,
                                             SDL_TEXTUREACCESS_STREAMING, width, height);
        if (!sdl->texture)
            log_warn("display", "sdl: %d by %d pixels: %s", width, height, lib.SDL_GetError());
    }
    sdl->width = width;
    sdl->height = height;
    if (width == sdl->asked_width && height == sdl->asked_height)
        return;
    sdl->asked_width = width;
    sdl->asked_height = height;
    lib.SDL_SetWindowSize(sdl->window, width, height);
}

static void update_rect(struct sdl *sdl, const struct display_surface *surface,
                        const struct display_rect *rect)
{
    const SDL_Rect area = {rect->x, rect->y, rect->width, rect->height};

    lib.SDL_UpdateTexture(sdl->texture, &area,
                          surface->pixels + (size_t)rect->y * surface->stride + 4 * (size_t)rect->x,
                          surface->stride);
}

static void set_cursor(struct sdl *sdl, const struct display_update *update)
{
    const struct display_surface *surface = update->cursor;
    SDL_Cursor *cursor = NULL;
    SDL_Surface *image;

    if (surface) {
        image =
            lib.SDL_CreateRGBSurfaceWithFormatFrom(surface->pixels, surface->width, surface->height,
                                                   32, surface->stride, SDL_PIXELFORMAT_ARGB8888);
        cursor = image ? lib.SDL_CreateColorCursor(image, update->hot_x, update->hot_y) : NULL;
        lib.SDL_FreeSurface(image);
    }
    lib.SDL_SetCursor(cursor ? cursor : lib.SDL_GetDefaultCursor());
    lib.SDL_FreeCursor(sdl->cursor);
    sdl->cursor = cursor;
}

static void on_changed(void *opaque)
{
    struct sdl *sdl = opaque;
    const struct display_surface *surface;
    struct display_update update;

    if (!sdl->window)
        return; /* nothing is taken any more, so nothing wakes us */
    display_take(sdl->viewer, sdl->scanout, &update);
    surface = update.surface;
    if (!surface || !sdl->texture || (int)surface->width != sdl->width ||
        (int)surface->height != sdl->height) {
        set_texture(sdl, surface);
        if (sdl->texture)
            update_rect(sdl, surface,
                        &(struct display_rect){0, 0, surface->width, surface->height});
    } else {
        for (unsigned i = 0; i < update.rect_count; i++)
            update_rect(sdl, surface, &update.rects[i]);
    }
    if (update.cursor_changed)
        set_cursor(sdl, &update);
    draw(sdl);
    display_update_clear(&update);
}

/* ---- life ---- */

static void start(void *opaque)
{
    struct sdl *sdl = opaque;

    lib.SDL_SetMainReady();
    lib.SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1");
    lib.SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1");
    if (lib.SDL_Init(SDL_INIT_VIDEO)) {
        sdl->problem = g_strdup(lib.SDL_GetError());
        return;
    }
    sdl->asked_width = DARK_WIDTH;
    sdl->asked_height = DARK_HEIGHT;
    sdl->window = lib.SDL_CreateWindow("Lodge", SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED,
                                       DARK_WIDTH, DARK_HEIGHT, SDL_WINDOW_RESIZABLE);
    sdl->renderer = sdl->window ? lib.SDL_CreateRenderer(sdl->window, -1, 0) : NULL;
    if (!sdl->renderer) {
        sdl->problem = g_strdup(lib.SDL_GetError());
        return;
    }
    lib.SDL_EventState(SDL_DROPFILE, SDL_IGNORE);
    sdl->viewer = display_add_viewer(sdl->display, sdl->loop, on_changed, sdl);
    if (sdl->viewer)
        loop_timer_set(sdl->poll, loop_now_ns());
    else
        sdl->problem = g_strdup_printf("event file: %s", g_strerror(errno));
}

static void stop(void *opaque)
{
    struct sdl *sdl = opaque;

    loop_timer_destroy(sdl->poll);
    display_remove_viewer(sdl->viewer);
    close_window(sdl);
    lib.SDL_Quit();
}

static void close_sdl(void *state)
{
    struct sdl *sdl = state;

    loop_call(sdl->loop, stop, sdl);
    loop_destroy(sdl->loop);
    g_free(sdl->problem);
    g_free(sdl);
}

static void *open_sdl(struct display *display, const struct options *options, GError **error)
{
    unsigned scanouts = display_scanouts(display);
    g_autoptr(GError) reason = NULL;
    struct loop *loop;
    struct sdl *sdl;

    if (options_uint(options, "scanout") >= scanouts) {
        options_set_error(error, options, "scanout", "the machine has %u", scanouts);
        return NULL;
    }
    if (!display_load_library(LIBRARY, symbols, &lib, &reason)) {
        options_set_error(error, options, "type", "%s (Debian: libsdl2-2.0-0)", reason->message);
        return NULL;
    }
    if (lib.SDL_WasInit(SDL_INIT_VIDEO)) {
        options_set_error(error, options, "type", "there is a window already, and SDL has one");
        return NULL;
    }
    loop = loop_create("display-sdl", error);
    if (!loop)
        return NULL;
    sdl = g_new0(struct sdl, 1);
    sdl->display = display;
    sdl->scanout = options_uint(options, "scanout");
    sdl->loop = loop;
    sdl->poll = loop_timer_create(loop, on_poll, sdl);
    loop_call(loop, start, sdl);
    if (!sdl->problem)
        return sdl;
    options_set_error(error, options, "type",
                      "no window: %s; it needs a screen (DISPLAY or WAYLAND_DISPLAY)",
                      sdl->problem);
    close_sdl(sdl);
    return NULL;
}

static const char *const sdl_keys[] = {"scanout", NULL};
const struct display_driver display_sdl = {"sdl", sdl_keys, open_sdl, close_sdl};
