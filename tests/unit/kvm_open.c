/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a user reads when KVM can't be used: one line, with cause and remedy, and nothing left open. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/layout.h"
#include "vmm/vm.h"

static void no_shutdown(void *opaque, enum shutdown_reason reason, int status, const char *detail)
{
    g_assert_not_reached();
}

static unsigned open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

struct attempt {
    struct memory *memory;
    struct bus *mmio, *ports;
    struct vm_config config;
};

static void set_up(struct attempt *a)
{
    struct memory_ram_options options = {0};

    a->memory = memory_create();
    a->mmio = bus_create(BUS_MMIO);
    a->ports = bus_create(BUS_PORT);
    g_assert_true(memory_add_ram(a->memory, UINT64_C(1) << 20, LAYOUT_LOW_END, &options, NULL));
    a->config = (struct vm_config){
        .vcpus = 1,
        .memory = a->memory,
        .mmio = a->mmio,
        .ports = a->ports,
        .shutdown = {no_shutdown, NULL},
        .allow_software_kvm = true,
    };
}

static void tear_down(struct attempt *a)
{
    memory_destroy(a->memory);
    bus_destroy(a->mmio);
    bus_destroy(a->ports);
}

/* Creation fails with one line that holds @cause and @remedy. */
static void refuse(struct attempt *a, const char *cause, const char *remedy)
{
    unsigned files = open_files();
    g_autoptr(GError) error = NULL;

    g_assert_null(vm_create(&a->config, &error));
    g_assert_nonnull(error);
    if (!strstr(error->message, cause) || !strstr(error->message, remedy) ||
        strchr(error->message, '\n'))
        g_error("\"%s\" lacks \"%s\" or \"%s\"", error->message, cause, remedy);
    g_assert_cmpuint(open_files(), ==, files);
}

static void a_missing_device_is_named(void)
{
    struct attempt a;
    struct vm_probe probe;

    vm_probe("/nonexistent/kvm", &probe);
    set_up(&a);
    a.config.kvm_path = "/nonexistent/kvm";
    refuse(&a, "/nonexistent/kvm does not exist", probe.hardware ? "modprobe" : "virtualization");
    tear_down(&a);
    g_assert_false(probe.present);
    g_assert_false(probe.usable);
    g_assert_cmpuint(strlen(probe.detail), >, 0);
    g_assert_cmpuint(strlen(probe.remedy), >, 0);
}

static void a_file_that_is_no_kvm_is_named(void)
{
    struct attempt a;
    struct vm_probe probe;

    set_up(&a);
    a.config.kvm_path = "/dev/null";
    refuse(&a, "/dev/null is not a KVM device", "/dev/kvm");
    a.config.kvm_path = "/";
    refuse(&a, "can't open /", "dmesg");
    tear_down(&a);
    vm_probe("/dev/null", &probe);
    g_assert_true(probe.present);
    g_assert_true(probe.permitted);
    g_assert_false(probe.usable);
}

static void a_missing_permission_names_the_group(void)
{
    g_autofree char *path = g_strdup_printf("%s/lodge-kvm-XXXXXX", g_get_tmp_dir());
    int fd = g_mkstemp(path);
    int status;
    pid_t child;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fchmod(fd, 0), ==, 0);
    child = fork();
    if (child == 0) {
        /* root may open everything: be nobody. */
        struct vm_probe probe;
        if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
            _exit(3);
        vm_probe(path, &probe);
        _exit(!(probe.present && !probe.permitted && !probe.usable &&
                strstr(probe.detail, "permission") && strstr(probe.remedy, "kvm")));
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    unlink(path);
    close(fd);
}

static void a_kvm_without_hardware_is_refused_unless_allowed(void)
{
    struct attempt a;
    struct vm_probe probe;
    g_autoptr(GError) error = NULL;
    struct vm *vm;

    vm_probe(NULL, &probe);
    if (!probe.permitted) {
        g_test_skip(probe.detail);
        return;
    }
    set_up(&a);
    a.config.allow_software_kvm = false;
    if (probe.hardware) {
        g_assert_true(probe.usable);
        vm = vm_create(&a.config, &error);
        g_assert_no_error(error);
        vm_destroy(vm);
    } else {
        g_assert_false(probe.usable);
        refuse(&a, "neither vmx nor svm", "tests/lab/enter");
    }
    tear_down(&a);
}

static void impossible_vcpu_counts_are_refused(void)
{
    struct attempt a;

    set_up(&a);
    a.config.vcpus = 0;
    refuse(&a, "0", "1 to 64");
    a.config.vcpus = 65;
    refuse(&a, "65", "1 to 64");
    a.config.vcpus = 3;
    a.config.threads = 2;
    refuse(&a, "3 can't be", "multiple of 2");
    a.config.vcpus = 4;
    a.config.threads = 1;
    a.config.cores = 8;
    refuse(&a, "8 cores", "multiple of 8");
    tear_down(&a);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kvm-open/missing", a_missing_device_is_named);
    g_test_add_func("/kvm-open/no-kvm", a_file_that_is_no_kvm_is_named);
    g_test_add_func("/kvm-open/permission", a_missing_permission_names_the_group);
    g_test_add_func("/kvm-open/software", a_kvm_without_hardware_is_refused_unless_allowed);
    g_test_add_func("/kvm-open/vcpus", impossible_vcpu_counts_are_refused);
    return g_test_run();
}
