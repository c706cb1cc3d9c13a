/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of vmm/log: levels by domain, the rate limit, one clean line a message. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/log.h"

struct fixture {
    int fd;
};

static void set_up(struct fixture *f, gconstpointer data)
{
    f->fd = memfd_create("log", 0);
    g_assert_cmpint(f->fd, >=, 0);
    log_set_fd(f->fd);
    g_assert_true(log_set_levels("warn", NULL));
}

static void tear_down(struct fixture *f, gconstpointer data)
{
    log_set_fd(-1);
    close(f->fd);
}

/* What was logged since the last call; the caller frees it. */
static char *take(struct fixture *f)
{
    off_t size = lseek(f->fd, 0, SEEK_END);
    char *text = g_malloc0(size + 1);

    g_assert_cmpint(pread(f->fd, text, size, 0), ==, size);
    g_assert_cmpint(ftruncate(f->fd, 0), ==, 0);
    lseek(f->fd, 0, SEEK_SET);
    return text;
}

#define assert_logged(F, EXPECTED)                                                                 \
    do {                                                                                           \
        g_autofree char *logged_ = take(F);                                                        \
        g_assert_cmpstr(logged_, ==, EXPECTED);                                                    \
    } while (0)

static void test_line_form(struct fixture *f, gconstpointer data)
{
    log_warn("virtio-blk0", "sector %d", 4096);
    assert_logged(f, "lodge: warn: virtio-blk0: sector 4096\n");
    log_error(NULL, "no domain\n");
    assert_logged(f, "lodge: error: no domain\n");
}

static void test_default_shows_warnings_only(struct fixture *f, gconstpointer data)
{
    log_info("kvm", "not shown");
    log_debug("kvm", "not shown");
    assert_logged(f, "");
}

static void test_levels_by_domain(struct fixture *f, gconstpointer data)
{
    g_assert_true(log_set_levels("error,pci=debug,virtio-*=info,virtio-blk1=error", NULL));
    log_warn("kvm", "a");
    log_debug("pci", "b");
    log_info("virtio-blk0", "c");
    log_debug("virtio-blk0", "d");
    log_warn("virtio-blk1", "e");
    assert_logged(f, "lodge: debug: pci: b\nlodge: info: virtio-blk0: c\n");
}

static void test_levels_without_default(struct fixture *f, gconstpointer data)
{
    g_assert_true(log_set_levels("pci=error", NULL));
    log_warn("kvm", "a");
    log_warn("pci", "b");
    assert_logged(f, "lodge: warn: kvm: a\n");
}

static void test_bad_levels_change_nothing(struct fixture *f, gconstpointer data)
{
    static const struct {
        const char *spec, *message;
    } cases[] = {
        {"loud", "log level 'loud': must be error, warn, info or debug"},
        {"debug,pci=x", "log level 'x': must be error, warn, info or debug"},
        {"debug,info",
         "log levels: 'info' without a domain may only come first; write DOMAIN=info"},
        {"=info", "log levels: '=info' lacks a domain; write DOMAIN=info"},
        {"", "log levels: empty; write LEVEL[,DOMAIN=LEVEL...]"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(log_set_levels(cases[i].spec, &error));
        g_assert_cmpstr(error->message, ==, cases[i].message);
    }
    log_info("pci", "not shown");
    assert_logged(f, "");
}

static void test_control_characters_stay_out(struct fixture *f, gconstpointer data)
{
    log_warn("guest", "name '%s'", "a\033[2Jb\nc");
    assert_logged(f, "lodge: warn: guest: name 'a?[2Jb?c'\n");
}

static void test_errno_is_kept(struct fixture *f, gconstpointer data)
{
    log_set_fd(9999); /* the write fails with EBADF */
    errno = ENOSPC;
    log_error("x", "y");
    g_assert_cmpint(errno, ==, ENOSPC);
}

static void test_guest_messages_are_limited(struct fixture *f, gconstpointer data)
{
    struct log_limit limit = {0};
    uint64_t before = log_guest_errors();

    for (int i = 0; i < 100; i++)
        log_guest(&limit, "dev0", "bad %d", i);
    assert_logged(f, "lodge: warn: dev0: bad 0\nlodge: warn: dev0: bad 1\nlodge: warn: dev0: bad "
                     "2\nlodge: warn: dev0: bad 3\nlodge: warn: dev0: bad 4\n");
    g_assert_cmpuint(log_guest_errors() - before, ==, 100);
    g_assert_cmpuint(limit.total, ==, 100);

    /* As if the window had passed. */
    limit.window_start -= (LOG_LIMIT_SECONDS + 1) * G_USEC_PER_SEC;
    log_guest(&limit, "dev0", "later");
    assert_logged(f, "lodge: warn: dev0: later (95 more like this were not shown)\n");
    log_guest(&limit, "dev0", "again");
    assert_logged(f, "lodge: warn: dev0: again\n");
}

static void test_guest_limits_are_separate(struct fixture *f, gconstpointer data)
{
    struct log_limit a = {0}, b = {0};

    for (int i = 0; i < 10; i++)
        log_guest(&a, "a", "x");
    g_free(take(f));
    log_guest(&b, "b", "y");
    assert_logged(f, "lodge: warn: b: y\n");
}

static gpointer noisy_thread(gpointer data)
{
    for (int i = 0; i < 200; i++)
        log_warn("thread", "%s", (const char *)data);
    return NULL;
}

static void test_threads_do_not_mix_lines(struct fixture *f, gconstpointer data)
{
    static const char *const texts[] = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbb"};
    GThread *threads[2];

    fcntl(f->fd, F_SETFL, O_APPEND);
    for (int i = 0; i < 2; i++)
        threads[i] = g_thread_new(NULL, noisy_thread, (gpointer)texts[i]);
    for (int i = 0; i < 2; i++)
        g_thread_join(threads[i]);
    g_autofree char *text = take(f);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 401);
    for (int i = 0; i < 400; i++) {
        g_assert_true(g_str_has_prefix(lines[i], "lodge: warn: thread: "));
        const char *rest = lines[i] + strlen("lodge: warn: thread: ");
        g_assert_true(!strcmp(rest, texts[0]) || !strcmp(rest, texts[1]));
    }
}

#define ADD(NAME) g_test_add("/log/" #NAME, struct fixture, NULL, set_up, test_##NAME, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD(line_form);
    ADD(default_shows_warnings_only);
    ADD(levels_by_domain);
    ADD(levels_without_default);
    ADD(bad_levels_change_nothing);
    ADD(control_characters_stay_out);
    ADD(errno_is_kept);
    ADD(guest_messages_are_limited);
    ADD(guest_limits_are_separate);
    ADD(threads_do_not_mix_lines);
    return g_test_run();
}
