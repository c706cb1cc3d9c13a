/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * options - the typed option tree: one table per option, one tree for command line, JSON and manual
 *
 * A module declares what it takes:
 *
 *     static const struct option_spec block_options[] = {
 *         {"path", OPTION_PATH, .flags = OPTION_REQUIRED | OPTION_FIRST, .help = "image file or block device"},
 *         {"readonly", OPTION_BOOL, .value = "off", .help = "refuse guest writes"},
 *         {"queues", OPTION_UINT, .value = "1", .min = 1, .max = 64, .help = "request queues"},
 *         {},
 *     };
 *
 * and gets a struct options whose values are all checked: `--disk path=a.img,readonly`. The first
 * value may be bare if the spec has an OPTION_FIRST key; a bare boolean key means on; a comma in a
 * value is doubled. Errors name option, key, value and what is allowed:
 *
 *     --disk: queues=99: must be 1 to 64
 *     --disk: unknown key 'raedonly' (did you mean 'readonly'?); allowed: path, readonly, queues
 *
 * Ownership: struct options owns its strings; getters return pointers that live as long.
 * Threads: none; an options object is immutable once parsed.
 */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include <glib.h>
#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

enum option_type {
    OPTION_NONE, /* ends a table */
    OPTION_STRING,
    OPTION_PATH, /* a string that names a file: completions and manual say so */
    OPTION_BOOL, /* on, off, true, false, yes, no, 1, 0 */
    OPTION_UINT, /* decimal or 0x..., min to max (max 0: no limit) */
    OPTION_SIZE, /* bytes with K, M, G, T suffix (powers of 1024); a bare number is bytes */
    OPTION_ENUM, /* one of choices */
    OPTION_MAC,  /* xx:xx:xx:xx:xx:xx, unicast */
    OPTION_LIST, /* key may repeat; each value is a string */
};

enum option_flags {
    OPTION_REQUIRED = 1 << 0,
    OPTION_FIRST = 1 << 1, /* may be given bare, as the first value */
};

struct option_spec {
    const char *key;
    enum option_type type;
    const char *value;          /* default as text, or NULL: unset */
    const char *help;           /* one line */
    uint64_t min, max;          /* UINT, SIZE */
    const char *const *choices; /* ENUM: NULL-terminated */
    unsigned flags;
};

#define OPTIONS_ERROR options_error_quark()
GQuark options_error_quark(void);

struct options;

/*
 * @what names the option in messages ("--disk", "--device rtc"; "--" where each key is an option of
 * its own). NULL with @error set when @text is not a valid list for @specs. @specs must outlive the
 * result.
 */
struct options *options_parse(const struct option_spec *specs, const char *what, const char *text,
                              GError **error);
/* The same from a JSON object (--config). */
struct options *options_from_json(const struct option_spec *specs, const char *what,
                                  JsonObject *object, GError **error);
struct options *options_ref(struct options *options);
void options_free(struct options *options); /* drops a reference; NULL is allowed */
typedef struct options options_t;           /* for g_autoptr(options_t) */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(options_t, options_free)

/* What was given (or, with @all, every value in force) as a JSON object; the caller owns it. */
JsonObject *options_to_json(const struct options *options, bool all);
/* As text that options_parse would take; the caller frees it. */
char *options_to_text(const struct options *options);

const char *options_what(const struct options *options);
/* Getters: the key must be in the table with that type (a programming error otherwise, checked). */
const char *options_string(const struct options *options, const char *key); /* NULL if unset */
bool options_bool(const struct options *options, const char *key);
uint64_t options_uint(const struct options *options,
                      const char *key); /* UINT and SIZE; 0 if unset */
const char *const *options_list(const struct options *options,
                                const char *key); /* NULL-terminated */
bool options_mac(const struct options *options, const char *key,
                 uint8_t mac[6]);                                   /* false if unset */
bool options_given(const struct options *options, const char *key); /* by the user, not a default */

/* Can JSON @text be parsed without using up the stack? json-glib recurses at every bracket. No when it
 * nests deeper than @depth, or has more than @brackets opening ones: what a string or a comment is,
 * json-glib's scanner may see otherwise than we do (it knows single quotes), a count it can't escape. */
bool options_json_is_flat(const char *text, unsigned depth, unsigned brackets);
/* Parses one value as the option tree does: "64M" -> bytes. */
bool options_parse_size(const char *text, uint64_t *bytes);
/* The closest of a NULL-terminated list to a mistyped @word, or NULL. */
const char *options_suggest(const char *word, const char *const *candidates);
/* Sets an error of the house form "WHAT: KEY=VALUE: REASON"; key or value may be NULL. */
void options_set_error(GError **error, const struct options *options, const char *key,
                       const char *reason, ...) G_GNUC_PRINTF(4, 5);

#endif
