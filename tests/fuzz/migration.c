/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a hostile source sends to `lodge restore --listen`. Checksums would stop nearly all of it at the
 * door, so the input is a list of messages that are made right again: u8 type, u16 length, payload. The
 * rest of an input that has no such message left is parsed as it is.
 */
#include <stdlib.h>
#include <string.h>

#include "vmm/migration.h"
#include "vmm/snapshot.h"

#define RAM (UINT64_C(256) << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static bool take(struct migration_sink *sink, const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    struct migration_message message;
    gssize taken = migration_parse(data, size, &message, &error);

    if (taken <= 0) {
        check((taken < 0) == (error != NULL));
        return false;
    }
    check((size_t)taken <= size && message.data + message.size <= data + size);
    if (!migration_sink_take(sink, &message, &error)) {
        check(error != NULL);
        return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct memory_ram_options options = {.no_thp = true, .private = true};
    struct memory *memory = memory_create();
    struct migration_sink sink;
    bool goes_on = true;

    check(memory_add_ram(memory, RAM, UINT64_C(3) << 30, &options, NULL));
    migration_sink_init(&sink);
    while (goes_on && size >= 3) {
        size_t length = MIN((size_t)(data[1] | data[2] << 8), size - 3);
        g_autoptr(GByteArray) bytes = g_byte_array_new();

        migration_put(bytes, data[0], data + 3, length);
        goes_on = take(&sink, bytes->data, bytes->len);
        data += 3 + length;
        size -= 3 + length;
        if (sink.layout && migration_sink_fits(&sink, memory, NULL))
            sink.memory = memory;
    }
    take(&sink, data, size);
    if (sink.done)
        snapshot_destroy(snapshot_decode(sink.state->data, sink.state->len, NULL));
    check(!sink.committed || sink.done);
    check(!sink.pages || sink.memory);
    migration_sink_clear(&sink);
    memory_destroy(memory);
    return 0;
}
