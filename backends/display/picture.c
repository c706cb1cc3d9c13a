/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * picture - a surface as a file: PNG through libpng, or PPM (contract: display.h)
 *
 * Rows are copied before they are encoded, since the guest may be drawing. The file is written beside
 * its place and then renamed.
 */
#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "backends/display/display.h"
#include "config.h"

#ifdef HAVE_LIBPNG
#include <png.h>
#endif

#define PNG_LEVEL 1 /* of zlib: a picture of a desktop takes a tenth of the time of level 6 */

/* A row as R, G, B bytes. */
static void read_row(const struct display_surface *surface, uint32_t y, uint8_t *row)
{
    const uint8_t *pixel = surface->pixels + (size_t)y * surface->stride;

    for (uint32_t x = 0; x < surface->width; x++, pixel += 4, row += 3) {
        row[0] = pixel[2];
        row[1] = pixel[1];
        row[2] = pixel[0];
    }
}

/* Each writes to @file; false: errno says why. */

static bool write_ppm(const struct display_surface *surface, FILE *file, uint8_t *row)
{
    fprintf(file, "P6\n%u %u\n255\n", surface->width, surface->height);
    for (uint32_t y = 0; y < surface->height; y++) {
        read_row(surface, y, row);
        if (fwrite(row, 3, surface->width, file) != surface->width)
            return false;
    }
    return true;
}

#ifdef HAVE_LIBPNG

static void on_png_error(png_structp png, png_const_charp message)
{
    longjmp(png_jmpbuf(png), 1);
}

static void on_png_warning(png_structp png, png_const_charp message)
{
}

static bool encode_png(png_structp png, png_infop info, const struct display_surface *surface,
                       FILE *file, uint8_t *row)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_init_io(png, file);
    png_set_compression_level(png, PNG_LEVEL);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE); /* best for flat areas and text */
    png_set_IHDR(png, info, surface->width, surface->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (uint32_t y = 0; y < surface->height; y++) {
        read_row(surface, y, row);
        png_write_row(png, row);
    }
    png_write_end(png, info);
    return true;
}

static bool write_png(const struct display_surface *surface, FILE *file, uint8_t *row)
{
    png_structp png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_png_error, on_png_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    bool done;

    errno = ENOMEM; /* libpng has no other reason but those of the file, which set it */
    done = info && encode_png(png, info, surface, file, row);
    png_destroy_write_struct(&png, &info);
    return done;
}

#endif

typedef bool (*writer)(const struct display_surface *surface, FILE *file, uint8_t *row);

static writer choose_writer(const char *path, GError **error)
{
    if (g_str_has_suffix(path, ".ppm"))
        return write_ppm;
#ifdef HAVE_LIBPNG
    return write_png;
#else
    g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED,
                "%s: this lodge was built without libpng (Debian: libpng-dev); name the file .ppm",
                path);
    return NULL;
#endif
}

bool display_write_picture(const struct display_surface *surface, const char *path, GError **error)
{
    g_autofree char *beside = g_strdup_printf("%s.XXXXXX", path);
    g_autofree uint8_t *row = g_malloc((gsize)3 * surface->width);
    writer write_to = choose_writer(path, error);
    FILE *file;
    bool done;
    int fd;

    if (!write_to)
        return false;
    fd = g_mkstemp_full(beside, O_WRONLY | O_CLOEXEC, 0666);
    file = fd < 0 ? NULL : fdopen(fd, "wb");
    done = file && write_to(surface, file, row);
    if (file && fclose(file) != 0)
        done = false;
    if (done && rename(beside, path) == 0)
        return true;
    g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno), "%s: %s", path, g_strerror(errno));
    if (fd >= 0)
        unlink(beside);
    return false;
}
