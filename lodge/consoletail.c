/* SPDX-License-Identifier: GPL-2.0-or-later */
/* consoletail - a ring of the last console bytes (consoletail.h) */
#include "lodge/consoletail.h"

#include <glib.h>
#include <string.h>

static const char panic_mark[] = "Kernel panic - not syncing";

struct console_tail {
    char text[CONSOLE_TAIL_SIZE];
    size_t used;    /* bytes in text, from its start */
    size_t matched; /* of panic_mark, at the end of what came so far */
    bool panicked;
    GString *panic; /* the rest of that line */
    bool panic_done;
};

struct console_tail *console_tail_create(void)
{
    struct console_tail *tail = g_new0(struct console_tail, 1);

    tail->panic = g_string_new(NULL);
    return tail;
}

void console_tail_destroy(struct console_tail *tail)
{
    if (!tail)
        return;
    g_string_free(tail->panic, TRUE);
    g_free(tail);
}

/* The mark has no repeated prefix but its first letter, so a mismatch restarts there. */
static void look_for_panic(struct console_tail *tail, char c)
{
    if (tail->panicked) {
        if (c == '\n' || tail->panic->len > 400)
            tail->panic_done = true;
        else if (!tail->panic_done && c != '\r')
            g_string_append_c(tail->panic, c >= ' ' && c < 0x7f ? c : '?');
        return;
    }
    if (c != panic_mark[tail->matched])
        tail->matched = 0;
    if (c == panic_mark[tail->matched])
        tail->matched++;
    if (tail->matched == sizeof(panic_mark) - 1) {
        tail->panicked = true;
        g_string_assign(tail->panic, panic_mark);
    }
}

void console_tail_append(struct console_tail *tail, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        look_for_panic(tail, data[i]);
    if (size > sizeof(tail->text)) {
        data += size - sizeof(tail->text);
        size = sizeof(tail->text);
    }
    if (tail->used + size > sizeof(tail->text)) {
        /* Drop at least half, so that appending stays cheap. */
        size_t drop =
            MIN(tail->used, MAX(tail->used + size - sizeof(tail->text), sizeof(tail->text) / 2));

        memmove(tail->text, tail->text + drop, tail->used - drop);
        tail->used -= drop;
    }
    memcpy(tail->text + tail->used, data, size);
    tail->used += size;
}

bool console_tail_panicked(const struct console_tail *tail)
{
    return tail->panicked;
}

bool console_tail_empty(const struct console_tail *tail)
{
    return tail->used == 0;
}

char *console_tail_panic_line(const struct console_tail *tail)
{
    return tail->panicked ? g_strdup(tail->panic->str) : NULL;
}

char *console_tail_text(const struct console_tail *tail, unsigned lines)
{
    GString *text = g_string_new(NULL);
    size_t start = tail->used;

    if (start && tail->text[start - 1] == '\n')
        start--;
    for (; start > 0; start--)
        if (tail->text[start - 1] == '\n' && --lines == 0)
            break;
    for (size_t i = start; i < tail->used; i++) {
        unsigned char c = tail->text[i];

        if (c == '\n' || c == '\t' || c >= ' ')
            g_string_append_c(text, c < 0x7f ? c : '?');
    }
    return g_string_free(text, FALSE);
}
