/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gpu_edid - what a screen of virtio/gpu says of itself (VESA E-EDID 1.4; DisplayID 1.3 for the rest)
 *
 * A digital screen without a limit worth mentioning, that prefers one size at 60 Hz with reduced
 * blanking (VESA CVT 1.2), and knows the common ones. A detailed timing descriptor ends at 4095 pixels
 * and 655.35 MHz; a larger size goes into a DisplayID extension, whose timings end at 65536 pixels.
 */
#include <stdio.h>
#include <string.h>

#include "virtio/gpu_private.h"

#define REFRESH        60u
#define H_BLANK        160u /* CVT reduced blanking: pixels */
#define H_FRONT        48u
#define H_SYNC         32u
#define V_FRONT        3u /* lines */
#define V_SYNC         5u
#define V_BACK_MIN     6u
#define V_BLANK_US     460u
#define DTD_MAX_PIXELS 4095u
#define DTD_MAX_CLOCK  65535u /* 10 kHz */
#define DOTS_PER_INCH  100u
#define BLOCK          128u

struct timing {
    uint32_t width, height;
    uint32_t v_blank; /* lines */
    uint32_t clock;   /* 10 kHz */
};

static struct timing make_timing(uint32_t width, uint32_t height)
{
    struct timing t = {.width = width, .height = height};
    uint32_t frame_us = 1000000 / REFRESH - V_BLANK_US;
    uint64_t total;

    t.v_blank = MAX(V_BLANK_US * height / frame_us + 1, V_FRONT + V_SYNC + V_BACK_MIN);
    total = (uint64_t)(width + H_BLANK) * (height + t.v_blank);
    t.clock = (total * REFRESH + 5000) / 10000;
    return t;
}

static bool fits_descriptor(const struct timing *t)
{
    return t->width <= DTD_MAX_PIXELS && t->height <= DTD_MAX_PIXELS && t->clock <= DTD_MAX_CLOCK;
}

static uint32_t millimetres(uint32_t pixels)
{
    return MIN(pixels * 254 / (DOTS_PER_INCH * 10), 4095);
}

/* EDID 1.4, 3.10.2 */
static void put_timing(uint8_t *d, const struct timing *t)
{
    uint32_t mm_x = millimetres(t->width), mm_y = millimetres(t->height);

    d[0] = t->clock;
    d[1] = t->clock >> 8;
    d[2] = t->width;
    d[3] = H_BLANK;
    d[4] = (t->width >> 8) << 4 | H_BLANK >> 8;
    d[5] = t->height;
    d[6] = t->v_blank;
    d[7] = (t->height >> 8) << 4 | t->v_blank >> 8;
    d[8] = H_FRONT;
    d[9] = H_SYNC;
    d[10] = V_FRONT << 4 | V_SYNC;
    d[11] = 0;
    d[12] = mm_x;
    d[13] = mm_y;
    d[14] = (mm_x >> 8) << 4 | mm_y >> 8;
    d[17] = 0x1a; /* digital separate sync, horizontal positive, vertical negative */
}

/* EDID 1.4, 3.10.3: a descriptor with text. */
static void put_text(uint8_t *d, uint8_t tag, const char *text)
{
    size_t length = strlen(text);

    d[3] = tag;
    memset(d + 5, ' ', 13);
    memcpy(d + 5, text, MIN(length, 13));
    if (length < 13)
        d[5 + length] = '\n';
}

static void put_limits(uint8_t *d)
{
    static const uint8_t limits[] = {0,    0,    0,    0xfd, 0,   24,  125, 15,  255,
                                     0xff, 0x01, '\n', ' ',  ' ', ' ', ' ', ' ', ' '};

    memcpy(d, limits, sizeof(limits));
}

static uint8_t checksum(const uint8_t *data, size_t size)
{
    uint8_t sum = 0;

    while (size--)
        sum += *data++;
    return -sum;
}

/* DisplayID 1.3: one detailed timing of type I, preferred. All its numbers are one less. */
static void put_extension(uint8_t *block, const struct timing *t)
{
    const uint16_t numbers[] = {t->width - 1, H_BLANK - 1,   (H_FRONT - 1) | 0x8000,
                                H_SYNC - 1,   t->height - 1, t->v_blank - 1,
                                V_FRONT - 1,  V_SYNC - 1};
    uint8_t *section = block + 1, *timing = section + 4 + 3;

    block[0] = 0x70; /* the tag of a DisplayID extension */
    section[0] = 0x12;
    section[1] = 3 + 20; /* bytes of its data blocks */
    section[4] = 0x03;   /* type I timings, revision 0 */
    section[6] = 20;
    timing[0] = t->clock - 1;
    timing[1] = (t->clock - 1) >> 8;
    timing[2] = (t->clock - 1) >> 16;
    timing[3] = 0x80; /* preferred */
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++) {
        timing[4 + 2 * i] = numbers[i];
        timing[5 + 2 * i] = numbers[i] >> 8;
    }
    section[4 + section[1]] = checksum(section, 4 + section[1]);
    block[BLOCK - 1] = checksum(block, BLOCK - 1);
}

size_t gpu_make_edid(uint8_t *edid, unsigned scanout, uint32_t width, uint32_t height)
{
    static const uint8_t header[] = {
        0x00,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0x00,                              /* always so */
        ('L' - 64) << 2 | ('D' - 64) >> 3, /* "LDG", five bits a letter */
        (('D' - 64) & 7) << 5 | ('G' - 64),
        0x01,
        0x00, /* product */
    };
    /* Size / 8 - 31, then proportions (0: 16:10, 1: 4:3, 2: 5:4, 3: 16:9) and rate - 60. */
    static const uint8_t standard[] = {
        1920 / 8 - 31, 0xc0, 1600 / 8 - 31, 0xc0, 1280 / 8 - 31, 0xc0, 1920 / 8 - 31, 0x00,
        1680 / 8 - 31, 0x00, 1440 / 8 - 31, 0x00, 1280 / 8 - 31, 0x00, 1280 / 8 - 31, 0x80};
    static const uint8_t colours[] = {0xee, 0x91, 0xa3, 0x54, 0x4c, /* sRGB */
                                      0x99, 0x26, 0x0f, 0x50, 0x54};
    struct timing preferred = make_timing(width, height), fallback = make_timing(1024, 768);
    bool fits = fits_descriptor(&preferred);
    char name[14];

    memset(edid, 0, GPU_MAX_EDID);
    memcpy(edid, header, sizeof(header));
    edid[12] = scanout + 1; /* serial number */
    edid[16] = 1;           /* week and year it was made in */
    edid[17] = 2026 - 1990;
    edid[18] = 1; /* version 1.4 */
    edid[19] = 4;
    edid[20] = 0xa5; /* digital, 8 bits a colour, DisplayPort */
    edid[21] = MIN(millimetres(width) / 10, 255);
    edid[22] = MIN(millimetres(height) / 10, 255);
    edid[23] = 120;  /* gamma 2.2 */
    edid[24] = 0x06; /* sRGB; the first timing is the preferred one */
    memcpy(edid + 25, colours, sizeof(colours));
    edid[35] = 0x21; /* 640x480 and 800x600 */
    edid[36] = 0x08; /* 1024x768 */
    memcpy(edid + 38, standard, sizeof(standard));
    put_timing(edid + 54, fits ? &preferred : &fallback);
    snprintf(name, sizeof(name), "Lodge %u", scanout);
    put_text(edid + 72, 0xfc, name);
    put_limits(edid + 90);
    put_text(edid + 108, 0xfe, "virtio-gpu");
    edid[126] = fits ? 0 : 1; /* extensions */
    edid[127] = checksum(edid, BLOCK - 1);
    if (!fits)
        put_extension(edid + BLOCK, &preferred);
    return fits ? BLOCK : 2 * BLOCK;
}
