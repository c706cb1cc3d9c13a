/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of backends/display/vnc with real clients (libvncclient): pictures, input, several viewers, and
 * those that misbehave. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <linux/input-event-codes.h>
#include <rfb/rfbclient.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "backends/display/display.h"
#include "tests/unit/scratch.h"
#include "vmm/log.h"

#define WAIT_NS (5 * G_GINT64_CONSTANT(1000000000))
#define WIDTH   320u
#define HEIGHT  200u

/* What the two libraries forget themselves. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libvncserver.so\nleak:libvncclient.so\n";
}

struct fixture {
    char *folder, *path;
    struct display *display;
    struct display_source *source;
    struct display_input *input;
    struct display_output *output;
    struct display_surface *surface;
    uint32_t wanted_width, wanted_height;
    GString *typed;
};

static void on_resize(void *opaque, unsigned scanout, uint32_t width, uint32_t height)
{
    struct fixture *f = opaque;

    f->wanted_width = width;
    f->wanted_height = height;
}
static const struct display_source_ops source_ops = {on_resize};

static void on_input(void *opaque, const struct display_event *event)
{
    struct fixture *f = opaque;

    if (event->type == DISPLAY_KEY || event->type == DISPLAY_BUTTON)
        g_string_append_printf(f->typed, "%s%u ", event->value ? "+" : "-", event->code);
    else if (event->type == DISPLAY_POSITION || event->type == DISPLAY_WHEEL)
        g_string_append_printf(f->typed, "(%d,%d) ", event->x, event->y);
}
static const struct display_input_ops input_ops = {on_input};

static struct display_output *open_with(struct fixture *f, const char *text, GError **error)
{
    g_autoptr(options_t) options = display_parse(text, error);

    return options ? display_open(f->display, options, error) : NULL;
}

static void set_up(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->folder = scratch_create();
    f->path = g_build_filename(f->folder, "socket", NULL);
    f->display = display_create();
    f->source = display_add_source(f->display, 1, loop_main(), &source_ops, f, NULL);
    f->input = display_add_input(f->display, DISPLAY_KEYS | DISPLAY_ABSOLUTE, -1, loop_main(),
                                 &input_ops, f);
    display_input_set_active(f->input, true);
    f->typed = g_string_new(NULL);
}

static void listen_at_socket(struct fixture *f, const char *more)
{
    g_autofree char *text = g_strdup_printf("vnc,listen=unix:%s%s", f->path, more);
    g_autoptr(GError) error = NULL;

    f->output = open_with(f, text, &error);
    g_assert_no_error(error);
}

static void tear_down(struct fixture *f)
{
    display_close(f->output);
    display_surface_unref(f->surface);
    display_remove_input(f->input);
    display_remove_source(f->source);
    display_destroy(f->display);
    g_string_free(f->typed, TRUE);
    scratch_remove(f->folder);
    g_free(f->folder);
    g_free(f->path);
}

static void turn(void)
{
    while (loop_iterate(loop_main(), false))
        ;
}

/* ---- the guest's side ---- */

static void show(struct fixture *f, uint32_t width, uint32_t height)
{
    display_surface_unref(f->surface);
    f->surface = display_surface_create(width, height);
    display_show(f->source, 0, f->surface);
}

/* A pattern that is different everywhere, and for each @seed. */
static uint32_t colour(uint32_t x, uint32_t y, uint32_t seed)
{
    return ((x * 7 + seed * 40) & 0xff) << 16 | ((y * 5 + seed) & 0xff) << 8 |
           ((x / 16 + y / 16) % 2 ? 0xff : seed & 0x7f);
}

static void draw(struct fixture *f, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                 uint32_t seed)
{
    for (uint32_t row = y; row < y + height; row++)
        for (uint32_t column = x; column < x + width; column++)
            ((uint32_t *)(void *)(f->surface->pixels + (size_t)row * f->surface->stride))[column] =
                0xab000000 | colour(column, row, seed);
    display_damage(f->source, 0, &(struct display_rect){x, y, width, height});
}

/* ---- a client ---- */

struct seen {
    unsigned updates, cursors, resizes;
    int cursor_width, cursor_height, hot_x, hot_y;
    uint32_t cursor_pixel;
    const char *password;
};

static struct seen *seen_of(rfbClient *client)
{
    return rfbClientGetClientData(client, seen_of);
}

static void on_updated(rfbClient *client)
{
    seen_of(client)->updates++;
}

static rfbBool on_size(rfbClient *client)
{
    seen_of(client)->resizes++;
    free(client->frameBuffer);
    client->frameBuffer = calloc((size_t)client->width * client->height, 4);
    return client->frameBuffer != NULL;
}

static void on_cursor(rfbClient *client, int hot_x, int hot_y, int width, int height, int bytes)
{
    struct seen *seen = seen_of(client);

    seen->cursors++;
    seen->cursor_width = width;
    seen->cursor_height = height;
    seen->hot_x = hot_x;
    seen->hot_y = hot_y;
    if (client->rcSource && width && height)
        memcpy(&seen->cursor_pixel, client->rcSource, 4);
}

static char *on_password(rfbClient *client)
{
    return strdup(seen_of(client)->password); /* the library frees it */
}

static void on_log(const char *format, ...)
{
}

/* NULL: refused. */
static rfbClient *connect_to(const char *where, int port, const char *encodings, struct seen *seen)
{
    rfbClient *client = rfbGetClient(8, 3, 4);

    memset(&seen->updates, 0, offsetof(struct seen, password));
    rfbClientLog = rfbClientErr = on_log;
    rfbClientSetClientData(client, seen_of, seen);
    client->FinishedFrameBufferUpdate = on_updated;
    client->MallocFrameBuffer = on_size;
    client->GotCursorShape = on_cursor;
    client->GetPassword = on_password;
    client->canHandleNewFBSize = TRUE;
    client->appData.encodingsString = encodings;
    client->appData.useRemoteCursor = TRUE;
    client->appData.enableJPEG = FALSE;
    client->format.redShift = 16;
    client->format.greenShift = 8;
    client->format.blueShift = 0;
    free(client->serverHost);
    client->serverHost = strdup(where);
    client->serverPort = port;
    return rfbInitClient(client, NULL, NULL) ? client : NULL;
}

static rfbClient *connect_client(struct fixture *f, struct seen *seen)
{
    rfbClient *client = connect_to(f->path, 0, "raw", seen);

    g_assert_nonnull(client);
    return client;
}

static void leave(rfbClient *client)
{
    free(client->frameBuffer);
    client->frameBuffer = NULL;
    rfbClientCleanup(client);
}

/* Lets the client handle what comes for a moment; false: it was disconnected. */
static bool serve(rfbClient *client)
{
    int ready = WaitForMessage(client, 5000);

    turn();
    return ready >= 0 && (!ready || HandleRFBServerMessage(client));
}

static bool shows(rfbClient *client, uint32_t width, uint32_t height, uint32_t seed)
{
    if ((uint32_t)client->width != width || (uint32_t)client->height != height)
        return false;
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++) {
            uint32_t pixel;

            memcpy(&pixel, client->frameBuffer + 4 * ((size_t)y * width + x), 4);
            if ((pixel & 0xffffff) != colour(x, y, seed))
                return false;
        }
    return true;
}

static void await_picture(rfbClient *client, uint32_t width, uint32_t height, uint32_t seed)
{
    int64_t deadline = loop_now_ns() + WAIT_NS;

    while (!shows(client, width, height, seed)) {
        g_assert_true(serve(client));
        g_assert_cmpint(loop_now_ns(), <, deadline);
    }
}

static bool ends(rfbClient *client)
{
    int64_t deadline = loop_now_ns() + WAIT_NS;

    while (loop_now_ns() < deadline)
        if (!serve(client))
            return true;
    return false;
}

static void await_typed(struct fixture *f, rfbClient *client, const char *expected)
{
    int64_t deadline = loop_now_ns() + WAIT_NS;

    while (f->typed->len < strlen(expected) && loop_now_ns() < deadline) {
        if (client)
            g_assert_true(serve(client)); /* it has to read what it asked for */
        turn();
        g_usleep(1000);
    }
    g_assert_cmpstr(f->typed->str, ==, expected);
    g_string_truncate(f->typed, 0);
}

/* ---- pictures ---- */

static void test_picture(gconstpointer encoding)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    draw(&f, 0, 0, WIDTH, HEIGHT, 1);
    listen_at_socket(&f, "");
    client = connect_to(f.path, 0, encoding, &seen);
    g_assert_nonnull(client);
    await_picture(client, WIDTH, HEIGHT, 1);
    for (unsigned seed = 2; seed < 8; seed++) {
        for (unsigned y = 0; y < HEIGHT; y += 50) /* in parts */
            for (unsigned x = 0; x < WIDTH; x += 80)
                draw(&f, x, y, 80, 50, seed);
        await_picture(client, WIDTH, HEIGHT, seed);
    }
    leave(client);
    tear_down(&f);
}

static void test_small_damage_is_sent_alone(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;
    uint32_t pixel;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    draw(&f, 0, 0, WIDTH, HEIGHT, 1);
    listen_at_socket(&f, "");
    client = connect_client(&f, &seen);
    await_picture(client, WIDTH, HEIGHT, 1);
    memset(client->frameBuffer, 0, 4 * WIDTH * HEIGHT);
    draw(&f, 10, 20, 3, 4, 9);
    do {
        g_assert_true(serve(client));
        memcpy(&pixel, client->frameBuffer + 4 * (20 * WIDTH + 10), 4);
    } while (!pixel);
    for (uint32_t i = 0; i < WIDTH * HEIGHT; i++) {
        uint32_t x = i % WIDTH, y = i / WIDTH;

        memcpy(&pixel, client->frameBuffer + 4 * i, 4);
        if (x >= 10 && x < 13 && y >= 20 && y < 24)
            g_assert_cmphex(pixel & 0xffffff, ==, colour(x, y, 9));
        else
            g_assert_cmphex(pixel, ==, 0);
    }
    leave(client);
    tear_down(&f);
}

static void test_resize(void)
{
    static const uint32_t sizes[][2] = {{640, 480}, {33, 7}, {1366, 768}, {1, 1}, {WIDTH, HEIGHT}};
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f); /* dark at first */
    listen_at_socket(&f, "");
    client = connect_client(&f, &seen);
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        show(&f, sizes[i][0], sizes[i][1]);
        draw(&f, 0, 0, sizes[i][0], sizes[i][1], i + 1);
        await_picture(client, sizes[i][0], sizes[i][1], i + 1);
    }
    display_show(f.source, 0, NULL);
    for (int64_t end = loop_now_ns() + WAIT_NS; client->frameBuffer[0] || client->frameBuffer[1];) {
        g_assert_true(serve(client));
        g_assert_cmpint(loop_now_ns(), <, end);
    }
    display_show(f.source, 0, f.surface);
    await_picture(client, WIDTH, HEIGHT, G_N_ELEMENTS(sizes));
    leave(client);
    tear_down(&f);
}

static void test_cursor(void)
{
    g_autoptr(display_surface_t) cursor = display_surface_create(24, 16);
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;
    const uint32_t pixel = 0xff102030;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    client = connect_client(&f, &seen);
    memcpy(cursor->pixels, &pixel, 4);
    display_set_cursor(f.source, 0, cursor, 5, 6);
    for (int64_t end = loop_now_ns() + WAIT_NS; seen.cursor_width != 24;) {
        g_assert_true(serve(client));
        g_assert_cmpint(loop_now_ns(), <, end);
    }
    g_assert_cmpint(seen.cursor_height, ==, 16);
    g_assert_cmpint(seen.hot_x, ==, 5);
    g_assert_cmpint(seen.hot_y, ==, 6);
    g_assert_cmphex(seen.cursor_pixel & 0xffffff, ==, 0x102030);
    leave(client);
    tear_down(&f);
}

static void test_client_asks_for_a_size(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    draw(&f, 0, 0, WIDTH, HEIGHT, 1);
    listen_at_socket(&f, "");
    client = connect_client(&f, &seen);
    await_picture(client, WIDTH, HEIGHT, 1);
    g_assert_true(SendExtDesktopSize(client, 800, 600));
    for (int64_t end = loop_now_ns() + WAIT_NS; f.wanted_width != 800 && loop_now_ns() < end;)
        serve(client);
    g_assert_cmpuint(f.wanted_width, ==, 800);
    g_assert_cmpuint(f.wanted_height, ==, 600);
    show(&f, 800, 600);
    draw(&f, 0, 0, 800, 600, 2);
    await_picture(client, 800, 600, 2);
    leave(client);
    tear_down(&f);
}

/* ---- input ---- */

static void test_input(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    client = connect_client(&f, &seen);
    SendKeyEvent(client, 'a', TRUE);
    SendKeyEvent(client, 'a', FALSE);
    SendKeyEvent(client, 0xffe3, TRUE);
    SendKeyEvent(client, 0x12345, TRUE); /* no key */
    await_typed(&f, client, "+30 -30 +29 ");
    SendPointerEvent(client, 0, 0, rfbButton1Mask);
    await_typed(&f, client, "(51,81) +272 ");
    SendPointerEvent(client, WIDTH - 1, HEIGHT - 1, rfbButton1Mask | rfbButton3Mask);
    SendPointerEvent(client, WIDTH + 50, HEIGHT + 50, rfbButton3Mask | 8);
    await_typed(&f, client, "(32715,32685) +273 -272 (0,1) ");
    leave(client); /* it held Ctrl and the right button */
    await_typed(&f, NULL, "-29 -273 ");
    tear_down(&f);
}

static void test_view_only(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, ",view-only");
    client = connect_client(&f, &seen);
    SendKeyEvent(client, 'a', TRUE);
    SendPointerEvent(client, 1, 1, 1);
    SendExtDesktopSize(client, 800, 600);
    draw(&f, 0, 0, WIDTH, HEIGHT, 1);
    await_picture(client, WIDTH, HEIGHT, 1);
    g_assert_cmpstr(f.typed->str, ==, "");
    g_assert_cmpuint(f.wanted_width, ==, 0);
    leave(client);
    tear_down(&f);
}

/* ---- several, and bad ones ---- */

static int connect_raw(struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, f->path, sizeof(address.sun_path));
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

static void put(int fd, const void *data, size_t size)
{
    g_assert_cmpint(send(fd, data, size, MSG_NOSIGNAL), ==, (ssize_t)size);
}

static void get(int fd, void *data, size_t size)
{
    g_assert_cmpint(recv(fd, data, size, MSG_WAITALL), ==, (ssize_t)size);
}

/* A client past its greeting that asks for the whole picture and reads nothing. */
static int connect_stuck(struct fixture *f, unsigned requests)
{
    const uint8_t request[10] = {3, 0, 0, 0, 0, 0, WIDTH >> 8, WIDTH & 0xff, 0, HEIGHT};
    int fd = connect_raw(f);
    uint8_t data[64];
    uint32_t length;

    get(fd, data, 12);
    put(fd, "RFB 003.008\n", 12);
    get(fd, data, 2); /* one kind of security: none */
    g_assert_cmpint(data[1], ==, 1);
    put(fd, "\1", 1);
    get(fd, data, 4);
    put(fd, "\1", 1);
    get(fd, data, 24);
    memcpy(&length, data + 20, 4);
    get(fd, data, ntohl(length));
    for (unsigned i = 0; i < requests; i++)
        put(fd, request, sizeof(request));
    return fd;
}

static void test_two_viewers(void)
{
    struct seen seen[2] = {};
    rfbClient *clients[2];
    struct fixture f;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    for (unsigned i = 0; i < 2; i++)
        clients[i] = connect_client(&f, &seen[i]);
    for (unsigned seed = 1; seed < 10; seed++) {
        draw(&f, 0, 0, WIDTH, HEIGHT, seed);
        await_picture(clients[seed % 2], WIDTH, HEIGHT, seed);
        await_picture(clients[1 - seed % 2], WIDTH, HEIGHT, seed);
    }
    leave(clients[0]);
    draw(&f, 0, 0, WIDTH, HEIGHT, 20);
    await_picture(clients[1], WIDTH, HEIGHT, 20);
    leave(clients[1]);
    tear_down(&f);
}

/* Killed with half of an update unread. */
static void test_killed_in_the_middle(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    client = connect_client(&f, &seen);
    for (unsigned seed = 1; seed < 20; seed++) {
        int fd = connect_stuck(&f, 1);
        uint8_t data[1000];

        draw(&f, 0, 0, WIDTH, HEIGHT, seed);
        get(fd, data, sizeof(data));
        close(fd);
        await_picture(client, WIDTH, HEIGHT, seed);
    }
    leave(client);
    tear_down(&f);
}

/* One that never reads: the guest and the other one notice nothing, and the end does not wait for it. */
static void test_stuck_viewer(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;
    int64_t begun;
    int stuck;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    stuck = connect_stuck(&f, 100);
    client = connect_client(&f, &seen);
    for (unsigned seed = 1; seed < 30; seed++) {
        begun = loop_now_ns();
        draw(&f, 0, 0, WIDTH, HEIGHT, seed);
        await_picture(client, WIDTH, HEIGHT, seed);
        g_assert_cmpint(loop_now_ns() - begun, <, WAIT_NS / 2);
    }
    leave(client);
    begun = loop_now_ns();
    display_close(f.output);
    f.output = NULL;
    g_assert_cmpint(loop_now_ns() - begun, <, WAIT_NS / 2);
    close(stuck);
    tear_down(&f);
}

/* One that reads a little at a time gets a picture that is whole in the end, not all those in between. */
static void test_slow_reader(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    client = connect_client(&f, &seen);
    for (unsigned seed = 1; seed < 200; seed++) {
        draw(&f, 0, 0, WIDTH, HEIGHT, seed);
        if (seed % 50 == 0)
            g_assert_true(serve(client));
    }
    await_picture(client, WIDTH, HEIGHT, 199);
    g_assert_cmpuint(seen.updates, <, 20);
    leave(client);
    tear_down(&f);
}

static void test_garbage(void)
{
    GRand *rand = g_rand_new_with_seed(9);
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    for (unsigned i = 0; i < 30; i++) {
        int fd = i % 2 ? connect_raw(&f) : connect_stuck(&f, 1);
        uint8_t data[300];

        for (unsigned k = 0; k < sizeof(data); k++)
            data[k] = g_rand_int(rand);
        if (i % 4 == 0)
            data[0] %= 8; /* a message there is */
        if (send(fd, data, sizeof(data), MSG_NOSIGNAL) < 0)
            g_test_message("closed already");
        turn();
        close(fd);
    }
    for (int64_t end = loop_now_ns() + WAIT_NS;
         loop_now_ns() < end;) { /* all places may be taken */
        client = connect_to(f.path, 0, "raw", &seen);
        if (client)
            break;
        g_usleep(20000);
    }
    g_assert_nonnull(client);
    draw(&f, 0, 0, WIDTH, HEIGHT, 3);
    await_picture(client, WIDTH, HEIGHT, 3);
    leave(client);
    g_rand_free(rand);
    tear_down(&f);
}

static void test_too_many(void)
{
    struct fixture f;
    int fds[17];
    uint8_t data[12];

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    for (unsigned i = 0; i < 16; i++) {
        fds[i] = connect_raw(&f);
        get(fds[i], data, 12);
    }
    fds[16] = connect_raw(&f);
    g_assert_cmpint(recv(fds[16], data, 12, 0), <=, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
        close(fds[i]);
    tear_down(&f);
}

/* ---- who may ---- */

static char *write_password(struct fixture *f, const char *text, int mode)
{
    char *path = g_build_filename(f->folder, "password", NULL);

    g_assert_true(g_file_set_contents(path, text, -1, NULL));
    g_assert_cmpint(g_chmod(path, mode), ==, 0);
    return path;
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, length), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)&address, &length), ==, 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void test_password(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;
    int port = free_port();

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    draw(&f, 0, 0, WIDTH, HEIGHT, 1);
    g_autofree char *file = write_password(&f, "sesame\n", 0600);
    g_autofree char *text = g_strdup_printf("vnc,listen=127.0.0.1:%d,password-file=%s", port, file);
    g_autoptr(GError) error = NULL;

    f.output = open_with(&f, text, &error);
    g_assert_no_error(error);
    log_set_levels("error", NULL);
    seen.password = "simsim";
    g_assert_null(connect_to("127.0.0.1", port, "raw", &seen));
    seen.password = "";
    g_assert_null(connect_to("127.0.0.1", port, "raw", &seen));
    log_set_levels("warn", NULL);
    seen.password = "sesame";
    client = connect_to("127.0.0.1", port, "raw", &seen);
    g_assert_nonnull(client);
    await_picture(client, WIDTH, HEIGHT, 1);
    leave(client);
    tear_down(&f);
}

static void test_password_from_a_descriptor(void)
{
    struct seen seen = {.password = "open"};
    struct fixture f;
    rfbClient *client;
    int ends[2];

    g_assert_cmpint(pipe(ends), ==, 0);
    g_assert_cmpint(write(ends[1], "open\n", 5), ==, 5);
    close(ends[1]);
    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    g_autofree char *more = g_strdup_printf(",password-fd=%d", ends[0]);
    listen_at_socket(&f, more);
    client = connect_to(f.path, 0, "raw", &seen);
    g_assert_nonnull(client);
    leave(client);
    tear_down(&f);
}

static void assert_refused(struct fixture *f, const char *text, const char *word)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(open_with(f, text, &error));
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, word));
}

static void test_refused_options(void)
{
    struct fixture f;
    g_autofree char *bad = NULL, *text = NULL, *empty = NULL;

    set_up(&f);
    assert_refused(&f, "vnc", "listen");
    assert_refused(&f, "vnc,listen=nowhere", "HOST:PORT");
    assert_refused(&f, "vnc,listen=127.0.0.1:0", "password");
    assert_refused(&f, "vnc,listen=[::1]:0", "password");
    assert_refused(&f, "vnc,listen=0.0.0.0:0", "remote=on");
    assert_refused(&f, "vnc,listen=0.0.0.0:0,remote=on", "password");
    assert_refused(&f, "vnc,listen=:70000", "HOST:PORT");
    assert_refused(&f, "vnc,listen=unix:/nonexistent/socket", "listen");
    assert_refused(&f, "vnc,listen=:0,scanout=1", "the machine has 1");
    assert_refused(&f, "vnc,listen=:0,password-fd=987", "password-fd");
    assert_refused(&f, "vnc,listen=:0,password-file=/nonexistent", "password-file");
    assert_refused(&f, "vnc,listen=:0,path=x", "does not go with");
    bad = write_password(&f, "sesame\n", 0644);
    text = g_strdup_printf("vnc,listen=:0,password-file=%s", bad);
    assert_refused(&f, text, "chmod 600");
    empty = write_password(&f, "\n", 0600);
    assert_refused(&f, text, "first line");
    tear_down(&f);
}

static void test_ends_with_the_machine(void)
{
    struct seen seen = {};
    struct fixture f;
    rfbClient *client;

    set_up(&f);
    show(&f, WIDTH, HEIGHT);
    listen_at_socket(&f, "");
    client = connect_client(&f, &seen);
    display_close(f.output);
    f.output = NULL;
    g_assert_true(ends(client));
    leave(client);
    g_assert_false(g_file_test(f.path, G_FILE_TEST_EXISTS));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    static const char *const encodings[] = {"raw", "hextile", "zlib", "tight", "zrle", "rre"};

    g_test_init(&argc, &argv, NULL);
    signal(SIGPIPE, SIG_IGN); /* as lodge does */
    for (unsigned i = 0; i < G_N_ELEMENTS(encodings); i++) {
        g_autofree char *path = g_strdup_printf("/vnc/picture/%s", encodings[i]);

        g_test_add_data_func(path, encodings[i], test_picture);
    }
    g_test_add_func("/vnc/small-damage-is-sent-alone", test_small_damage_is_sent_alone);
    g_test_add_func("/vnc/resize", test_resize);
    g_test_add_func("/vnc/cursor", test_cursor);
    g_test_add_func("/vnc/client-asks-for-a-size", test_client_asks_for_a_size);
    g_test_add_func("/vnc/input", test_input);
    g_test_add_func("/vnc/view-only", test_view_only);
    g_test_add_func("/vnc/two-viewers", test_two_viewers);
    g_test_add_func("/vnc/killed-in-the-middle", test_killed_in_the_middle);
    g_test_add_func("/vnc/stuck-viewer", test_stuck_viewer);
    g_test_add_func("/vnc/slow-reader", test_slow_reader);
    g_test_add_func("/vnc/garbage", test_garbage);
    g_test_add_func("/vnc/too-many", test_too_many);
    g_test_add_func("/vnc/password", test_password);
    g_test_add_func("/vnc/password-from-a-descriptor", test_password_from_a_descriptor);
    g_test_add_func("/vnc/refused-options", test_refused_options);
    g_test_add_func("/vnc/ends-with-the-machine", test_ends_with_the_machine);
    return g_test_run();
}
