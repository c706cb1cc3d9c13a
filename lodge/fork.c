/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fork - many guests from one snapshot: `lodge fork FOLDER -n N`, `lodge run --from FOLDER -- COMMAND`
 *
 * Each guest is a process of its own that maps the snapshot's memory copy-on-write: what none of them
 * writes is in the host's page cache once. Nothing is shared that a guest could tell another by: disks
 * get temporary writes (unless snapshot=off is said), the generation id changes, and a guest that waits
 * for its command is given random numbers and network addresses (copy_identity). A guest that does
 * not wait keeps its MAC addresses, as its driver has read them long ago.
 *
 * The parent checks the snapshot once, before there is any thread, and then only joins what the guests
 * print, each line with the guest's number, until all have ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/vmxnet3/vmxnet3.h"
#include "lodge/commands.h"
#include "lodge/exitcode.h"
#include "lodge/snapshot.h"
#include "virtio/9p.h"
#include "virtio/device.h"
#include "vmm/fd.h"

#define MAX_FORKS      1024u
#define SEED_BYTES     32u
#define LINE_MAX_BYTES 4096u

static int complain(const char *message)
{
    fprintf(stderr, "lodge: %s\n", message);
    return EXIT_LODGE;
}

/* ---- identity ---- */

static void add_field(GByteArray *fields, const char *text)
{
    g_byte_array_append(fields, (const guint8 *)text, strlen(text) + 1);
}

static void add_address(GByteArray *fields, const uint8_t old[6])
{
    uint8_t new[6] = {0};
    g_autofree char *text = NULL;

    if (getrandom(new, sizeof(new), 0) != sizeof(new))
        return;
    new[0] = (new[0] & 0xfc) | 0x02; /* unicast, locally administered */
    text = g_strdup_printf("mac=%02x:%02x:%02x:%02x:%02x:%02x,%02x:%02x:%02x:%02x:%02x:%02x",
                           old[0], old[1], old[2], old[3], old[4], old[5], new[0], new[1], new[2],
                           new[3], new[4], new[5]);
    add_field(fields, text);
}

/* Then the guest may go on with what it has cached of them. */
static bool shares_are_unchanged(const struct machine *machine)
{
    for (guint i = 0; i < machine->entries->len; i++) {
        const struct machine_device *entry = g_ptr_array_index(machine->entries, i);

        if (!strcmp(entry->type->name, "virtio-9p") && !virtio_9p_is_unchanged(entry->vdev))
            return false;
    }
    return true;
}

GByteArray *copy_identity(struct machine *machine, GError **error)
{
    g_autoptr(GByteArray) fields = g_byte_array_new();
    g_autoptr(GString) seed = g_string_new("seed=");
    uint8_t bytes[SEED_BYTES];

    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
        g_set_error(error, OPTIONS_ERROR, 0, "no random numbers for the guest: %s",
                    g_strerror(errno));
        return NULL;
    }
    for (unsigned i = 0; i < sizeof(bytes); i++)
        g_string_append_printf(seed, "%02x", bytes[i]);
    add_field(fields, seed->str);
    if (!shares_are_unchanged(machine))
        add_field(fields, "forget=1");
    for (guint i = 0; i < machine->entries->len; i++) {
        const struct machine_device *entry = g_ptr_array_index(machine->entries, i);
        uint8_t mac[6];

        /* A virtio-net device's configuration space begins with its address (virtio 1.3, 5.1.4). */
        if (!strcmp(entry->type->name, "virtio-net")) {
            add_address(fields, entry->vdev->config);
        } else if (!strcmp(entry->type->name, "vmxnet3")) {
            vmxnet3_mac(entry->object, mac);
            add_address(fields, mac);
        }
    }
    return g_steal_pointer(&fields);
}

/* ---- one copy ---- */

static struct config *copy_config(const struct restore *restore, char **argv, GError **error)
{
    g_autoptr(config_t) config = restore_config(restore, argv, error);

    if (!config || !config_make_copy(config, error) ||
        (config->prepare && !config_override_verbose(config, error)))
        return NULL;
    return g_steal_pointer(&config);
}

int run_from(const char *folder, char **argv)
{
    g_autoptr(GError) error = NULL;
    struct restore *restore = restore_open(folder, &error);
    struct config *config = restore ? copy_config(restore, argv, &error) : NULL;
    int code = config ? run_restored(config, restore) : complain(error->message);

    restore_close(restore);
    return code;
}

/* ---- many ---- */

/* What a guest prints on one of its streams, joined line by line into ours. */
struct pipe_end {
    int fd, to;
    unsigned number;
    bool tagged;
    GString *line;
};

struct fork_run {
    unsigned count;
    bool tagged;
    pid_t pids[MAX_FORKS];
    int codes[MAX_FORKS];
    struct pipe_end pipes[2 * MAX_FORKS];
    unsigned pipe_count;
};

static struct fork_run *forks; /* for the signal handler */

static void pass_on(int number)
{
    int saved = errno;

    for (unsigned i = 0; i < forks->count; i++)
        if (forks->pids[i] > 0)
            kill(forks->pids[i], number);
    errno = saved;
}

/* "%n" in an option becomes the guest's number, "%%" a percent sign. The caller frees it. */
static char *numbered(const char *word, unsigned number)
{
    GString *text = g_string_new(NULL);

    for (; *word; word++) {
        if (word[0] == '%' && word[1] == 'n')
            g_string_append_printf(text, "%u", number);
        else
            g_string_append_c(text, *word);
        if (word[0] == '%' && (word[1] == 'n' || word[1] == '%'))
            word++;
    }
    return g_string_free(text, FALSE);
}

/* The words for guest @number; those of the command are its own. */
static char **words_for(char **argv, unsigned number)
{
    g_autoptr(GStrvBuilder) builder = g_strv_builder_new();
    bool command = false;

    for (; *argv; argv++) {
        g_autofree char *word = command ? g_strdup(*argv) : numbered(*argv, number);

        command |= !strcmp(*argv, "--");
        if (command && !strcmp(*argv, "--")) {
            /* So that a command can tell which one it is. */
            g_strv_builder_add(builder, "--env");
            g_strv_builder_add(builder, "LODGE_FORK");
        }
        g_strv_builder_add(builder, word);
    }
    return g_strv_builder_end(builder);
}

static int run_one(const struct restore *restore, char **argv, unsigned number)
{
    g_auto(GStrv) words = words_for(argv, number);
    g_autofree char *text = g_strdup_printf("%u", number);
    g_autoptr(GError) error = NULL;
    struct config *config;

    g_setenv("LODGE_FORK", text, TRUE);
    config = copy_config(restore, words, &error);
    return config ? run_restored(config, restore) : complain(error->message);
}

static void print_line(struct pipe_end *end)
{
    g_autofree char *text = end->tagged ? g_strdup_printf("%u: %s", end->number, end->line->str)
                                        : g_strdup(end->line->str);
    size_t size = strlen(text), at = 0;

    while (at < size) {
        ssize_t put = write(end->to, text + at, size - at);

        if (put < 0 && errno != EINTR && errno != EAGAIN)
            break;
        at += put > 0 ? (size_t)put : 0;
    }
    g_string_truncate(end->line, 0);
}

/* False: it has ended. A line that does not end is cut. */
static bool read_pipe(struct pipe_end *end)
{
    char buffer[4096];
    ssize_t got = read(end->fd, buffer, sizeof(buffer));

    if (got < 0 && errno == EINTR)
        return true;
    for (ssize_t i = 0; i < got; i++) {
        if (buffer[i])
            g_string_append_c(end->line, buffer[i]);
        if (buffer[i] == '\n' || end->line->len >= LINE_MAX_BYTES)
            print_line(end);
    }
    if (got > 0)
        return true;
    if (end->line->len) {
        g_string_append_c(end->line, '\n');
        print_line(end);
    }
    close(end->fd);
    end->fd = -1;
    return false;
}

static void join_output(struct fork_run *run)
{
    g_autofree struct pollfd *fds = g_new0(struct pollfd, run->pipe_count + 1);
    unsigned open = run->pipe_count;

    while (open) {
        for (unsigned i = 0; i < run->pipe_count; i++)
            fds[i] = (struct pollfd){.fd = run->pipes[i].fd, .events = POLLIN};
        if (poll(fds, run->pipe_count, -1) < 0)
            continue;
        for (unsigned i = 0; i < run->pipe_count; i++)
            if (fds[i].revents && run->pipes[i].fd >= 0 && !read_pipe(&run->pipes[i]))
                open--;
    }
}

/* In the child: its streams in place of ours. */
static void connect_child(int out, int err)
{
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
}

static void add_pipe(struct fork_run *run, int fd, int to, unsigned number)
{
    run->pipes[run->pipe_count++] = (struct pipe_end){
        .fd = fd, .to = to, .number = number, .tagged = run->tagged, .line = g_string_new(NULL)};
}

static bool start_one(struct fork_run *run, const struct restore *restore, char **argv,
                      unsigned number)
{
    int out[2] = {-1, -1}, err[2] = {-1, -1};
    pid_t pid = -1, parent = getpid();

    if (!pipe2(out, O_CLOEXEC) && !pipe2(err, O_CLOEXEC))
        pid = fork();
    if (pid < 0) {
        fprintf(stderr, "lodge: fork: guest %u: %s\n", number, g_strerror(errno));
        for (unsigned i = 0; i < 2; i++) {
            close_fd(out[i]);
            close_fd(err[i]);
        }
        return false;
    }
    if (!pid) {
        int code;

        /* Nobody would end or read a guest whose parent was killed. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
            _exit(EXIT_LODGE);
        connect_child(out[1], err[1]);
        code = run_one(restore, argv, number);
        fflush(NULL);
        _exit(code);
    }
    close(out[1]);
    close(err[1]);
    add_pipe(run, out[0], STDOUT_FILENO, number);
    add_pipe(run, err[0], STDERR_FILENO, number);
    run->pids[number] = pid;
    return true;
}

static int exit_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The code of the first guest, by number, that has another than 0. */
static int collect(struct fork_run *run)
{
    unsigned failed = 0;
    int code = 0;

    for (unsigned i = 0; i < run->count; i++) {
        int status = EXIT_LODGE << 8;

        while (run->pids[i] > 0 && waitpid(run->pids[i], &status, 0) < 0 && errno == EINTR)
            ;
        run->codes[i] = exit_status(status);
        run->pids[i] = 0;
        failed += run->codes[i] != 0;
        if (!code)
            code = run->codes[i];
    }
    if (failed && run->count > 1) {
        fprintf(stderr, "lodge: %u of %u guests did not end with 0:", failed, run->count);
        for (unsigned i = 0; i < run->count; i++)
            if (run->codes[i])
                fprintf(stderr, " %u (%d)", i, run->codes[i]);
        fputc('\n', stderr);
    }
    return code;
}

static int run_many(const struct restore *restore, unsigned count, char **argv)
{
    struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    struct fork_run *run = g_new0(struct fork_run, 1);
    int code;

    run->tagged = count > 1;
    forks = run;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    for (unsigned i = 0; i < count; i++) {
        run->count = i + 1;
        run->pids[i] = -1;
        if (!start_one(run, restore, argv, i)) {
            pass_on(SIGKILL);
            break;
        }
    }
    join_output(run);
    code = collect(run);
    for (unsigned i = 0; i < run->pipe_count; i++)
        g_string_free(run->pipes[i].line, TRUE);
    forks = NULL;
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    g_free(run);
    return code;
}

/* "-n N" among the words (the caller's own) before "--"; takes it out of them. 0: not valid. */
static unsigned take_count(char **argv)
{
    unsigned count = 1;

    for (char **word = argv; *word && strcmp(*word, "--"); word++) {
        const char *value = g_str_has_prefix(*word, "-n") ? *word + 2 : NULL;
        unsigned used = 1;
        guint64 number;

        if (!value)
            continue;
        if (!*value) {
            value = word[1] ? word[1] : "";
            used = 2;
        }
        if (!g_ascii_string_to_unsigned(value, 10, 1, MAX_FORKS, &number, NULL))
            return 0;
        count = (unsigned)number;
        for (unsigned i = 0; i < used; i++)
            g_free(word[i]);
        memmove(word, word + used, (g_strv_length(word + used) + 1) * sizeof(*word));
        break;
    }
    return count;
}

int command_fork(char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(config_t) config = NULL;
    g_auto(GStrv) words = argv[0] ? g_strdupv(argv + 1) : NULL;
    g_auto(GStrv) first = NULL;
    struct restore *restore;
    unsigned count;
    int code;

    if (!argv[0] || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h")) {
        printf("Usage: lodge fork FOLDER [-n N] [OPTION...] [-- COMMAND [ARGUMENT...]]\n\n"
               "Starts N guests (default 1) from a snapshot, each with an identity of its own and "
               "with temporary\ndisk writes, and waits for all. Of a snapshot made by `lodge run "
               "--prepare`, each runs the command\n(LODGE_FORK in its environment is the guest's "
               "number). Options are those of `lodge restore`;\n%%n in one is the number: "
               "--control /tmp/guest.%%n --serial type=file,path=log.%%n. Several guests'\nlines "
               "are printed with their numbers. The exit code is that of the first guest, by "
               "number, that\ndid not end with 0.\n");
        return argv[0] ? 0 : EXIT_LODGE;
    }
    count = take_count(words);
    if (!count)
        return complain("fork: -n must be 1 to 1024");
    restore = restore_open(argv[0], &error);
    if (!restore)
        return complain(error->message);
    /* What is wrong with the options is said once. */
    first = words_for(words, 0);
    config = copy_config(restore, first, &error);
    code = config ? run_many(restore, count, words) : complain(error->message);
    restore_close(restore);
    return code;
}
