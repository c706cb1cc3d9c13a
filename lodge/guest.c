/* SPDX-License-Identifier: GPL-2.0-or-later */
/* guest - what a guest boots (guest.h) */
#include "lodge/guest.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "config.h"
#include "firmware/initramfs.h"
#include "firmware/linux.h"
#include "vmm/log.h"

#define ROOT_TAG "lodge-root"

/* Modules that a device type's stock driver lives in; all optional: a kernel may have them built in. */
static const struct {
    const char *type, *module;
} driver_modules[] = {
    {"virtio-blk", "?virtio_blk"},
    {"virtio-net", "?virtio_net"},
    {"vmxnet3", "?vmxnet3"},
    {"pvrdma", "?vmw_pvrdma"},
    {"virtio-rng", "?virtio-rng"},
    {"virtio-9p", "?9pnet_virtio"},
    {"virtio-console", "?virtio_console"},
    {"virtio-gpu", "?virtio-gpu"},
    {"virtio-input", "?virtio_input"},
    {"pvpanic", "?pvpanic-pci"},
    {"vmgenid", "?vmgenid"},
};

static bool add_default(struct config *config, const char *type_name, const char *text,
                        GError **error)
{
    const struct device_type *type = device_type_find(type_name);

    if (!type || config_has_device(config, type_name))
        return true;
    return config_add_device(config, type, type_name, text, error);
}

static bool add_share(struct config *config, const char *path, const char *tag, bool read_only,
                      GError **error)
{
    g_autoptr(GString) text = g_string_new("path=");

    /* A configuration that was printed and loaded again has it already. */
    for (guint i = 0; i < config->devices->len; i++) {
        const struct device_config *device = g_ptr_array_index(config->devices, i);

        if (!strcmp(device->type->name, "virtio-9p") &&
            !g_strcmp0(options_string(device->options, "tag"), tag))
            return true;
    }
    for (; *path; path++) {
        g_string_append_c(text, *path);
        if (*path == ',')
            g_string_append_c(text, ',');
    }
    g_string_append_printf(text, ",tag=%s,readonly=%s", tag, read_only ? "on" : "off");
    return config_add_device(config, device_type_find("virtio-9p"),
                             read_only ? "--root" : "--rwdir", text->str, error);
}

/* Is the guest's root a copy of the host's? With a command; or when there is nothing else to boot. */
static bool has_host_root(const struct config *config)
{
    return config_is_command(config) ||
           (!options_string(config->run, "initrd") && !config_has_device(config, "virtio-blk"));
}

/* The root share and the writable folders. */
static bool add_host_root(struct config *config, GError **error)
{
    const char *const *folders = options_list(config->run, "rwdir");

    if (!add_share(config, options_string(config->run, "root"), ROOT_TAG, true, error))
        return false;
    for (unsigned i = 0; folders && folders[i]; i++) {
        g_autofree char *tag = g_strdup_printf("lodge-rw%u", i);

        if (strpbrk(folders[i], ",\"")) {
            g_set_error(error, OPTIONS_ERROR, 0,
                        "--rwdir: %s: commas and double quotes don't pass a kernel command line; "
                        "use another name for the folder",
                        folders[i]);
            return false;
        }
        if (!add_share(config, folders[i], tag, false, error))
            return false;
    }
    return true;
}

/* Options that would have no effect are mistakes. */
static bool check_conflicts(const struct config *config, GError **error)
{
    static const char *const with_command[] = {"cwd", "env", "tty"};
    static const char *const with_root[] = {"root", "rwdir"};

    if (config->command && config->prepare) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "--prepare saves a guest before it is told its command: give that to `lodge "
                    "run --from %s -- COMMAND`",
                    config->prepare);
        return false;
    }
    if (config_is_command(config) && options_string(config->run, "initrd")) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "--initrd and a command after -- exclude each other: the command needs "
                    "lodge's own initramfs");
        return false;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(with_command) && !config->command; i++)
        if (options_given(config->run, with_command[i])) {
            g_set_error(error, OPTIONS_ERROR, 0,
                        "--%s is for a command in the guest: give one after --", with_command[i]);
            return false;
        }
    for (unsigned i = 0; i < G_N_ELEMENTS(with_root) && !has_host_root(config); i++)
        if (options_given(config->run, with_root[i])) {
            g_set_error(error, OPTIONS_ERROR, 0,
                        "--%s is for a guest whose root is this machine's: give a command after "
                        "--, or leave --initrd and --disk out",
                        with_root[i]);
            return false;
        }
    if (options_given(config->run, "modules") && options_string(config->run, "initrd")) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "--module and --initrd exclude each other: modules go into lodge's own "
                    "initramfs");
        return false;
    }
    return true;
}

/* What goes with a screen. */
static bool add_input(struct config *config, GError **error)
{
    const struct device_type *type = device_type_find("virtio-input");

    if (!config_has_device(config, "virtio-gpu") || config_has_device(config, type->name))
        return true;
    return config_add_device(config, type, type->name, "keyboard", error) &&
           config_add_device(config, type, type->name, "tablet", error);
}

bool guest_complete_config(struct config *config, GError **error)
{
    const char *console = options_string(config->run, "console");
    const char *terminal = !config_is_command(config)             ? "type=stdio"
                           : options_bool(config->run, "verbose") ? "type=fd,fd=2"
                                                                  : "type=null";

    if (!check_conflicts(config, error))
        return false;
    if (has_host_root(config) && !add_host_root(config, error))
        return false;
    if (config_is_command(config) && !add_default(config, "virtio-console", "", error))
        return false;
    if (!strcmp(console, "virtio") && !config_is_command(config) &&
        !add_default(config, "virtio-console", terminal, error))
        return false;
    if (strcmp(console, "serial"))
        terminal = "type=null";
    return !options_bool(config->run, "defaults") ||
           (add_default(config, "serial", terminal, error) &&
            add_default(config, "rtc", "", error) && add_default(config, "virtio-rng", "", error) &&
            add_default(config, "pvpanic", "", error) &&
            add_default(config, "vmgenid", "", error) && add_input(config, error));
}

char *guest_init_path(void)
{
    static const char *const places[] = {"../guest-images/init", "../libexec/lodge/init",
                                         "../lib/lodge/init"};
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;

    for (unsigned i = 0; folder && i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_build_filename(folder, places[i], NULL);

        if (!access(path, X_OK))
            return g_canonicalize_filename(path, NULL);
    }
    return NULL;
}

/* A kernel in /boot whose modules are there, or NULL. */
static char *find_kernel(void)
{
    g_autoptr(GDir) boot = g_dir_open("/boot", 0, NULL);
    const char *name;

    while (boot && (name = g_dir_read_name(boot))) {
        g_autofree char *path = g_build_filename("/boot", name, NULL);
        g_autofree char *modules = NULL;

        if (!g_str_has_prefix(name, "vmlinuz-") || access(path, R_OK))
            continue;
        modules = g_build_filename("/lib/modules", name + strlen("vmlinuz-"), NULL);
        if (!access(modules, R_OK))
            return g_steal_pointer(&path);
    }
    return NULL;
}

static char *choose_kernel(const struct config *config, GError **error)
{
    const char *given = options_string(config->run, "kernel");
    struct utsname host;
    g_autofree char *path = NULL, *other = NULL;

    if (given)
        return g_strdup(given);
    uname(&host);
    path = g_strdup_printf("/boot/vmlinuz-%s", host.release);
    if (!access(path, R_OK))
        return g_steal_pointer(&path);
    other = find_kernel();
    if (other)
        g_set_error(
            error, OPTIONS_ERROR, 0,
            "no --kernel given, and the host's own (%s) can't be read; another is there: -k %s",
            path, other);
    else
        g_set_error(error, OPTIONS_ERROR, 0,
                    "no --kernel given, and the host's own (%s) can't be read; give one with -k "
                    "(Debian: apt-get install linux-image-amd64, then -k /boot/vmlinuz-VERSION)",
                    path);
    return NULL;
}

/* What a guest whose root is the host's can't do without, and what its configuration calls it. */
static const char *const needed[] = {"CONFIG_VIRTIO_PCI", "CONFIG_NET_9P_VIRTIO", "CONFIG_9P_FS",
                                     "CONFIG_OVERLAY_FS", "CONFIG_VIRTIO_CONSOLE"};

/* The kernel's configuration as its package installs it, or NULL. The caller frees both. */
static char *kernel_configuration(const char *kernel, const char *version, char **path)
{
    g_autofree char *folder = g_path_get_dirname(kernel);
    g_autofree char *name = g_strconcat("config-", version, NULL);
    const char *const folders[] = {folder, "/boot"};
    char *text = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++) {
        *path = g_build_filename(folders[i], name, NULL);
        if (g_file_get_contents(*path, &text, NULL, NULL))
            return text;
        g_clear_pointer(path, g_free);
    }
    return NULL;
}

/* A kernel without modules is fine if all that the guest's root needs is built in. */
static bool check_built_in(const char *kernel, const char *version, const char *tree,
                           GError **error)
{
    g_autofree char *path = NULL;
    g_autofree char *text = kernel_configuration(kernel, version, &path);

    if (!text) {
        log_warn(
            "guest",
            "kernel %s has no modules in %s: unless virtio, 9p and overlayfs are built in, its "
            "guest finds no root",
            version, tree);
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++) {
        g_autofree char *line = g_strdup_printf("\n%s=y\n", needed[i]);

        if (strstr(text, line))
            continue;
        g_set_error(error, OPTIONS_ERROR, 0,
                    "--kernel: %s: %s is not there, and the kernel has not built in what its root "
                    "needs (%s in %s); install its modules, or give another kernel",
                    kernel, tree, needed[i], path);
        return false;
    }
    return true;
}

/* Modules of the kernel's version; a kernel without a folder of modules has all it needs built in. */
static bool add_modules(struct initramfs *initramfs, const struct config *config,
                        const char *kernel, const char *version, GError **error)
{
    g_autofree char *tree = g_build_filename("/lib/modules", version, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *const *given = options_list(config->run, "modules");

    /* No version: perhaps no kernel at all, which loading it will tell. */
    if (!*version || !g_file_test(tree, G_FILE_TEST_IS_DIR)) {
        if (!given || !*given)
            return !*version || !has_host_root(config) ||
                   check_built_in(kernel, version, tree, error);
        g_set_error(error, OPTIONS_ERROR, 0, "--module: kernel %s has no modules in %s", version,
                    tree);
        return false;
    }
    g_ptr_array_add(names, (gpointer) "?virtio_pci");
    g_ptr_array_add(names, (gpointer) "?button"); /* the power button, and how init hears of it */
    g_ptr_array_add(names, (gpointer) "?evdev");
    if (has_host_root(config)) {
        g_ptr_array_add(names, (gpointer) "?9p");
        g_ptr_array_add(names, (gpointer) "?overlay");
    } else if (config_has_device(config, "virtio-blk")) {
        g_ptr_array_add(names, (gpointer) "?ext4");
        g_ptr_array_add(names, (gpointer) "?xfs");
        g_ptr_array_add(names, (gpointer) "?btrfs");
        g_ptr_array_add(names, (gpointer) "?squashfs");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(driver_modules); i++)
        if (config_has_device(config, driver_modules[i].type))
            g_ptr_array_add(names, (gpointer)driver_modules[i].module);
    for (; given && *given; given++)
        g_ptr_array_add(names, (gpointer)*given);
    g_ptr_array_add(names, NULL);
    return initramfs_add_modules(initramfs, tree, (const char *const *)names->pdata, NULL, error);
}

/* "6.1.0-56-amd64" from an image's header, or from the banner inside of a vmlinux; NULL with @error. */
static char *kernel_version(const char *path, GError **error)
{
    static const char banner[] = "Linux version ";
    struct source source;
    struct linux_image image;
    g_autofree char *text = NULL;
    gsize size;
    char *version = NULL;
    const char *found;

    if (!source_open(&source, "kernel", path, error))
        return NULL;
    if (linux_is_bzimage(&source)) {
        version = linux_parse(&source, &image, error) ? g_strdup(image.version) : NULL;
        source_close(&source);
        return version;
    }
    source_close(&source);
    if (!g_file_get_contents(path, &text, &size, error))
        return NULL;
    found = memmem(text, size, banner, strlen(banner));
    if (found)
        version = g_strndup(found + strlen(banner), strcspn(found + strlen(banner), " \n"));
    return version ? version : g_strdup("");
}

static GBytes *make_initramfs(const struct config *config, const char *kernel, GError **error)
{
    g_autoptr(Initramfs) initramfs = initramfs_create();
    g_autofree char *init = guest_init_path();
    g_autofree char *version = NULL;
    static const char *const folders[] = {"/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/etc"};

    if (!init) {
        g_set_error(error, OPTIONS_ERROR, 0,
                    "the guest's init is neither beside lodge nor installed; build the whole tree "
                    "(meson compile)");
        return NULL;
    }
    version = kernel_version(kernel, error);
    if (!version)
        return NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(folders); i++)
        initramfs_add_directory(initramfs, folders[i], 0755);
    initramfs_add_node(initramfs, "/dev/console", S_IFCHR | 0600, 5, 1);
    if (!initramfs_add_file(initramfs, init, "/init", error) ||
        !add_modules(initramfs, config, kernel, version, error))
        return NULL;
    return initramfs_finish(initramfs, error);
}

/* Adds a setting unless the user's own parameters have one that begins with @key. */
static void add_parameter(GString *line, const char *users, const char *key, const char *value)
{
    g_autofree char *inner = g_strconcat(" ", key, NULL);

    if (g_str_has_prefix(users, key) || strstr(users, inner))
        return;
    g_string_append_printf(line, "%s%s%s", line->len ? " " : "", key, value);
}

/* The address that user-mode networking has for its guest, so that a command finds the network up
 * (the first such interface: they are all alike). Not where the user set addresses up by hand. */
static void add_address(GString *line, const struct config *config, const char *users)
{
    static const char *const types[] = {"virtio-net", "vmxnet3"}; /* as their drivers are loaded */
    unsigned interface = 0;

    if (strstr(users, "lodge.ip="))
        return;
    for (guint i = 0; i < config->devices->len * G_N_ELEMENTS(types); i++) {
        const struct device_config *device =
            g_ptr_array_index(config->devices, i % config->devices->len);

        if (strcmp(device->type->name, types[i / config->devices->len]))
            continue;
        if (!strcmp(options_string(device->options, "type"), "user")) {
            g_string_append_printf(line, " lodge.ip=eth%u:10.0.2.15/24:10.0.2.2:10.0.2.3",
                                   interface);
            return;
        }
        interface++;
    }
}

/* What our init is to do; guest-images/protocol.md. */
static void add_init_parameters(GString *line, const struct config *config, const char *users)
{
    const char *const *folders = options_list(config->run, "rwdir");

    if (config_is_command(config))
        g_string_append_printf(line, " lodge.control=stdin,stdout%s",
                               options_bool(config->run, "tty") ? "" : ",stderr");
    if (!has_host_root(config)) {
        g_string_append(line, " lodge.root=block:/dev/vda,rw lodge.init=/sbin/init");
        return;
    }
    g_string_append(line, " lodge.root=9p:" ROOT_TAG ",ro");
    for (unsigned i = 0; folders && folders[i]; i++) {
        g_autofree char *path = g_canonicalize_filename(folders[i], NULL);

        g_string_append_printf(line, " \"lodge.mount=lodge-rw%u,", i);
        g_string_append(line, path);
        g_string_append(line, ",rw\"");
    }
    add_address(line, config, users);
}

/* A screen if there is one, and what the terminal is connected to: the kernel's messages go to both, and
 * the last one is /dev/console. */
static void add_consoles(GString *line, const struct config *config, const char *users)
{
    const char *kind = options_string(config->run, "console");
    bool is_command = config_is_command(config);
    const char *last = !strcmp(kind, "virtio") && !is_command ? "hvc0"
                       : strcmp(kind, "off") || is_command    ? "ttyS0"
                                                              : NULL;
    bool screen = config_has_device(config, "virtio-gpu");
    g_autofree char *both = g_strconcat("tty0", last ? " console=" : NULL, last, NULL);

    if (last || screen)
        add_parameter(line, users, "console=", screen ? both : last);
}

static GString *make_command_line(const struct config *config)
{
    GString *line = g_string_new(NULL);
    const char *const *given = options_list(config->run, "params");
    g_autofree char *users = given ? g_strjoinv(" ", (char **)given) : g_strdup("");

    add_consoles(line, config, users);
    add_parameter(line, users, "panic=", "-1");
    /* No i8042, no second serial ports: what is not there need not be looked for. */
    add_parameter(line, users, "i8042.", "noaux i8042.nopnp");
    if (config_is_command(config) && !options_bool(config->run, "verbose"))
        add_parameter(line, users, "quiet", "");
    if (!options_string(config->run, "initrd"))
        add_init_parameters(line, config, users);
    if (users[0])
        g_string_append_printf(line, "%s%s", line->len ? " " : "", users);
    return line;
}

struct guest *guest_create(const struct config *config, GError **error)
{
    struct guest *guest = g_new0(struct guest, 1);
    const char *initrd = options_string(config->run, "initrd");

    guest->kernel = choose_kernel(config, error);
    if (!guest->kernel)
        goto fail;
    guest->initrd = g_strdup(initrd);
    if (!initrd) {
        guest->initramfs = make_initramfs(config, guest->kernel, error);
        if (!guest->initramfs)
            goto fail;
    }
    guest->command_line = make_command_line(config);
    return guest;

fail:
    guest_destroy(guest);
    return NULL;
}

void guest_destroy(struct guest *guest)
{
    if (!guest)
        return;
    g_free(guest->kernel);
    g_free(guest->initrd);
    if (guest->initramfs)
        g_bytes_unref(guest->initramfs);
    if (guest->command_line)
        g_string_free(guest->command_line, TRUE);
    g_free(guest);
}

void guest_boot_config(const struct guest *guest, const struct config *config,
                       struct boot_config *boot)
{
    static const struct {
        const char *name;
        enum boot_protocol protocol;
    } protocols[] = {{"auto", BOOT_AUTO},
                     {"linux64", BOOT_LINUX64},
                     {"pvh", BOOT_PVH},
                     {"pvh-unpacked", BOOT_PVH_UNPACKED}};
    const char *wanted = options_string(config->run, "boot");

    memset(boot, 0, sizeof(*boot));
    boot->kernel = guest->kernel;
    boot->initrd = guest->initrd;
    if (guest->initramfs) {
        gsize size;

        boot->initrd_data = g_bytes_get_data(guest->initramfs, &size);
        boot->initrd_size = size;
    }
    boot->command_line = guest->command_line->str;
    for (unsigned i = 0; i < G_N_ELEMENTS(protocols); i++)
        if (!strcmp(wanted, protocols[i].name))
            boot->protocol = protocols[i].protocol;
}
