/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * replay - runs a fuzz target over its corpus without libFuzzer
 *
 *     fuzz-NAME [--variants N] PATH...
 *
 * Every file (of a folder: all in it, in order of name) is given to LLVMFuzzerTestOneInput, then N
 * broken copies of it: cut off, with bits flipped, bytes replaced by the values that break parsers,
 * pieces doubled or taken out. They depend on the file's content alone, so a failure comes again.
 * One TAP test point a file. On a crash, or after INPUT_SECONDS in one input, the input is written to
 * the current folder and named, and the process dies as it would have.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_SECONDS 30

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* There in builds with a sanitizer. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static const uint8_t *current_data;
static size_t current_size;
static char dump_path[256];

/* Only async-signal-safe calls. */
static void dump_current(void)
{
    static const char text[] = "# the input is in ";
    int fd = open(dump_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, current_data, current_size) < 0 ||
        write(STDOUT_FILENO, text, sizeof(text) - 1) < 0 ||
        write(STDOUT_FILENO, dump_path, strlen(dump_path)) < 0 || write(STDOUT_FILENO, "\n", 1) < 0)
        _exit(99);
    close(fd);
}

static void die(int signo)
{
    dump_current();
    signal(signo, SIG_DFL);
    raise(signo);
}

static void catch_crashes(const char *program)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    const char *base = strrchr(program, '/');

    snprintf(dump_path, sizeof(dump_path), "crash-%s-%d", base ? base + 1 : program, getpid());
    if (__sanitizer_set_death_callback) {
        /* The sanitizer reports signals better than we do; it calls this on its way out. */
        __sanitizer_set_death_callback(dump_current);
        signal(SIGALRM, die);
        signal(SIGABRT, die);
        return;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        signal(signals[i], die);
}

static void run(const uint8_t *data, size_t size)
{
    /* An exact copy, so that a sanitizer sees one byte too far; never NULL. */
    g_autofree uint8_t *copy = g_malloc(size ? size : 1);

    memcpy(copy, data, size);
    current_data = data;
    current_size = size;
    alarm(INPUT_SECONDS);
    LLVMFuzzerTestOneInput(copy, size);
    alarm(0);
}

static uint32_t below(GRand *rand, uint32_t bound)
{
    return bound ? g_rand_int(rand) % bound : 0;
}

static void mutate(GRand *rand, GByteArray *input)
{
    static const uint8_t nasty[] = {0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff};
    uint32_t at = below(rand, input->len);
    uint32_t span = 1 + below(rand, 16);

    span = MIN(span, input->len - at);
    if (input->len == 0) {
        g_byte_array_append(input, &nasty[below(rand, sizeof(nasty))], 1);
        return;
    }
    switch (below(rand, 6)) {
    case 0:
        g_byte_array_set_size(input, at);
        break;
    case 1:
        input->data[at] ^= 1u << below(rand, 8);
        break;
    case 2:
        memset(input->data + at, nasty[below(rand, sizeof(nasty))], span);
        break;
    case 3:
        g_byte_array_remove_range(input, at, span);
        break;
    case 4: {
        g_autofree uint8_t *piece = g_memdup2(input->data + at, span);
        g_byte_array_append(input, piece, span);
        break;
    }
    default:
        for (uint32_t i = 0; i < span; i++)
            input->data[at + i] = g_rand_int(rand);
        break;
    }
}

static void run_variants(const uint8_t *data, size_t size, unsigned variants)
{
    g_autoptr(GBytes) content = g_bytes_new_static(data, size);
    GRand *rand = g_rand_new_with_seed(g_bytes_hash(content));

    for (unsigned i = 0; i < variants; i++) {
        g_autoptr(GByteArray) input = g_byte_array_new();
        g_byte_array_append(input, data, size);
        for (unsigned n = 1 + below(rand, 4); n > 0; n--)
            mutate(rand, input);
        run(input->data, input->len);
    }
    g_rand_free(rand);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void collect(GPtrArray *files, const char *path)
{
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    const char *name;

    if (!folder) {
        g_ptr_array_add(files, g_strdup(path));
        return;
    }
    while ((name = g_dir_read_name(folder)))
        g_ptr_array_add(files, g_build_filename(path, name, NULL));
}

int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
    unsigned variants = 0;
    bool failed = false;
    int arg = 1;

    if (argc > 2 && !strcmp(argv[1], "--variants")) {
        variants = atoi(argv[2]);
        arg = 3;
    }
    for (; arg < argc; arg++)
        collect(files, argv[arg]);
    g_ptr_array_sort(files, compare_names);
    setvbuf(stdout, NULL, _IONBF, 0);
    catch_crashes(argv[0]);

    printf("1..%u\n", files->len ? files->len : 1);
    if (!files->len) {
        printf("not ok 1 - the corpus has no files\n");
        return 1;
    }
    for (unsigned i = 0; i < files->len; i++) {
        g_autofree char *data = NULL;
        g_autofree char *name = g_path_get_basename(files->pdata[i]);
        g_autoptr(GError) error = NULL;
        gsize size;

        if (!g_file_get_contents(files->pdata[i], &data, &size, &error)) {
            printf("not ok %u - %s\n# %s\n", i + 1, name, error->message);
            failed = true;
            continue;
        }
        printf("# %s\n", name);
        run((uint8_t *)data, size);
        run_variants((uint8_t *)data, size, variants);
        printf("ok %u - %s and %u broken copies\n", i + 1, name, variants);
    }
    return failed;
}
