/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of opening disks (backends/block): each error names cause and remedy; locks; fallbacks. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/block_helpers.h"

static char *folder; /* on the file system of the temporary files */

static void test_options_that_conflict(void)
{
    assert_refused("type=null", "size=1G");
    assert_refused("type=null,size=1000", "multiple of 512");
    assert_refused("type=null,size=0", "multiple of 512");
    assert_refused("type=null,size=1M,path=x", "type=null has no file");
    assert_refused("readonly=on", "path=FILE");
    assert_refused("path=x,size=1M", "only type=null");
    assert_refused("path=x,latency-us=5", "only type=null");
}

static void test_missing_file(void)
{
    assert_refused("path=/nonexistent/a.img", "no such file");
    assert_refused("/nonexistent/a.img", "truncate -s");
}

static void test_not_a_disk(void)
{
    g_autofree char *fifo = g_build_filename(folder, "fifo", NULL);
    g_autofree char *text = g_strdup_printf("path=%s", folder);
    g_autofree char *read_only = g_strdup_printf("path=%s,readonly=on", folder);

    assert_refused(text, "is a directory");
    assert_refused(read_only, "is a directory");
    assert_refused("path=/dev/null", "is a character device");
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    g_free(g_steal_pointer(&text));
    text = g_strdup_printf("path=%s,readonly=on", fifo);
    assert_refused(text, "is a FIFO");
    g_unlink(fifo);
}

/* Opening with @text as a user without rights (in a child: root may open anything) is refused. */
static void assert_refused_to_nobody(const char *text, const char *expected)
{
    pid_t child = fork();
    int status;

    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        if (getuid() == 0 && setuid(65534) < 0)
            _exit(2);
        assert_refused(text, expected);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
}

static void test_permission(void)
{
    char *path = make_image(folder, 4096);
    g_autofree char *text = g_strdup_printf("path=%s", path);

    g_assert_cmpint(chmod(folder, 0755), ==, 0);
    g_assert_cmpint(chmod(path, 0444), ==, 0);
    assert_refused_to_nobody(text, "add readonly=on");
    g_assert_cmpint(chmod(path, 0), ==, 0);
    assert_refused_to_nobody(text, "Permission denied; run as a user who may read and write");
    remove_image(path);
}

/* From now on io_uring_setup fails with @err in this process. */
static void forbid_io_uring(int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {G_N_ELEMENTS(code), code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        _exit(2);
}

static void test_io_uring_refused(void)
{
    static const int errors[] = {ENOSYS, EPERM, ENOMEM};
    char *path = make_image(folder, 65536);
    g_autofree char *automatic = g_strdup_printf("path=%s", path);
    g_autofree char *forced = g_strdup_printf("path=%s,engine=uring", path);

    for (unsigned i = 0; i < G_N_ELEMENTS(errors); i++) {
        pid_t child = fork();
        int status;

        g_assert_cmpint(child, >=, 0);
        if (child == 0) {
            static uint8_t buffer[4096], expected[4096];
            struct block *block;

            forbid_io_uring(errors[i]);
            assert_refused(forced, "use engine=threads");
            block = open_disk(automatic);
            g_assert_cmpstr(block->implementation, ==, "threads");
            pattern(expected, sizeof(expected), 8192);
            g_assert_cmpint(operate(block, BLOCK_READ, 8192, buffer, sizeof(buffer)), ==, 0);
            g_assert_cmpmem(buffer, sizeof(buffer), expected, sizeof(expected));
            block_close(block);
            _exit(0);
        }
        g_assert_cmpint(waitpid(child, &status, 0), ==, child);
        g_assert_cmpint(status, ==, 0);
    }
    remove_image(path);
}

static void test_sizes(void)
{
    char *path = make_image(folder, 1000);
    g_autofree char *text = g_strdup_printf("path=%s,engine=threads", path);
    struct block *block;
    uint8_t buffer[1024];

    /* The tail is not the guest's. */
    block = open_disk(text);
    g_assert_cmpuint(block->size, ==, 512);
    g_assert_cmpint(operate(block, BLOCK_READ, 512, buffer, 512), ==, -EINVAL);
    block_close(block);
    g_assert_cmpint(truncate(path, 511), ==, 0);
    assert_refused(text, "has 511 bytes");
    g_assert_cmpint(truncate(path, 0), ==, 0);
    assert_refused(text, "has 0 bytes");
    remove_image(path);
}

static void test_foreign_format(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s", path);
    g_autofree char *as_raw = g_strdup_printf("path=%s,type=raw", path);
    int fd = open(path, O_WRONLY);

    g_assert_cmpint(pwrite(fd, "QFI\xfb\0\0\0\3", 8, 0), ==, 8);
    close(fd);
    assert_refused(text, "qcow2");
    block_close(open_disk(as_raw));
    remove_image(path);
}

static void test_read_only(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s,readonly=on", path);
    struct block *block = open_disk(text);
    static uint8_t buffer[4096];

    g_assert_true(block->read_only);
    g_assert_false(block->can_discard);
    g_assert_cmpint(operate(block, BLOCK_READ, 0, buffer, 4096), ==, 0);
    g_assert_cmpint(operate(block, BLOCK_WRITE, 0, buffer, 4096), ==, -EROFS);
    g_assert_cmpint(operate(block, BLOCK_DISCARD, 0, NULL, 4096), ==, -EROFS);
    g_assert_cmpint(operate(block, BLOCK_WRITE_ZEROES, 0, NULL, 4096), ==, -EROFS);
    g_assert_cmpint(operate(block, BLOCK_FLUSH, 0, NULL, 0), ==, 0);
    block_close(block);
    remove_image(path);
}

static void test_discard_off(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s,discard=off", path);
    struct block *block = open_disk(text);

    g_assert_false(block->can_discard);
    g_assert_cmpint(operate(block, BLOCK_DISCARD, 0, NULL, 4096), ==, -EOPNOTSUPP);
    block_close(block);
    remove_image(path);
}

/* ---- locks: against another process, which is what matters ---- */

/* Opens it in a child with @options; the child holds it until the pipe is closed. */
static pid_t hold_in_child(const char *options, int *release)
{
    int ready[2], hold[2];
    char byte;
    pid_t child;

    g_assert_cmpint(pipe(ready), ==, 0);
    g_assert_cmpint(pipe(hold), ==, 0);
    child = fork();
    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        close(hold[1]);
        open_disk(options);
        if (write(ready[1], "x", 1) != 1 || read(hold[0], &byte, 1) != 0)
            _exit(2);
        _exit(0);
    }
    close(hold[0]);
    close(ready[1]);
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    close(ready[0]);
    *release = hold[1];
    return child;
}

static void let_go(pid_t child, int release)
{
    int status;

    close(release);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_cmpint(status, ==, 0);
}

static void test_locks(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *writer = g_strdup_printf("path=%s,engine=threads", path);
    g_autofree char *reader = g_strdup_printf("path=%s,engine=threads,readonly=on", path);
    g_autofree char *careless = g_strdup_printf("path=%s,engine=threads,lock=off", path);
    int release;
    pid_t child = hold_in_child(writer, &release);

    assert_refused(writer, "in use by another monitor");
    assert_refused(reader, "another monitor writes this image");
    block_close(open_disk(careless));
    let_go(child, release);

    child = hold_in_child(reader, &release);
    assert_refused(writer, "use readonly=on in both");
    block_close(open_disk(reader));
    let_go(child, release);

    block_close(open_disk(writer));
    remove_image(path);
}

static void test_two_disks_of_one_image(void)
{
    char *path = make_image(folder, 65536);
    g_autofree char *text = g_strdup_printf("path=%s", path);
    struct block *block = open_disk(text);

    assert_refused(text, "in use by another monitor");
    block_close(block);
    block_close(open_disk(text));
    remove_image(path);
}
int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("lodge-block-XXXXXX", NULL);
    g_test_add_func("/block/open/conflicts", test_options_that_conflict);
    g_test_add_func("/block/open/missing-file", test_missing_file);
    g_test_add_func("/block/open/not-a-disk", test_not_a_disk);
    g_test_add_func("/block/open/permission", test_permission);
    g_test_add_func("/block/open/sizes", test_sizes);
    g_test_add_func("/block/open/foreign-format", test_foreign_format);
    g_test_add_func("/block/open/read-only", test_read_only);
    g_test_add_func("/block/open/discard-off", test_discard_off);
    g_test_add_func("/block/open/io-uring-refused", test_io_uring_refused);
    g_test_add_func("/block/lock/other-process", test_locks);
    g_test_add_func("/block/lock/same-process", test_two_disks_of_one_image);
    ret = g_test_run();
    g_rmdir(folder);
    g_free(folder);
    return ret;
}
