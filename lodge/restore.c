/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * restore - `lodge restore FOLDER`: a machine from a snapshot; `lodge inspect FOLDER`: what is in one
 *
 * Everything that can be checked without a machine is checked first, then the machine is made from the
 * saved configuration, then KVM's state goes in before the devices (which may raise interrupts).
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lodge/commands.h"
#include "lodge/exitcode.h"
#include "lodge/incoming.h"
#include "lodge/snapshot.h"
#include "vmm/fd.h"
#include "vmm/stream.h"
#include "vmm/vcpu_state.h"

#define WHO        "restore" /* in messages */
#define TIMEOUT_MS 5000
#define PLACE_SIZE 24u /* of a region in the RAM section */

/* ---- without a machine ---- */

static bool check_sections(const struct restore *restore, GError **error)
{
    static const enum snapshot_type needed[] = {SNAPSHOT_CONFIG, SNAPSHOT_RAM, SNAPSHOT_VM,
                                                SNAPSHOT_VCPU, SNAPSHOT_DEVICE};
    const struct snapshot_section *config, *ram;

    for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++)
        if (!snapshot_find(restore->snapshot, needed[i], NULL))
            return stream_refuse(error, WHO, "the snapshot has no %s section",
                                 snapshot_type_name(needed[i]));
    config = snapshot_find(restore->snapshot, SNAPSHOT_CONFIG, NULL);
    if (!g_utf8_validate((const char *)config->data, (gssize)config->size, NULL))
        return stream_refuse(error, WHO, "section CONFIG is no text");
    ram = snapshot_find(restore->snapshot, SNAPSHOT_RAM, NULL);
    if (!ram->size || ram->size % PLACE_SIZE)
        return stream_refuse(error, WHO, "section RAM has %zu bytes, not whole regions of %u",
                             ram->size, PLACE_SIZE);
    return true;
}

static bool open_memory(struct restore *restore, const char *folder, GError **error)
{
    g_autofree char *path = g_build_filename(folder, "memory", NULL);
    const struct snapshot_section *ram = snapshot_find(restore->snapshot, SNAPSHOT_RAM, NULL);
    uint64_t total = 0;
    struct stat st;

    restore->memory_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (restore->memory_fd < 0 || fstat(restore->memory_fd, &st))
        return stream_refuse(error, WHO, "%s: %s", path, g_strerror(errno));
    for (size_t at = 0; at < ram->size; at += PLACE_SIZE)
        total += stream_get_u64(ram->data + at + 8);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != total)
        return stream_refuse(error, WHO,
                             "%s: %" G_GUINT64_FORMAT " bytes, section RAM says %" G_GUINT64_FORMAT
                             ": it is truncated, or not of this snapshot",
                             path, (guint64)st.st_size, (guint64)total);
    return true;
}

struct restore *restore_from_stream(const uint8_t *data, size_t size, GError **error)
{
    struct restore *restore = g_new0(struct restore, 1);

    restore->memory_fd = -1;
    restore->snapshot = snapshot_decode(data, size, error);
    if (restore->snapshot && check_sections(restore, error))
        return restore;
    restore_close(restore);
    return NULL;
}

struct restore *restore_open(const char *folder, GError **error)
{
    g_autofree char *path = g_build_filename(folder, "state", NULL);
    struct restore *restore = g_new0(struct restore, 1);

    restore->memory_fd = -1;
    restore->snapshot = snapshot_read(path, error);
    if (restore->snapshot && check_sections(restore, error) && open_memory(restore, folder, error))
        return restore;
    restore_close(restore);
    return NULL;
}

void restore_close(struct restore *restore)
{
    if (!restore)
        return;
    snapshot_destroy(restore->snapshot);
    close_fd(restore->memory_fd);
    g_free(restore);
}

/* ---- configuration ---- */

static bool same_value(const struct config *a, const struct config *b, const char *key)
{
    g_autoptr(JsonObject) one = options_to_json(a->run, true), two = options_to_json(b->run, true);
    JsonNode *x = json_object_get_member(one, key), *y = json_object_get_member(two, key);

    return x && y ? json_node_equal(x, y) : x == y;
}

static bool same_shape(const struct config *saved, const struct config *config, GError **error)
{
    static const char *const at_boot[] = {"root", "rwdir", "prepare"};
    const char *before = options_string(saved->run, "memory");

    if (options_bool(config->run, "hugepages")) {
        options_set_error(error, config->run, "hugepages",
                          "the memory of a snapshot is mapped from its file");
        return false;
    }
    if (strcmp(before, options_string(config->run, "memory"))) {
        options_set_error(error, config->run, "memory", "the snapshot has %s", before);
        return false;
    }
    if (options_uint(saved->run, "cpus") != options_uint(config->run, "cpus")) {
        options_set_error(error, config->run, "cpus", "the snapshot has %u",
                          (unsigned)options_uint(saved->run, "cpus"));
        return false;
    }
    if (config->command && !config->prepare)
        return stream_refuse(error, WHO,
                             "the guest in this snapshot waits for no command; lodge run "
                             "--prepare FOLDER makes one that does");
    if (!config->command && config->prepare)
        return stream_refuse(error, WHO,
                             "the guest in this snapshot waits for its command: lodge run --from "
                             "FOLDER -- COMMAND");
    for (unsigned i = 0; i < G_N_ELEMENTS(at_boot); i++)
        if (!same_value(saved, config, at_boot[i])) {
            options_set_error(error, config->run, at_boot[i],
                              "the guest has booted with another; --share tag=TAG,path=FOLDER "
                              "changes what is behind a share");
            return false;
        }
    return true;
}

struct config *restore_config_text(const char *text, size_t size, bool foreign, char **argv,
                                   GError **error)
{
    char *none[] = {NULL};
    g_autoptr(config_t) saved = NULL, config = NULL;

    saved = config_from_saved(text, size, CONFIG_INCOMPLETE | (foreign ? CONFIG_FOREIGN : 0), none,
                              error);
    config =
        saved ? config_from_saved(text, size, foreign ? CONFIG_FOREIGN : 0, argv, error) : NULL;
    if (!config) {
        g_prefix_error(error, "restore: ");
        return NULL;
    }
    if (!same_shape(saved, config, error))
        return NULL;
    return g_steal_pointer(&config);
}

struct config *restore_config(const struct restore *restore, char **argv, GError **error)
{
    const struct snapshot_section *section =
        snapshot_find(restore->snapshot, SNAPSHOT_CONFIG, NULL);

    return restore_config_text((const char *)section->data, section->size, false, argv, error);
}

/* ---- the machine ---- */

static unsigned count_type(const struct snapshot *snapshot, enum snapshot_type type)
{
    unsigned count = 0;

    for (guint i = 0; i < snapshot->sections->len; i++)
        count +=
            ((struct snapshot_section *)g_ptr_array_index(snapshot->sections, i))->type == type;
    return count;
}

/* Does the stream describe this very machine? Asked before anything of it changes. */
static bool check_machine(const struct restore *restore, struct machine *machine, GError **error)
{
    const struct snapshot *snapshot = restore->snapshot;
    const struct snapshot_section *ram = snapshot_find(snapshot, SNAPSHOT_RAM, NULL);
    unsigned count, devices = 0;
    const struct memory_region *regions = memory_regions(machine->memory, &count);
    uint64_t offset = 0;
    size_t at = 0;

    for (unsigned i = 0; i < count; i++) {
        if (!(regions[i].flags & MEMORY_RAM))
            continue;
        if (at + PLACE_SIZE > ram->size || stream_get_u64(ram->data + at) != regions[i].gpa ||
            stream_get_u64(ram->data + at + 8) != regions[i].size ||
            stream_get_u64(ram->data + at + 16) != offset)
            return stream_refuse(error, WHO,
                                 "section RAM: the memory is laid out differently here");
        offset += regions[i].size;
        at += PLACE_SIZE;
    }
    if (at != ram->size)
        return stream_refuse(error, WHO, "section RAM: the memory is laid out differently here");
    if (count_type(snapshot, SNAPSHOT_VCPU) != vm_vcpus(machine->vm))
        return stream_refuse(error, WHO, "%u VCPU sections, the machine has %u vCPUs",
                             count_type(snapshot, SNAPSHOT_VCPU), vm_vcpus(machine->vm));
    for (struct device *device = machine->devices.first; device; device = device->next, devices++)
        if (!snapshot_find(snapshot, SNAPSHOT_DEVICE, device->name))
            return stream_refuse(error, WHO, "the snapshot has no section for the device %s",
                                 device->name);
    if (count_type(snapshot, SNAPSHOT_DEVICE) != devices)
        return stream_refuse(error, WHO, "%u DEV sections, the machine has %u devices",
                             count_type(snapshot, SNAPSHOT_DEVICE), devices);
    return true;
}

static bool load_kvm(const struct restore *restore, struct machine *machine, GError **error)
{
    const struct snapshot_section *section = snapshot_find(restore->snapshot, SNAPSHOT_VM, NULL);

    if (!vm_chips_load(machine->vm, section->data, section->size, error)) {
        g_prefix_error(error, "restore: section VM: ");
        return false;
    }
    for (unsigned i = 0; i < vm_vcpus(machine->vm); i++) {
        g_autofree char *name = g_strdup_printf("vcpu%u", i);

        section = snapshot_find(restore->snapshot, SNAPSHOT_VCPU, name);
        if (!section)
            return stream_refuse(error, WHO, "the snapshot has no section %s", name);
        if (!vcpu_load(machine->vm, i, section->data, section->size, error)) {
            g_prefix_error(error, "restore: section VCPU '%s': ", name);
            return false;
        }
    }
    return true;
}

static bool load_devices(const struct restore *restore, struct machine *machine, GError **error)
{
    for (struct device *device = machine->devices.first; device; device = device->next) {
        const struct snapshot_section *section =
            snapshot_find(restore->snapshot, SNAPSHOT_DEVICE, device->name);

        if (!device_load(device, section->data, section->size, error)) {
            g_prefix_error(error, "restore: ");
            return false;
        }
    }
    return true;
}

bool restore_load(const struct restore *restore, struct machine *machine, GError **error)
{
    return check_machine(restore, machine, error) &&
           devices_set_state(&machine->devices, DEVICE_RESUMING, TIMEOUT_MS, error) &&
           load_kvm(restore, machine, error) && load_devices(restore, machine, error) &&
           devices_set_state(&machine->devices, DEVICE_STOP, TIMEOUT_MS, error);
}

bool restore_machine(const struct restore *restore, struct machine *machine, GError **error)
{
    return restore_load(restore, machine, error) &&
           (!machine->vmgenid || vmgenid_renew(machine->vmgenid, error)) &&
           devices_set_state(&machine->devices, DEVICE_RUNNING, TIMEOUT_MS, error);
}

/* ---- description ---- */

JsonNode *restore_describe(const struct restore *restore)
{
    JsonNode *root = json_node_new(JSON_NODE_OBJECT), *config;
    JsonObject *object = json_object_new(), *memory = json_object_new();
    JsonArray *sections = json_array_new();
    struct stat st = {0};

    fstat(restore->memory_fd, &st);
    json_object_set_int_member(object, "format", SNAPSHOT_FORMAT);
    json_object_set_int_member(memory, "size", st.st_size);
    json_object_set_int_member(memory, "stored", (gint64)st.st_blocks * 512);
    json_object_set_object_member(object, "memory", memory);
    for (guint i = 0; i < restore->snapshot->sections->len; i++) {
        const struct snapshot_section *section = g_ptr_array_index(restore->snapshot->sections, i);
        JsonObject *member = json_object_new();
        g_autofree char *crc =
            g_strdup_printf("%08x", snapshot_crc32c(0, section->data, section->size));

        json_object_set_string_member(member, "type", snapshot_type_name(section->type));
        json_object_set_string_member(member, "name", section->name);
        json_object_set_int_member(member, "version", section->version);
        json_object_set_int_member(member, "length", (gint64)section->size);
        json_object_set_string_member(member, "crc32c", crc);
        json_array_add_object_element(sections, member);
    }
    json_object_set_array_member(object, "sections", sections);
    config =
        options_json_is_flat(
            (const char *)snapshot_find(restore->snapshot, SNAPSHOT_CONFIG, NULL)->data, 16, 4000)
            ? json_from_string(
                  (const char *)snapshot_find(restore->snapshot, SNAPSHOT_CONFIG, NULL)->data, NULL)
            : NULL;
    if (config)
        json_object_set_member(object, "config", config);
    json_node_take_object(root, object);
    return root;
}

/* ---- subcommands ---- */

static int complain(const char *message)
{
    fprintf(stderr, "lodge: %s\n", message);
    return EXIT_LODGE;
}

static bool wants_help(char **argv)
{
    return !argv[0] || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h");
}

int command_inspect(char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    struct restore *restore;
    JsonNode *node;

    if (wants_help(argv) || argv[1]) {
        printf(
            "Usage: lodge inspect FOLDER\n\nPrints what is in a snapshot as JSON, after checking "
            "all of it.\n");
        return argv[0] && !argv[1] ? 0 : EXIT_LODGE;
    }
    restore = restore_open(argv[0], &error);
    if (!restore)
        return complain(error->message);
    node = restore_describe(restore);
    text = json_to_string(node, TRUE);
    puts(text);
    json_node_unref(node);
    restore_close(restore);
    return 0;
}

static int restore_folder(const char *folder, char **argv)
{
    g_autoptr(GError) error = NULL;
    struct restore *restore = restore_open(folder, &error);
    struct config *config = restore ? restore_config(restore, argv, &error) : NULL;
    int code = config ? run_restored(config, restore) : complain(error->message);

    restore_close(restore);
    return code;
}

/* The time-out counts from the program's start, but the other options are known only with the guest:
 * this one is looked for before. 0: for ever. */
static double find_timeout(char **argv)
{
    const char *text = NULL;

    for (; *argv; argv++) {
        if (g_str_has_prefix(*argv, "--timeout="))
            text = *argv + strlen("--timeout=");
        else if (!strcmp(*argv, "--timeout") && argv[1])
            text = argv[1];
    }
    return text ? g_ascii_strtod(text, NULL) : 0;
}

static int restore_incoming(const char *address, char **argv)
{
    g_autoptr(GError) error = NULL;
    struct incoming *incoming = incoming_accept(address, find_timeout(argv), &error);
    struct config *config = incoming ? incoming_config(incoming, argv, &error) : NULL;
    int code;

    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
        complain(error->message);
        return EXIT_TIMEOUT;
    }
    if (incoming && !config)
        incoming_tell_failed(incoming, NULL, error->message);
    code = config ? run_incoming(config, incoming) : complain(error->message);
    incoming_destroy(incoming);
    return code;
}

int command_restore(char **argv)
{
    if (wants_help(argv)) {
        printf(
            "Usage: lodge restore FOLDER [OPTION...]\n"
            "       lodge restore --listen unix:PATH|tcp:HOST:PORT [OPTION...]\n\n"
            "Goes on with the guest that `lodge ctl SOCKET snapshot FOLDER` saved, or that `lodge "
            "ctl SOCKET\nmigrate ADDRESS` sends. Options are those of `lodge run` that do not "
            "change the machine: --control,\n--timeout, --result, --log, ... A device's option "
            "changes what the saved one has on the host:\n\n"
            "  lodge restore FOLDER --disk path=copy.img --console off\n"
            "  lodge restore FOLDER --disk id=disk1,snapshot=on --share tag=src,path=/other\n\n"
            "From tcp nothing is taken that names something on this host: files, folders, networks "
            "and consoles\nbehind the guest's devices must be given so. The connection is "
            "neither encrypted nor\nauthenticated: use it on networks you trust.\n");
        return argv[0] ? 0 : EXIT_LODGE;
    }
    if (g_str_has_prefix(argv[0], "--listen="))
        return restore_incoming(argv[0] + strlen("--listen="), argv + 1);
    if (!strcmp(argv[0], "--listen"))
        return argv[1] ? restore_incoming(argv[1], argv + 2)
                       : complain("--listen needs an address: unix:PATH or tcp:HOST:PORT");
    return restore_folder(argv[0], argv + 1);
}
