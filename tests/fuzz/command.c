/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzz target: what a hostile guest may send on the ports of command mode (lodge/command).
 *
 * The input is a list of pieces: a byte that chooses the port (its low bits) and whether the loop turns
 * after it, a byte with the length, and the bytes. Nothing may crash, loop or ask for the machine's end
 * more often than twice (an end, and a frame that is none).
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/fake_console.h"
#include "vmm/log.h"
#include "vmm/loop.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct option_spec specs[] = {
    {"cwd", OPTION_STRING}, {"env", OPTION_LIST}, {"tty", OPTION_BOOL, .value = "off"}, {}};

static void play(const uint8_t *data, size_t size)
{
    while (size >= 2) {
        struct console_port *port = &fake_console.ports[data[0] & 3];
        size_t length = MIN((size_t)data[1], size - 2);
        bool turn = data[0] & 4;

        if (data[0] & 8)
            fake_port_give_room(port, data[1]);
        else
            fake_port_send(port, data + 2, length);
        data += 2 + length;
        size -= 2 + length;
        if (turn)
            loop_iterate(loop_main(), false);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *words[] = {(char *)"true", NULL};
    g_autoptr(options_t) options = options_parse(specs, "run", "cwd=/", NULL);
    struct config config = {.run = options, .command = words};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct command *command;

    log_set_fd(null);
    command = command_create(&config, (int[]){null, null, null});
    g_assert_true(command_add_ports(command, NULL, NULL));
    play(data, size);
    g_assert_cmpuint(fake_console.requests, <=, 2);
    command_write_out(command);
    command_destroy(command);
    fake_console_reset();
    log_set_fd(-1);
    close(null);
    return 0;
}
