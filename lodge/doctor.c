/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doctor - `lodge doctor`: can this host run guests, and what is missing
 *
 * One line a check: ok, note (a feature is missing) or FAIL (guests can't run), the finding, and the
 * remedy. Exit code 0 when guests can run, 1 when they can't.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "backends/rdma/rdma.h"
#include "config.h"
#include "lodge/commands.h"
#include "lodge/guest.h"
#include "vmm/vm.h"

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

static bool failed;

static void report(const char *verdict, const char *what, const char *finding, const char *remedy)
{
    printf("%-4s  %-12s %s\n", verdict, what, finding);
    if (remedy && *remedy)
        printf("      %-12s -> %s\n", "", remedy);
    if (!strcmp(verdict, "FAIL"))
        failed = true;
}

static void check_kvm(void)
{
    struct vm_probe probe;
    g_autofree char *finding = NULL;

    vm_probe("/dev/kvm", &probe);
    if (probe.usable) {
        finding = g_strdup_printf("/dev/kvm works (API %d, hardware support)", probe.api_version);
        report("ok", "kvm", finding, NULL);
    } else {
        report("FAIL", "kvm", probe.detail, probe.remedy);
    }
}

static void check_kernel(void)
{
    struct utsname host;
    g_autofree char *path = NULL, *tree = NULL;

    uname(&host);
    path = g_strdup_printf("/boot/vmlinuz-%s", host.release);
    tree = g_strdup_printf("/lib/modules/%s/modules.dep", host.release);
    if (access(path, R_OK)) {
        g_autofree char *finding = g_strdup_printf("%s: %s", path, g_strerror(errno));

        report("note", "kernel", finding,
               errno == EACCES ? "guests need -k FILE, or make the file readable"
                               : "give guests a kernel with -k FILE (Debian: linux-image-amd64)");
    } else {
        report("ok", "kernel", path, NULL);
        if (access(tree, R_OK))
            report("note", "modules", "the host's kernel has no folder of modules",
                   "command mode needs virtio and 9p drivers built in, or install the modules");
    }
}

static void check_init(void)
{
    g_autofree char *path = guest_init_path();

    if (path)
        report("ok", "guest init", path, NULL);
    else
        report("FAIL", "guest init", "the guest's init is neither beside lodge nor installed",
               "build the whole tree: meson compile -C build");
}

static void check_tap(void)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        close(fd);
        report("ok", "tap",
               geteuid() ? "/dev/net/tun opens; creating a tap needs CAP_NET_ADMIN"
                         : "/dev/net/tun works",
               NULL);
        return;
    }
    report("note", "tap",
           errno == ENOENT ? "/dev/net/tun: not there" : "/dev/net/tun: no permission",
           errno == ENOENT ? "modprobe tun; --net type=user needs none"
                           : "use --net type=user, or a tap that your user owns (ip tuntap)");
}

static void check_uring(void)
{
#ifdef HAVE_LIBURING
    struct io_uring ring;
    int error = io_uring_queue_init(2, &ring, 0);

    if (!error) {
        io_uring_queue_exit(&ring);
        report("ok", "io_uring", "disks use it", NULL);
        return;
    }
    report("note", "io_uring", g_strerror(-error),
           "disks use worker threads; sysctl kernel.io_uring_disabled=0 allows it");
#else
    report("note", "io_uring", "not built in: disks use worker threads",
           "install liburing-dev and build again");
#endif
}

static void check_libraries(void)
{
    static const struct {
        const char *name, *use, *package;
        bool built;
    } libraries[] = {
#ifdef HAVE_LIBSLIRP
        {"libslirp", "", "", true},
#else
        {"libslirp", "no --net type=user", "libslirp-dev", false},
#endif
#ifdef HAVE_LZMA
        {"liblzma", "", "", true},
#else
        {"liblzma", "xz kernels unpack themselves in the guest (slower)", "liblzma-dev", false},
#endif
#ifdef HAVE_ZSTD
        {"libzstd", "", "", true},
#else
        {"libzstd", "zstd kernels unpack themselves in the guest (slower)", "libzstd-dev", false},
#endif
#ifdef HAVE_LZ4
        {"liblz4", "", "", true},
#else
        {"liblz4", "lz4 kernels unpack themselves in the guest (slower)", "liblz4-dev", false},
#endif
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(libraries); i++) {
        g_autofree char *remedy = NULL;

        if (libraries[i].built) {
            report("ok", libraries[i].name, "built in", NULL);
            continue;
        }
        remedy = g_strdup_printf("install %s and build again", libraries[i].package);
        report("note", libraries[i].name, libraries[i].use, remedy);
    }
}

static void report_rdma(void *opaque, bool usable, const char *finding, const char *remedy)
{
    report(usable ? "ok" : "note", "rdma", finding, remedy);
}

static void check_rdma(void)
{
    rdma_probe(report_rdma, NULL);
}

static void check_limits(void)
{
    struct rlimit limit;
    g_autofree char *finding = NULL;

    getrlimit(RLIMIT_NOFILE, &limit);
    finding = g_strdup_printf("%llu open files allowed", (unsigned long long)limit.rlim_max);
    if (limit.rlim_max < 4096)
        report("note", "limits", finding, "many queues or a busy share need more: ulimit -n 65536");
    else
        report("ok", "limits", finding, NULL);
}

int command_doctor(char **argv)
{
    if (argv[0]) {
        printf("Usage: lodge doctor\n\n"
               "Says whether this host can run guests, and what is missing. Exit code 1 if not.\n");
        return strcmp(argv[0], "--help") && strcmp(argv[0], "-h") ? 125 : 0;
    }
    check_kvm();
    check_kernel();
    check_init();
    check_tap();
    check_uring();
    check_libraries();
    check_rdma();
    check_limits();
    printf("%s\n",
           failed ? "Guests can't run on this host as it is." : "Guests can run on this host.");
    return failed;
}
