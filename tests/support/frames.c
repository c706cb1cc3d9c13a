/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * frames - a guest that updates its whole screen, again and again: frames SECONDS
 *
 * A dumb buffer of the screen's preferred mode is shown on the first connected screen; each frame fills all
 * of it with another colour and tells the driver (DIRTYFB). After two seconds of that it says "BENCH-GO", and
 * after SECONDS more "BENCH-FRAMES N WIDTHxHEIGHT", then "BENCH-DONE". By DRM's ioctls alone (drm_mode.h, facts
 * of which are below): it is static, and runs where there is nothing else.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP_S 2.0
#define MOST      16u /* of objects of a kind, looked at */
#define MODES     64u

struct mode {
    uint32_t clock;
    uint16_t width, horizontal[4], height, vertical[4];
    uint32_t refresh, flags, type;
    char name[32];
};
struct resources {
    uint64_t frames, crtcs, connectors, encoders;
    uint32_t frame_count, crtc_count, connector_count, encoder_count, limits[4];
};
struct connector {
    uint64_t encoders, modes, properties, values;
    uint32_t mode_count, property_count, encoder_count, encoder, id, type, type_id, status, mm[2],
        subpixel, pad;
};
struct dumb {
    uint32_t height, width, bpp, flags, handle, pitch;
    uint64_t size;
};
struct map {
    uint32_t handle, pad;
    uint64_t offset;
};
struct frame {
    uint32_t id, width, height, pitch, bpp, depth, handle;
};
struct crtc {
    uint64_t connectors;
    uint32_t connector_count, id, frame, x, y, gamma, valid;
    struct mode mode;
};
struct dirty {
    uint32_t frame, flags, colour, clip_count;
    uint64_t clips;
};

#define GET_RESOURCES _IOWR('d', 0xa0, struct resources)
#define SET_CRTC      _IOWR('d', 0xa2, struct crtc)
#define GET_CONNECTOR _IOWR('d', 0xa7, struct connector)
#define ADD_FRAME     _IOWR('d', 0xae, struct frame)
#define DIRTY_FRAME   _IOWR('d', 0xb1, struct dirty)
#define CREATE_DUMB   _IOWR('d', 0xb2, struct dumb)
#define MAP_DUMB      _IOWR('d', 0xb3, struct map)

static void call(int fd, unsigned long request, void *argument, const char *what)
{
    if (!ioctl(fd, request, argument))
        return;
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* The card, once its driver is there. */
static int open_card(void)
{
    for (int tries = 0; tries < 100; tries++) {
        int fd = open("/dev/dri/card0", O_RDWR);

        if (fd >= 0)
            return fd;
        usleep(100000);
    }
    perror("/dev/dri/card0");
    exit(1);
}

static uint64_t address(void *pointer)
{
    return (uintptr_t)pointer;
}

/* Shows a buffer; its memory. */
static uint8_t *show(int fd, struct dumb *dumb, struct frame *frame)
{
    uint32_t crtcs[MOST], connectors[MOST];
    static struct mode modes[MODES];
    struct resources resources = {.crtcs = address(crtcs),
                                  .connectors = address(connectors),
                                  .crtc_count = MOST,
                                  .connector_count = MOST};
    struct connector connector = {.modes = address(modes)};
    struct crtc crtc = {.connectors = address(connectors), .connector_count = 1, .valid = 1};
    struct map map = {0};
    void *memory;

    call(fd, GET_RESOURCES, &resources, "GETRESOURCES");
    connector.id = connectors[0];
    call(fd, GET_CONNECTOR, &connector, "GETCONNECTOR"); /* probes it */
    connector =
        (struct connector){.modes = address(modes), .mode_count = MODES, .id = connectors[0]};
    call(fd, GET_CONNECTOR, &connector, "GETCONNECTOR");
    *dumb = (struct dumb){.height = modes[0].height, .width = modes[0].width, .bpp = 32};
    call(fd, CREATE_DUMB, dumb, "CREATE_DUMB");
    *frame = (struct frame){.width = dumb->width,
                            .height = dumb->height,
                            .pitch = dumb->pitch,
                            .bpp = 32,
                            .depth = 24,
                            .handle = dumb->handle};
    call(fd, ADD_FRAME, frame, "ADDFB");
    map.handle = dumb->handle;
    call(fd, MAP_DUMB, &map, "MAP_DUMB");
    memory = mmap(NULL, dumb->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)map.offset);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    crtc.id = crtcs[0];
    crtc.frame = frame->id;
    crtc.mode = modes[0];
    call(fd, SET_CRTC, &crtc, "SETCRTC");
    return memory;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 10, begun;
    struct dumb dumb;
    struct frame frame;
    int fd = open_card();
    uint8_t *memory = show(fd, &dumb, &frame);
    struct dirty dirty = {.frame = frame.id};
    unsigned count = 0, colour = 0;
    bool warm = false;

    for (begun = now();;) {
        double passed = now() - begun;

        if (!warm && passed >= WARM_UP_S) {
            warm = true;
            count = 0;
            begun += passed;
            printf("BENCH-GO\n");
            fflush(stdout);
        } else if (warm && passed >= seconds) {
            printf("BENCH-FRAMES %u %ux%u\nBENCH-RATE %.3f\nBENCH-DONE\n", count, dumb.width,
                   dumb.height, count / passed);
            fflush(stdout);
            return 0;
        }
        memset(memory, ++colour & 0xff, (size_t)dumb.pitch * dumb.height);
        call(fd, DIRTY_FRAME, &dirty, "DIRTYFB");
        count++;
    }
}
