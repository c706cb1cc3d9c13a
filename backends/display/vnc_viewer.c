/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vnc_viewer - one VNC connection through LibVNCServer (RFC 6143), on a thread of its own
 *
 * LibVNCServer waits for a client that does not read or stops in the middle of a message. So every
 * connection has its own thread, its own server object with that one client, and its own copy of the
 * picture: a slow one keeps nobody waiting, neither the guest nor another viewer, and is dropped when
 * it has taken nothing for WAIT_MS. What changed is taken from the display only when the client has
 * asked for an update, at most once in FRAME_NS: in between the display adds up the damage, and a
 * client that asks for nothing costs nothing.
 *
 * The guest's screen may change its size at any time; a client that does not know of that (no
 * DesktopSize) is disconnected then. A client may ask for another size itself (SetDesktopSize). Keys
 * that a client holds are let go when it leaves. Not served: clipboard, file transfer, UltraVNC's
 * chat.
 *
 * Thread: the viewer's loop, but for create and destroy.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <linux/input-event-codes.h>
#include <rfb/rfb.h>
#include <rfb/rfbregion.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backends/display/keys.h"
#include "backends/display/library.h"
#include "backends/display/vnc_private.h"
#include "vmm/fd.h"
#include "vmm/log.h"
#include "vmm/trace.h"

TRACE_EVENT(vnc_key, "keysym=0x%x code=%u down=%d", (uint32_t keysym, unsigned code, bool down),
            keysym, code, down)
TRACE_EVENT(vnc_pointer, "x=%d y=%d buttons=0x%x", (int x, int y, unsigned buttons), x, y, buttons)
TRACE_EVENT(vnc_update, "%ux%u rects=%u", (uint32_t width, uint32_t height, unsigned rects), width,
            height, rects)

#define LIBRARY      "libvncserver.so.1"
#define NS_PER_MS    G_GINT64_CONSTANT(1000000)
#define FRAME_NS     (16 * NS_PER_MS)
#define GREETING_NS  (15000 * NS_PER_MS) /* for all that comes before the first picture */
#define QUIET_NS     (500 * NS_PER_MS)   /* who moves the pointer knows where it is */
#define WAIT_MS      10000
#define SEND_BUFFER  (24 << 10) /* bytes; the kernel takes it twice */
#define NOT_NOW_MS   (1 << 30)
#define WRONG_US     1000000 /* after a wrong password */
#define DARK_WIDTH   640
#define DARK_HEIGHT  480
#define MAX_CURSOR   64u /* LibVNCServer sends a cursor in one piece */
#define PIXEL        4u
#define BUTTONS      8u
#define CURSOR_SHOWN 128 /* of 255: more than half opaque */

/* clang-format off */
#define FUNCTIONS(X) \
    X(rfbCheckPasswordByList) X(rfbCloseClient) X(rfbFreeCursor) X(rfbGetScreen) \
    X(rfbMarkRectAsModified) X(rfbNewClient) X(rfbNewFramebuffer) X(rfbProcessEvents) \
    X(rfbScreenCleanup) X(rfbSetCursor) X(rfbUpdateClient) X(sraRgnEmpty) X(rfbLog) \
    X(rfbErr)
/* clang-format on */
static struct {
    FUNCTIONS(LIBRARY_MEMBER)
} lib;
static const struct library_symbol symbols[] = {FUNCTIONS(LIBRARY_SYMBOL){}};

struct vnc_viewer {
    const struct vnc_settings *settings;
    void (*gone)(void *opaque, struct vnc_viewer *viewer);
    void *opaque;
    struct loop *loop;
    int fd;        /* LibVNCServer's, until it is asked to serve it */
    int second_fd; /* of the same connection: stays ours to watch, and to cut it */
    struct loop_fd *watch;
    struct loop_timer *frame, *greeting;
    struct display_viewer *viewer;
    rfbScreenInfoPtr screen;
    rfbClientPtr client; /* NULL: gone */
    bool ended;
    bool dirty; /* there is something to take */
    bool dark;
    int64_t next_frame;
    uint8_t *pixels;
    uint8_t held[(KEY_MAX + 1) / 8];
    unsigned buttons;
    int x, y; /* of the pointer */
    int64_t moved;
};

/* ---- input ---- */

static void post(struct vnc_viewer *v, enum display_event_type type, unsigned code, int32_t value,
                 int32_t x, int32_t y)
{
    const struct display_event event = {type, v->settings->scanout, code, value, x, y};

    display_send(v->settings->display, &event);
}

static void set_key(struct vnc_viewer *v, unsigned code, bool down)
{
    uint8_t bit = 1u << code % 8;

    if (down)
        v->held[code / 8] |= bit;
    else
        v->held[code / 8] &= ~bit;
    post(v, DISPLAY_KEY, code, down, 0, 0);
}

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
    struct vnc_viewer *v = client->clientData;
    unsigned code = display_key_of_keysym(keysym);

    trace_vnc_key(keysym, code, down);
    if (!code)
        return;
    set_key(v, code, down);
    post(v, DISPLAY_FRAME, 0, 0, 0, 0);
}

static void send_buttons(struct vnc_viewer *v, unsigned buttons)
{
    static const unsigned codes[BUTTONS] = {BTN_LEFT, BTN_MIDDLE, BTN_RIGHT, 0, 0, 0, 0, BTN_SIDE};
    static const int wheel[BUTTONS][2] = {[3] = {0, 1}, [4] = {0, -1}, [5] = {-1, 0}, [6] = {1, 0}};
    unsigned changed = buttons ^ v->buttons;

    for (unsigned i = 0; i < BUTTONS; i++) {
        bool down = buttons & 1u << i;

        if (!(changed & 1u << i))
            continue;
        if (codes[i])
            post(v, DISPLAY_BUTTON, codes[i], down, 0, 0);
        else if (down)
            post(v, DISPLAY_WHEEL, 0, 0, wheel[i][0], wheel[i][1]);
    }
    v->buttons = buttons;
}

static void on_pointer(int buttons, int x, int y, rfbClientPtr client)
{
    struct vnc_viewer *v = client->clientData;
    struct display_event event = {.type = DISPLAY_POSITION, .scanout = v->settings->scanout};

    trace_vnc_pointer(x, y, buttons);
    x = CLAMP(x, 0, v->screen->width - 1);
    y = CLAMP(y, 0, v->screen->height - 1);
    if (x != v->x || y != v->y || !v->moved) {
        display_to_position(v->screen->width, v->screen->height, x, y, &event);
        if (!display_send(v->settings->display, &event) && v->moved)
            post(v, DISPLAY_MOTION, 0, 0, x - v->x, y - v->y);
    }
    v->x = x;
    v->y = y;
    v->moved = loop_now_ns();
    send_buttons(v, buttons & 0xff);
    post(v, DISPLAY_FRAME, 0, 0, 0, 0);
}

static void let_go(struct vnc_viewer *v)
{
    for (unsigned code = 0; code <= KEY_MAX; code++)
        if (v->held[code / 8] & 1u << code % 8)
            set_key(v, code, false);
    send_buttons(v, 0);
    post(v, DISPLAY_FRAME, 0, 0, 0, 0);
}

static int on_leds(rfbScreenInfoPtr screen)
{
    const struct vnc_viewer *v = screen->screenData;
    uint32_t leds = display_leds(v->settings->display);

    return (leds & 1u << LED_CAPSL ? rfbKeyboardMaskCapsLock : 0) |
           (leds & 1u << LED_NUML ? rfbKeyboardMaskNumLock : 0) |
           (leds & 1u << LED_SCROLLL ? rfbKeyboardMaskScrollLock : 0);
}

static int on_wanted_size(int width, int height, int screens, struct rfbExtDesktopScreen *layout,
                          rfbClientPtr client)
{
    const struct vnc_viewer *v = client->clientData;

    if (v->settings->view_only)
        return rfbExtDesktopSize_ResizeProhibited;
    if (screens != 1 || width <= 0 || height <= 0 ||
        !display_request_size(v->settings->display, v->settings->scanout, width, height))
        return rfbExtDesktopSize_InvalidScreenLayout;
    return rfbExtDesktopSize_Success;
}

/* ---- the picture ---- */

/* LibVNCServer has its own idea of where colours are; the display's is x8r8g8b8. */
static void set_format(struct vnc_viewer *v)
{
    v->screen->serverFormat.redShift = 16;
    v->screen->serverFormat.greenShift = 8;
    v->screen->serverFormat.blueShift = 0;
    if (v->client)
        v->screen->setTranslateFunction(v->client);
}

/* A copy of another size, black. */
static bool resize(struct vnc_viewer *v, uint32_t width, uint32_t height)
{
    uint8_t *pixels = g_try_malloc0((gsize)PIXEL * width * height);
    uint8_t *old = v->pixels;

    if (!pixels || !v->client->useNewFBSize) {
        log_info("vnc", "a viewer is disconnected: %s",
                 pixels ? "the screen's size changes, and it can't follow" : "no memory");
        g_free(pixels);
        lib.rfbCloseClient(v->client);
        return false;
    }
    v->pixels = pixels;
    lib.rfbNewFramebuffer(v->screen, (char *)pixels, width, height, 8, 3, PIXEL);
    set_format(v);
    g_free(old);
    return true;
}

static void copy_rect(struct vnc_viewer *v, const struct display_surface *surface,
                      const struct display_rect *rect)
{
    size_t stride = (size_t)PIXEL * surface->width, bytes = (size_t)PIXEL * rect->width;
    const uint8_t *from = surface->pixels + (size_t)rect->y * surface->stride + PIXEL * rect->x;
    uint8_t *to = v->pixels + rect->y * stride + PIXEL * rect->x;

    for (uint32_t y = 0; y < rect->height; y++, from += surface->stride, to += stride)
        memcpy(to, from, bytes);
    lib.rfbMarkRectAsModified(v->screen, rect->x, rect->y, rect->x + rect->width,
                              rect->y + rect->height);
}

static void darken(struct vnc_viewer *v)
{
    if (!v->dark) {
        memset(v->pixels, 0, (size_t)PIXEL * v->screen->width * v->screen->height);
        lib.rfbMarkRectAsModified(v->screen, 0, 0, v->screen->width, v->screen->height);
    }
    v->dark = true;
}

/* False: the client was disconnected. */
static bool take_picture(struct vnc_viewer *v, const struct display_update *update)
{
    const struct display_surface *surface = update->surface;
    bool whole = v->dark;

    if (!surface) {
        darken(v);
        return true;
    }
    if (surface->width != (uint32_t)v->screen->width ||
        surface->height != (uint32_t)v->screen->height) {
        if (!resize(v, surface->width, surface->height))
            return false;
        whole = true;
    }
    v->dark = false;
    if (whole)
        copy_rect(v, surface, &(struct display_rect){0, 0, surface->width, surface->height});
    for (unsigned i = 0; i < update->rect_count && !whole; i++)
        copy_rect(v, surface, &update->rects[i]);
    return true;
}

/* ---- the cursor ---- */

static rfbCursorPtr make_cursor(const struct display_surface *surface, uint32_t hot_x,
                                uint32_t hot_y)
{
    size_t mask_stride = (surface->width + 7) / 8;
    rfbCursorPtr cursor = calloc(1, sizeof(*cursor)); /* LibVNCServer frees it */

    if (!cursor)
        return NULL;
    cursor->richSource = calloc(surface->height, (size_t)PIXEL * surface->width);
    cursor->mask = calloc(surface->height, mask_stride);
    cursor->cleanup = cursor->cleanupSource = cursor->cleanupMask = cursor->cleanupRichSource =
        TRUE;
    cursor->width = surface->width;
    cursor->height = surface->height;
    cursor->xhot = MIN(hot_x, surface->width - 1);
    cursor->yhot = MIN(hot_y, surface->height - 1);
    for (uint32_t y = 0; y < surface->height && cursor->richSource && cursor->mask; y++) {
        const uint8_t *row = surface->pixels + (size_t)y * surface->stride;

        memcpy(cursor->richSource + (size_t)PIXEL * surface->width * y, row,
               (size_t)PIXEL * surface->width);
        for (uint32_t x = 0; x < surface->width; x++)
            if (row[PIXEL * x + 3] >= CURSOR_SHOWN)
                cursor->mask[y * mask_stride + x / 8] |= 0x80 >> x % 8;
    }
    if (cursor->richSource && cursor->mask)
        return cursor;
    lib.rfbFreeCursor(cursor);
    return NULL;
}

static void take_cursor(struct vnc_viewer *v, const struct display_update *update)
{
    const struct display_surface *surface = update->cursor;

    if (update->cursor_changed) {
        bool fits = surface && surface->width <= MAX_CURSOR && surface->height <= MAX_CURSOR;

        lib.rfbSetCursor(v->screen,
                         fits ? make_cursor(surface, update->hot_x, update->hot_y) : NULL);
    }
    if (!update->cursor_moved)
        return;
    v->screen->cursorX = CLAMP(update->cursor_x, 0, v->screen->width - 1);
    v->screen->cursorY = CLAMP(update->cursor_y, 0, v->screen->height - 1);
    if (loop_now_ns() > v->moved + QUIET_NS)
        v->client->cursorWasMoved = TRUE;
}

/* ---- life ---- */

/* The connection is over. */
static void end(struct vnc_viewer *v)
{
    if (v->ended)
        return;
    v->ended = true;
    g_clear_pointer(&v->watch, loop_fd_destroy);
    g_clear_pointer(&v->viewer, display_remove_viewer);
    let_go(v);
    v->gone(v->opaque, v);
}

static bool wants_update(const struct vnc_viewer *v)
{
    return v->client && v->client->sock != RFB_INVALID_SOCKET && v->client->state == RFB_NORMAL &&
           !lib.sraRgnEmpty(v->client->requestedRegion);
}

/* Sends the client what it waits for, if there is something. */
static void update(struct vnc_viewer *v)
{
    struct display_update update;

    if (v->dirty && wants_update(v)) {
        if (loop_now_ns() < v->next_frame) {
            loop_timer_set(v->frame, v->next_frame);
            return;
        }
        v->dirty = false;
        v->next_frame = loop_now_ns() + FRAME_NS;
        display_take(v->viewer, v->settings->scanout, &update);
        if (take_picture(v, &update))
            take_cursor(v, &update);
        trace_vnc_update(v->screen->width, v->screen->height, update.rect_count);
        display_update_clear(&update);
    }
    v->screen->deferUpdateTime = 0;
    lib.rfbUpdateClient(v->client);
    if (v->client->sock == RFB_INVALID_SOCKET)
        lib.rfbProcessEvents(v->screen, 0); /* frees it */
    if (!v->client)
        end(v);
}

static void on_readable(void *opaque, GIOCondition ready)
{
    struct vnc_viewer *v = opaque;

    v->screen->deferUpdateTime = NOT_NOW_MS; /* what changed is to be taken before */
    lib.rfbProcessEvents(v->screen, 0);      /* one message */
    if (v->client)
        update(v);
    else
        end(v);
}

static void on_changed(void *opaque)
{
    struct vnc_viewer *v = opaque;

    v->dirty = true;
    if (!v->ended && wants_update(v))
        update(v);
}

static void on_frame(void *opaque)
{
    struct vnc_viewer *v = opaque;

    if (!v->ended && v->client)
        update(v);
}

static void on_greeting_over(void *opaque)
{
    struct vnc_viewer *v = opaque;

    if (v->ended || !v->client || v->client->state == RFB_NORMAL)
        return;
    log_info("vnc", "a connection is closed: no VNC client in %d s",
             (int)(GREETING_NS / NS_PER_MS / 1000));
    lib.rfbCloseClient(v->client);
    update(v);
}

static void on_client_gone(rfbClientPtr client)
{
    ((struct vnc_viewer *)client->clientData)->client = NULL;
}

static enum rfbNewClientAction on_new_client(rfbClientPtr client)
{
    struct vnc_viewer *v = client->screen->screenData;

    client->clientData = v;
    client->clientGoneHook = on_client_gone;
    client->viewOnly = v->settings->view_only;
    v->client = client;
    return RFB_CLIENT_ACCEPT;
}

/* LibVNCServer's ciphers are not said to be safe for several threads. */
static rfbBool check_password(rfbClientPtr client, const char *response, int length)
{
    static GMutex lock;
    rfbBool right;

    g_mutex_lock(&lock);
    right = lib.rfbCheckPasswordByList(client, response, length);
    g_mutex_unlock(&lock);
    if (right)
        return TRUE;
    log_warn("vnc", "a viewer gave a wrong password");
    g_usleep(WRONG_US); /* this connection's own thread: nobody else waits */
    return FALSE;
}

static void log_message(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void log_message(const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, format);
    text = g_strdup_vprintf(format, ap);
    va_end(ap);
    log_debug("vnc", "%s", g_strchomp(text));
}

bool vnc_load_library(GError **error)
{
    if (!display_load_library(LIBRARY, symbols, &lib, error))
        return false;
    *lib.rfbLog = *lib.rfbErr = log_message;
    return true;
}

/* The server object with its one client to be; false: no memory. */
static bool create_screen(struct vnc_viewer *v)
{
    g_autoptr(display_surface_t) surface = display_look(v->settings->display, v->settings->scanout);
    unsigned width = surface ? surface->width : DARK_WIDTH;
    unsigned height = surface ? surface->height : DARK_HEIGHT;

    v->pixels = g_try_malloc0((gsize)PIXEL * width * height);
    v->screen = v->pixels ? lib.rfbGetScreen(NULL, NULL, width, height, 8, 3, PIXEL) : NULL;
    if (!v->screen)
        return false;
    v->dark = !surface;
    v->screen->frameBuffer = (char *)v->pixels;
    v->screen->screenData = v;
    v->screen->desktopName = "Lodge";
    v->screen->cursor = NULL;
    v->screen->alwaysShared = TRUE;
    v->screen->deferPtrUpdateTime = 0;
    v->screen->maxClientWait = WAIT_MS;
    v->screen->permitFileTransfer = FALSE;
    v->screen->newClientHook = on_new_client;
    v->screen->kbdAddEvent = on_key;
    v->screen->ptrAddEvent = on_pointer;
    v->screen->getKeyboardLedStateHook = on_leds;
    v->screen->setDesktopSizeHook = on_wanted_size;
    if (v->settings->passwords[0]) {
        v->screen->authPasswdData = (void *)v->settings->passwords;
        v->screen->passwordCheck = check_password;
    }
    set_format(v);
    return true;
}

/* A UNIX socket whose buffer is full does not become writable by being shut down, which is how a
 * thread is woken that waits there; a larger buffer makes it so. */
static void set_send_buffer(int fd, int bytes)
{
    int family;
    socklen_t length = sizeof(family);

    if (!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length) && family == AF_UNIX)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static void begin(void *opaque)
{
    struct vnc_viewer *v = opaque;
    int fd = v->fd;

    if (!create_screen(v)) {
        log_warn("vnc", "a viewer is disconnected: no memory");
        end(v);
        return;
    }
    v->fd = -1;
    v->viewer = display_add_viewer(v->settings->display, v->loop, on_changed, v);
    if (!v->viewer)
        close(fd);
    else
        lib.rfbNewClient(v->screen, fd); /* closes it if it can't */
    if (!v->client) {
        end(v);
        return;
    }
    v->watch = loop_fd_create(v->loop, v->second_fd, G_IO_IN, on_readable, v);
    loop_timer_set(v->greeting, loop_now_ns() + GREETING_NS);
}

static void finish(void *opaque)
{
    struct vnc_viewer *v = opaque;

    if (v->screen) {
        if (v->client)
            lib.rfbCloseClient(v->client);
        lib.rfbProcessEvents(v->screen, 0);
        lib.rfbScreenCleanup(v->screen);
    }
    end(v);
    loop_timer_destroy(v->frame);
    loop_timer_destroy(v->greeting);
}

struct vnc_viewer *vnc_viewer_create(const struct vnc_settings *settings, int fd,
                                     void (*gone)(void *opaque, struct vnc_viewer *viewer),
                                     void *opaque, GError **error)
{
    int second_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct vnc_viewer *v;
    struct loop *loop;

    set_send_buffer(fd, SEND_BUFFER);
    /* LibVNCServer uses select(2). */
    if (second_fd < 0 || fd >= FD_SETSIZE) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_TOO_MANY_OPEN_FILES, "too many open files");
        close(fd);
        close_fd(second_fd);
        return NULL;
    }
    loop = loop_create("vnc-viewer", error);
    if (!loop) {
        close(fd);
        close(second_fd);
        return NULL;
    }
    v = g_new0(struct vnc_viewer, 1);
    v->settings = settings;
    v->gone = gone;
    v->opaque = opaque;
    v->loop = loop;
    v->fd = fd;
    v->second_fd = second_fd;
    v->frame = loop_timer_create(loop, on_frame, v);
    v->greeting = loop_timer_create(loop, on_greeting_over, v);
    loop_defer(loop, begin, v);
    return v;
}

void vnc_viewer_destroy(struct vnc_viewer *v)
{
    shutdown(v->second_fd, SHUT_RDWR); /* wakes it from whatever it waits for there */
    set_send_buffer(v->second_fd, 8 * SEND_BUFFER);
    loop_call(v->loop, finish, v);
    loop_destroy(v->loop);
    close(v->second_fd);
    close_fd(v->fd);
    g_free(v->pixels);
    g_free(v);
}
