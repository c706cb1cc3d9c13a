/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's file systems: /proc, /sys and /dev, the root (9p or virtiofs share, block device, or
 * the initramfs itself), a writable layer in memory over a read-only root, extra shares.
 */
#include "guest-images/init/init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW_ROOT     "/lodge/root"
#define LAYERS       "/lodge/layers"
#define DEVICE_WAIT  5000 /* ms for a block device or a share's tag to appear */
#define P9_OPTIONS   "trans=virtio,version=9p2000.L,msize=512000"
#define SHARE_OPTION 512

struct share {
    const char *source;
    const char *type; /* NULL: any file system the kernel knows */
    bool writable;
    char options[SHARE_OPTION];
};

static void mount_basic(const char *type, const char *at, unsigned long flags, const char *options)
{
    mkdir(at, 0755);
    /* EBUSY: the kernel mounted it already (devtmpfs). */
    if (mount(type, at, type, flags, options) && errno != EBUSY)
        fail(LODGE_STATUS_FAILED, "root", "cannot mount %s on %s: %s", type, at, strerror(errno));
}

void root_early(void)
{
    static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
                                           {"/proc/self/fd/0", "/dev/stdin"},
                                           {"/proc/self/fd/1", "/dev/stdout"},
                                           {"/proc/self/fd/2", "/dev/stderr"}};

    umask(022);
    mount_basic("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_basic("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_basic("devtmpfs", "/dev", MS_NOSUID, "mode=0755");
    mount_basic("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    mount_basic("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
        if (symlink(links[i][0], links[i][1]) && errno != EEXIST)
            say("cannot make %s: %s", links[i][1], strerror(errno));
}

/* "ro,type=ext4,cache=none,...": what is not ours goes to the file system. */
static void parse_options(struct share *share, char *text, const char *what)
{
    for (char *save, *one = text ? strtok_r(text, ",", &save) : NULL; one;
         one = strtok_r(NULL, ",", &save)) {
        size_t have = strlen(share->options);

        if (!strcmp(one, "ro"))
            share->writable = false;
        else if (!strcmp(one, "rw"))
            share->writable = true;
        else if (!strncmp(one, "type=", 5))
            share->type = one + 5;
        else if (have + strlen(one) + 2 > sizeof(share->options))
            fail(LODGE_STATUS_FAILED, "root", "%s: mount options longer than %d bytes", what,
                 SHARE_OPTION);
        else
            sprintf(share->options + have, "%s%s", have ? "," : "", one);
    }
}

/* The file systems that live on block devices, most likely first. */
static int mount_any(const struct share *share, const char *at, unsigned long flags)
{
    static const char *const types[] = {"ext4",  "xfs",     "btrfs", "squashfs",
                                        "erofs", "iso9660", "vfat"};
    int error = EINVAL;

    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++) {
        if (mount(share->source, at, types[i], flags, share->options) == 0)
            return 0;
        if (errno != EINVAL && errno != ENODEV)
            error = errno;
    }
    return error;
}

static int mount_once(const struct share *share, const char *at)
{
    unsigned long flags = share->writable ? 0 : MS_RDONLY;
    char *options;
    int error;

    if (!share->type)
        return mount_any(share, at, flags);
    if (!strcmp(share->type, "9p")) {
        /* What the host may change under us must not be cached; a read-only root is cached. */
        bool cache = strstr(share->options, "cache=") != NULL;

        options = must_format(P9_OPTIONS "%s%s%s",
                              cache             ? ""
                              : share->writable ? ",cache=none"
                                                : ",cache=loose",
                              *share->options ? "," : "", share->options);
    } else {
        options = must_format("%s", share->options);
    }
    error = mount(share->source, at, share->type, flags, options) ? errno : 0;
    free(options);
    return error;
}

/* Devices appear some time after their driver: ask until they are there, but not for ever. */
static void mount_share(const struct share *share, const char *at)
{
    uint64_t until = now_ns() + (uint64_t)DEVICE_WAIT * 1000000;
    int error;

    make_dirs(at);
    while ((error = mount_once(share, at))) {
        if ((error != ENOENT && error != ENXIO) || now_ns() > until)
            fail(LODGE_STATUS_FAILED, "root", "cannot mount %s %s on %s: %s",
                 share->type ? share->type : "block device", share->source, at,
                 error == ENODEV   ? "the kernel has no such file system (module missing?)"
                 : error == ENOENT ? "no such device or share"
                                   : strerror(error));
        sleep_ms(5);
    }
}

void root_mount_share(const char *spec)
{
    struct share share = {.type = "9p"};
    char *copy = must_format("%s", spec);
    char *at = strchr(copy, ','), *options;

    if (!at || at[1] != '/')
        fail(LODGE_STATUS_FAILED, "root",
             "mount %s: expected TAG,/MOUNT/POINT[,ro|rw][,type=9p|virtiofs][,OPTION...]", spec);
    *at++ = 0;
    options = strchr(at, ',');
    if (options)
        *options++ = 0;
    share.source = copy;
    parse_options(&share, options, spec);
    mount_share(&share, at);
    free(copy);
}

void root_shares(void)
{
    for (const struct setting *s = NULL; (s = setting_next("mount", s));)
        root_mount_share(s->value);
}

/* Puts a writable layer in memory over what is mounted at LAYERS/lower. */
static void mount_overlay(void)
{
    mkdir(LAYERS "/upper", 0755);
    mkdir(LAYERS "/work", 0755);
    if (mount("lodge-root", NEW_ROOT, "overlay", 0,
              "lowerdir=" LAYERS "/lower,upperdir=" LAYERS "/upper,workdir=" LAYERS "/work"))
        fail(LODGE_STATUS_FAILED, "root", "cannot mount the writable layer over the root: %s",
             errno == ENODEV ? "the kernel has no overlay file system (module missing?)"
                             : strerror(errno));
}

static void carry_over(const char *from)
{
    char *to = must_format(NEW_ROOT "%s", from);

    mkdir(to, 0755);
    if (mount(from, to, NULL, MS_MOVE, NULL))
        fail(LODGE_STATUS_FAILED, "root", "cannot move %s into the root: %s", from,
             strerror(errno));
    free(to);
}

static void switch_root(void)
{
    carry_over("/proc");
    carry_over("/sys");
    carry_over("/dev");
    if (chdir(NEW_ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        fail(LODGE_STATUS_FAILED, "root", "cannot enter the root: %s", strerror(errno));
    /* /run belongs to a running system; the host's or an image's would only mislead. */
    mount_basic("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755");
}

void root_enter(void)
{
    const char *spec = setting("root"), *overlay = setting("overlay");
    struct share share = {0};
    char *copy, *options;
    bool layered;

    if (!spec || !strcmp(spec, "none"))
        return;
    copy = must_format("%s", spec);
    share.source = strchr(copy, ':');
    if (!share.source)
        fail(LODGE_STATUS_FAILED, "root",
             "lodge.root=%s: expected 9p:TAG, virtiofs:TAG, block:DEVICE or none", spec);
    *(char *)share.source++ = 0;
    if (!strcmp(copy, "9p") || !strcmp(copy, "virtiofs"))
        share.type = copy;
    else if (strcmp(copy, "block"))
        fail(LODGE_STATUS_FAILED, "root", "lodge.root=%s: %s is not 9p, virtiofs, block or none",
             spec, copy);
    options = strchr(share.source, ',');
    if (options)
        *options++ = 0;
    parse_options(&share, options, spec);

    layered = overlay ? !strcmp(overlay, "yes") : !share.writable;
    mkdir("/lodge", 0755);
    mkdir(NEW_ROOT, 0755);
    if (layered) {
        mount_basic("tmpfs", LAYERS, 0, "mode=0755");
        mount_share(&share, LAYERS "/lower");
        mount_overlay();
    } else {
        mount_share(&share, NEW_ROOT);
    }
    switch_root();
    free(copy);
}
