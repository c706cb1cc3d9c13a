/* SPDX-License-Identifier: GPL-2.0-or-later */
/* snapshot - saving a machine to a folder (lodge/snapshot.h); restore.c is the way back */
#include "lodge/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lodge/types.h"
#include "vmm/fd.h"
#include "vmm/vcpu_state.h"

#define TIMEOUT_MS 5000
#define CHUNK      (UINT64_C(1) << 20)

static bool set_errno_error(GError **error, const char *path, const char *what)
{
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "snapshot: %s: %s: %s", path, what,
                g_strerror(errno));
    return false;
}

/* ---- memory ---- */

static bool is_zero(const uint8_t *page)
{
    return !page[0] && !memcmp(page, page + 1, MEMORY_PAGE_SIZE - 1);
}

static bool write_all(int fd, const uint8_t *data, uint64_t size, uint64_t offset)
{
    while (size) {
        ssize_t done = pwrite(fd, data, size, (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        data += done;
        offset += (uint64_t)done;
        size -= (uint64_t)done;
    }
    return true;
}

/* Bytes [start, end) of @region, but not its pages of zeroes. */
static bool write_range(int fd, const struct memory_region *region, uint64_t start, uint64_t end,
                        uint64_t base)
{
    uint64_t run = start;

    for (uint64_t at = start; at < end; at += MEMORY_PAGE_SIZE) {
        bool zero = is_zero(region->host + at);

        if (zero || at - run >= CHUNK) {
            if (at > run && !write_all(fd, region->host + run, at - run, base + run))
                return false;
            run = zero ? at + MEMORY_PAGE_SIZE : at;
        }
    }
    return end <= run || write_all(fd, region->host + run, end - run, base + run);
}

/* The same of private memory, as far as it was ever touched, or is of a snapshot that has it. */
static bool write_used(int fd, const struct memory_region *region, uint64_t base)
{
    uint64_t pages = region->size / MEMORY_PAGE_SIZE, page = 0;
    g_autofree uint64_t *used = g_new(uint64_t, (pages + 63) / 64);

    if (!memory_find_used(region, 0, pages, used))
        return write_range(fd, region, 0, region->size, base);
    while (page < pages) {
        uint64_t first = page;

        while (page < pages && used[page / 64] >> (page % 64) & 1)
            page++;
        if (page > first &&
            !write_range(fd, region, first * MEMORY_PAGE_SIZE, page * MEMORY_PAGE_SIZE, base))
            return false;
        page = first == page ? page + 1 : page;
    }
    return true;
}

/* Looks only at what there is of a file: reading a hole through the mapping would fill it. */
static bool write_region(int fd, const struct memory_region *region, uint64_t base)
{
    uint64_t at = 0;

    if (region->fd < 0)
        return write_used(fd, region, base);
    while (at < region->size) {
        off_t data = lseek(region->fd, (off_t)(region->fd_offset + at), SEEK_DATA);
        off_t hole;
        uint64_t start, end;

        if (data < 0)
            return errno == ENXIO || write_range(fd, region, at, region->size, base);
        hole = lseek(region->fd, data, SEEK_HOLE);
        start = MAX((uint64_t)data - region->fd_offset, at) & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
        end = hole < 0 ? region->size : (uint64_t)hole - region->fd_offset;
        end = MIN((end + MEMORY_PAGE_SIZE - 1) & ~(uint64_t)(MEMORY_PAGE_SIZE - 1), region->size);
        if (start >= region->size)
            return true;
        if (!write_range(fd, region, start, end, base))
            return false;
        at = end;
    }
    return true;
}

static void put_u64(GByteArray *out, uint64_t value)
{
    uint64_t little = GUINT64_TO_LE(value);

    g_byte_array_append(out, (const uint8_t *)&little, sizeof(little));
}

/* The section that says what lies where in the memory file: gpa, size, offset of each. */
static void add_places(struct machine *machine, struct snapshot *snapshot)
{
    g_autoptr(GByteArray) places = g_byte_array_new();
    unsigned count;
    const struct memory_region *regions = memory_regions(machine->memory, &count);
    uint64_t offset = 0;

    for (unsigned i = 0; i < count; i++) {
        if (!(regions[i].flags & MEMORY_RAM))
            continue;
        put_u64(places, regions[i].gpa);
        put_u64(places, regions[i].size);
        put_u64(places, offset);
        offset += regions[i].size;
    }
    snapshot_add(snapshot, SNAPSHOT_RAM, 1, "memory", places->data, places->len);
}

static bool save_memory(struct machine *machine, struct snapshot *snapshot, const char *folder,
                        GError **error)
{
    g_autofree char *path = g_build_filename(folder, "memory", NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    const struct memory_region *regions;
    uint64_t offset = 0;
    bool done = fd >= 0 && !ftruncate(fd, (off_t)memory_ram_size(machine->memory));
    unsigned count;

    regions = memory_regions(machine->memory, &count);
    for (unsigned i = 0; i < count && done; i++) {
        if (!(regions[i].flags & MEMORY_RAM))
            continue;
        done = write_region(fd, &regions[i], offset);
        offset += regions[i].size;
    }
    done = done && !fsync(fd);
    if (!done)
        set_errno_error(error, path, "can't be written");
    close_fd(fd);
    add_places(machine, snapshot);
    return done;
}

/* ---- the rest ---- */

static struct machine_device *entry_of(struct machine *machine, const struct device_config *device)
{
    for (guint i = 0; i < machine->entries->len; i++) {
        struct machine_device *entry = g_ptr_array_index(machine->entries, i);

        if (entry->options == device->options)
            return entry;
    }
    return NULL;
}

/* The configuration with what was chosen for it: names, slots, the kernel to boot again. */
char *machine_saved_config(struct machine *machine)
{
    JsonObject *object = config_to_save(machine->config);
    JsonArray *devices = json_object_get_array_member(object, "devices");
    JsonNode *root = json_node_new(JSON_NODE_OBJECT);
    char *saved;

    for (guint i = 0; i < json_array_get_length(devices); i++) {
        struct machine_device *entry =
            entry_of(machine, g_ptr_array_index(machine->config->devices, i));
        JsonObject *member = json_array_get_object_element(devices, i);

        if (!entry)
            continue;
        json_object_set_string_member(member, "id", entry->id);
        /* A second function has no slot of its own. */
        if (entry->function && entry->type->flags & DEVICE_TYPE_PCI)
            json_object_set_int_member(member, "slot", entry->function->slot);
    }
    if (!json_object_has_member(object, "kernel") && machine->boot.kernel)
        json_object_set_string_member(object, "kernel", machine->boot.kernel);
    json_node_take_object(root, object);
    saved = json_to_string(root, TRUE);
    json_node_unref(root);
    return saved;
}

static bool save_kvm(struct machine *machine, struct snapshot *snapshot, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    if (!vm_chips_save(machine->vm, bytes, error))
        return false;
    snapshot_add(snapshot, SNAPSHOT_VM, 1, "vm", bytes->data, bytes->len);
    for (unsigned i = 0; i < vm_vcpus(machine->vm); i++) {
        g_autofree char *name = g_strdup_printf("vcpu%u", i);

        g_byte_array_set_size(bytes, 0);
        if (!vcpu_save(machine->vm, i, bytes, error))
            return false;
        snapshot_add(snapshot, SNAPSHOT_VCPU, 1, name, bytes->data, bytes->len);
    }
    return true;
}

static bool save_devices(struct machine *machine, struct snapshot *snapshot, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    for (struct device *device = machine->devices.first; device; device = device->next) {
        g_byte_array_set_size(bytes, 0);
        if (!device_save(device, bytes, error) ||
            !snapshot_add_device(snapshot, device->name, bytes->data, bytes->len, error))
            return false;
    }
    return true;
}

/* All but memory. */
static bool save_state(struct machine *machine, struct snapshot *snapshot, GError **error)
{
    g_autofree char *config = machine_saved_config(machine);

    snapshot_add(snapshot, SNAPSHOT_CONFIG, 1, "config", config, strlen(config));
    return save_kvm(machine, snapshot, error) && save_devices(machine, snapshot, error);
}

/* Everything is stopped. Memory last: a device's before_save may still publish to it. */
static bool save_all(struct machine *machine, const char *folder, GError **error)
{
    g_autoptr(snapshot_t) snapshot = snapshot_create();
    g_autofree char *path = g_build_filename(folder, "state", NULL);

    return save_state(machine, snapshot, error) && save_memory(machine, snapshot, folder, error) &&
           snapshot_write(snapshot, path, error);
}

GByteArray *machine_state(struct machine *machine, GError **error)
{
    g_autoptr(snapshot_t) snapshot = snapshot_create();

    if (!save_state(machine, snapshot, error))
        return NULL;
    add_places(machine, snapshot);
    return snapshot_encode(snapshot);
}

/* What can be known before anything stops. */
bool machine_may_be_saved(struct machine *machine, GError **error)
{
    if (machine->reason != SHUTDOWN_NONE)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "snapshot: the guest has ended");
    else if (machine->arriving || machine->migrating)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    "snapshot: the guest is on its way from one monitor to another");
    else if (config_is_command(machine->config) && !machine->waits_for_command)
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                    "snapshot: a guest that runs one command can't be saved: the command's streams "
                    "are this program's; save it before it has one (lodge run --prepare FOLDER)");
    else
        goto devices;
    return false;
devices:
    for (struct device *device = machine->devices.first; device; device = device->next) {
        if (device->migration_blocker) {
            g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "%s can't be saved: %s",
                        device->name, device->migration_blocker);
            return false;
        }
    }
    return true;
}

static void remove_folder(const char *folder)
{
    static const char *const files[] = {"memory", "state"};

    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(folder, files[i], NULL);

        unlink(path);
    }
    rmdir(folder);
}

static void sync_parent(const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

/* To a folder beside @path that takes its name at the end; rename(2) replaces only an empty one. */
static bool save_to_folder(struct machine *machine, const char *path, GError **error)
{
    g_autofree char *folder = g_strconcat(path, ".XXXXXX", NULL);

    if (!g_mkdtemp_full(folder, 0700))
        return set_errno_error(error, path, "no folder can be made beside it");
    if (!save_all(machine, folder, error)) {
        remove_folder(folder);
        return false;
    }
    if (rename(folder, path)) {
        set_errno_error(error, path, "give the name of a new or empty folder");
        remove_folder(folder);
        return false;
    }
    sync_parent(path);
    return true;
}

static char *without_slashes(const char *path)
{
    char *copy = g_strdup(path);

    for (size_t length = strlen(copy); length > 1 && copy[length - 1] == '/';)
        copy[--length] = '\0';
    return copy;
}

bool machine_snapshot(struct machine *machine, const char *path, bool stop, GError **error)
{
    g_autofree char *clean = without_slashes(path);
    bool was_paused = machine->paused;
    g_autoptr(GError) reason = NULL;
    bool done;

    if (!machine_may_be_saved(machine, error) || !machine_pause(machine, error))
        return false;
    done = devices_set_state(&machine->devices, DEVICE_STOP_COPY, TIMEOUT_MS, error) &&
           save_to_folder(machine, clean, error);
    if (was_paused || (stop && done))
        stop = devices_set_state(&machine->devices, DEVICE_STOP, TIMEOUT_MS, &reason);
    else
        stop = machine_resume(machine, &reason);
    if (!stop && done)
        g_propagate_prefixed_error(error, g_steal_pointer(&reason),
                                   "the snapshot is written, but the guest does not go on: ");
    return done && stop;
}
