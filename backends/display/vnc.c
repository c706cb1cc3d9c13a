/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vnc - --display vnc=unix:PATH, vnc=HOST:PORT: viewers over the network (RFC 6143)
 *
 * Who may look and type: over a UNIX socket whoever may open its file (mode 0600), with a password if
 * one is given; over TCP nobody without a password, and nobody from other machines unless remote=on
 * is said. The password comes from a file or a descriptor, since others can read command lines. VNC's
 * own check uses its first 8 bytes and encrypts nothing else: over networks, forward a socket by SSH.
 *
 * A thread accepts; each connection has one of its own (vnc_viewer.c). At most MAX_VIEWERS.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/display/driver.h"
#include "backends/display/vnc_private.h"
#include "vmm/fd.h"
#include "vmm/log.h"
#include "vmm/unixsocket.h"

#define MAX_VIEWERS     16u
#define MAX_PASSWORD    128u
#define VNC_PASSWORD    8u /* as many bytes count */
#define BACKLOG         8
#define ACCEPT_RETRY_NS G_GINT64_CONSTANT(1000000000)

struct vnc {
    struct vnc_settings settings;
    struct loop *loop; /* of the listening thread */
    struct unixsocket *socket;
    int tcp_fd; /* -1: none */
    struct loop_fd *watch;
    struct loop_timer *retry;
    GMutex lock;
    GPtrArray *viewers; /* struct vnc_viewer *; lock */
};

/* ---- connections ---- */

struct end {
    struct vnc *vnc;
    struct vnc_viewer *viewer;
};

/* On the listening thread: a viewer's own can't end itself. */
static void reap(void *opaque)
{
    struct end *end = opaque;
    bool there;

    g_mutex_lock(&end->vnc->lock);
    there = g_ptr_array_remove(end->vnc->viewers, end->viewer);
    g_mutex_unlock(&end->vnc->lock);
    if (there)
        vnc_viewer_destroy(end->viewer);
    g_free(end);
}

static void on_gone(void *opaque, struct vnc_viewer *viewer)
{
    struct vnc *vnc = opaque;
    struct end *end = g_new(struct end, 1);

    *end = (struct end){vnc, viewer};
    loop_defer(vnc->loop, reap, end);
}

static void on_connection(void *opaque, int fd)
{
    struct vnc *vnc = opaque;
    g_autoptr(GError) error = NULL;
    struct vnc_viewer *viewer;

    g_mutex_lock(&vnc->lock);
    if (vnc->viewers->len >= MAX_VIEWERS) {
        log_warn("vnc", "more than %u viewers: one was refused", MAX_VIEWERS);
        close(fd);
    } else {
        viewer = vnc_viewer_create(&vnc->settings, fd, on_gone, vnc, &error);
        if (viewer)
            g_ptr_array_add(vnc->viewers, viewer);
        else
            log_warn("vnc", "a viewer was refused: %s", error->message);
    }
    g_mutex_unlock(&vnc->lock);
}

static void on_tcp(void *opaque, GIOCondition ready)
{
    struct vnc *vnc = opaque;
    int fd = accept4(vnc->tcp_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        on_connection(vnc, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        log_warn("vnc", "accept: %s", g_strerror(errno));
        loop_fd_set_events(vnc->watch, 0);
        loop_timer_set(vnc->retry, loop_now_ns() + ACCEPT_RETRY_NS);
    }
}

static void on_retry(void *opaque)
{
    struct vnc *vnc = opaque;

    loop_fd_set_events(vnc->watch, G_IO_IN);
}

static void start(void *opaque)
{
    struct vnc *vnc = opaque;

    if (vnc->socket)
        unixsocket_watch(vnc->socket, vnc->loop, on_connection, vnc);
    else
        vnc->watch = loop_fd_create(vnc->loop, vnc->tcp_fd, G_IO_IN, on_tcp, vnc);
}

static void stop(void *opaque)
{
    struct vnc *vnc = opaque;

    if (vnc->socket)
        unixsocket_unwatch(vnc->socket);
    g_clear_pointer(&vnc->watch, loop_fd_destroy);
    loop_timer_destroy(vnc->retry);
}

static void close_vnc(void *state)
{
    struct vnc *vnc = state;

    loop_call(vnc->loop, stop, vnc);
    for (;;) { /* nobody adds to them any more; some may be ending on their own */
        struct vnc_viewer *viewer = NULL;

        g_mutex_lock(&vnc->lock);
        if (vnc->viewers->len)
            viewer = g_ptr_array_steal_index(vnc->viewers, vnc->viewers->len - 1);
        g_mutex_unlock(&vnc->lock);
        if (!viewer)
            break;
        vnc_viewer_destroy(viewer);
    }
    loop_destroy(vnc->loop);
    unixsocket_destroy(vnc->socket);
    close_fd(vnc->tcp_fd);
    g_ptr_array_unref(vnc->viewers);
    g_mutex_clear(&vnc->lock);
    if (vnc->settings.passwords[0])
        explicit_bzero(vnc->settings.passwords[0], strlen(vnc->settings.passwords[0]));
    g_free(vnc->settings.passwords[0]);
    g_free(vnc);
}

/* ---- the password ---- */

/* The first line of @fd: NULL with @error set if there is none, or too much. The caller frees it. */
static char *read_password(int fd, const struct options *options, const char *key, GError **error)
{
    char text[MAX_PASSWORD + 2];
    size_t length = 0;
    ssize_t got;

    while (length < sizeof(text) - 1) {
        got = read(fd, text + length, sizeof(text) - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        length += got;
        if (memchr(text, '\n', length))
            break;
    }
    text[length] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    length = strlen(text);
    if (!length || length > MAX_PASSWORD) {
        options_set_error(error, options, key, "its first line must be a password, 1 to %u bytes",
                          MAX_PASSWORD);
        return NULL;
    }
    if (length > VNC_PASSWORD)
        log_warn("vnc", "the password has %zu bytes: VNC looks at the first %u", length,
                 VNC_PASSWORD);
    return g_strdup(text);
}

static char *read_password_file(const struct options *options, GError **error)
{
    int fd = open(options_string(options, "password-file"), O_RDONLY | O_CLOEXEC);
    struct stat status;
    char *password = NULL;

    if (fd < 0 || fstat(fd, &status)) {
        options_set_error(error, options, "password-file", "%s", g_strerror(errno));
    } else if (status.st_mode & (S_IRWXG | S_IRWXO)) {
        options_set_error(error, options, "password-file",
                          "others may use it (mode %04o); chmod 600 it", status.st_mode & 07777);
    } else {
        password = read_password(fd, options, "password-file", error);
    }
    close_fd(fd);
    return password;
}

/* False: @error says why there is none although one was given. */
static bool take_password(struct vnc *vnc, const struct options *options, GError **error)
{
    char **password = &vnc->settings.passwords[0];
    int fd;

    if (options_given(options, "password-file") && options_given(options, "password-fd")) {
        options_set_error(error, options, "password-fd", "excludes password-file");
        return false;
    }
    if (options_given(options, "password-file")) {
        *password = read_password_file(options, error);
        return *password != NULL;
    }
    if (!options_given(options, "password-fd"))
        return true;
    fd = options_uint(options, "password-fd");
    if (fcntl(fd, F_GETFD) < 0) {
        options_set_error(error, options, "password-fd", "%s", g_strerror(errno));
        return false;
    }
    *password = read_password(fd, options, "password-fd", error);
    close(fd);
    return *password != NULL;
}

/* ---- listening ---- */

static bool is_loopback(const struct sockaddr *address)
{
    const struct sockaddr_in6 *six = (const void *)address;
    const struct sockaddr_in *four = (const void *)address;

    if (address->sa_family == AF_INET)
        return ntohl(four->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

/* "HOST:PORT" or "[HOST]:PORT"; no HOST is 127.0.0.1. NULL with @error set. */
static struct addrinfo *resolve(const struct options *options, const char *text, GError **error)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(text, ':');
    g_autofree char *host = NULL;
    struct addrinfo *addresses = NULL;
    guint64 port;
    int ret;

    if (!colon || !g_ascii_string_to_unsigned(colon + 1, 10, 0, 65535, &port, NULL)) {
        options_set_error(error, options, "listen",
                          "must be unix:PATH, or HOST:PORT as 127.0.0.1:5900");
        return NULL;
    }
    host = g_strndup(text, colon - text);
    if (host[0] == '[' && host[strlen(host) - 1] == ']') {
        host[strlen(host) - 1] = '\0';
        memmove(host, host + 1, strlen(host));
    }
    ret = getaddrinfo(host[0] ? host : "127.0.0.1", colon + 1, &hints, &addresses);
    if (ret)
        options_set_error(error, options, "listen", "%s", gai_strerror(ret));
    return ret ? NULL : addresses;
}

static bool may_listen(const struct vnc *vnc, const struct options *options,
                       const struct sockaddr *address, GError **error)
{
    if (!is_loopback(address) && !options_bool(options, "remote")) {
        options_set_error(error, options, "listen",
                          "is no loopback address: whoever reaches it could try; say remote=on to "
                          "allow that");
        return false;
    }
    if (vnc->settings.passwords[0])
        return true;
    options_set_error(error, options, "listen",
                      "every user of this machine can connect to a TCP port: give a password-file "
                      "or password-fd, or use unix:PATH");
    return false;
}

static bool listen_tcp(struct vnc *vnc, const struct options *options, GError **error)
{
    struct addrinfo *address = resolve(options, options_string(options, "listen"), error);
    const int one = 1;
    bool done = false;

    if (!address)
        return false;
    if (may_listen(vnc, options, address->ai_addr, error)) {
        vnc->tcp_fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        done = vnc->tcp_fd >= 0 &&
               !setsockopt(vnc->tcp_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) &&
               !bind(vnc->tcp_fd, address->ai_addr, address->ai_addrlen) &&
               !listen(vnc->tcp_fd, BACKLOG);
        if (!done)
            options_set_error(error, options, "listen", "%s", g_strerror(errno));
    }
    freeaddrinfo(address);
    return done;
}

static bool listen_somewhere(struct vnc *vnc, const struct options *options, GError **error)
{
    const char *where = options_string(options, "listen");
    g_autoptr(GError) reason = NULL;

    if (!where || !g_str_has_prefix(where, "unix:")) {
        if (where)
            return listen_tcp(vnc, options, error);
        options_set_error(error, options, "listen", "is needed: unix:PATH or HOST:PORT");
        return false;
    }
    vnc->socket = unixsocket_create(where + strlen("unix:"), SOCK_STREAM, 0600, &reason);
    if (!vnc->socket)
        options_set_error(error, options, "listen", "%s", reason->message);
    return vnc->socket != NULL;
}

static void *open_vnc(struct display *display, const struct options *options, GError **error)
{
    unsigned scanouts = display_scanouts(display);
    g_autoptr(GError) reason = NULL;
    struct vnc *vnc;

    if (!vnc_load_library(&reason)) {
        options_set_error(error, options, "type", "%s (Debian: libvncserver1)", reason->message);
        return NULL;
    }
    if (options_uint(options, "scanout") >= scanouts) {
        options_set_error(error, options, "scanout", "the machine has %u", scanouts);
        return NULL;
    }
    vnc = g_new0(struct vnc, 1);
    vnc->settings.display = display;
    vnc->settings.scanout = options_uint(options, "scanout");
    vnc->settings.view_only = options_bool(options, "view-only");
    vnc->tcp_fd = -1;
    vnc->viewers = g_ptr_array_new();
    g_mutex_init(&vnc->lock);
    vnc->loop = loop_create("vnc", error);
    if (vnc->loop)
        vnc->retry = loop_timer_create(vnc->loop, on_retry, vnc);
    if (vnc->loop && take_password(vnc, options, error) && listen_somewhere(vnc, options, error)) {
        loop_call(vnc->loop, start, vnc);
        return vnc;
    }
    if (vnc->loop) {
        close_vnc(vnc);
    } else {
        g_ptr_array_unref(vnc->viewers);
        g_free(vnc);
    }
    return NULL;
}

static const char *const keys[] = {"listen", "scanout", "password-file", "password-fd", "view-only",
                                   "remote", NULL};
const struct display_driver display_vnc = {"vnc", keys, open_vnc, close_vnc};
