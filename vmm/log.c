/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log - lines for the person who runs the monitor (contract: vmm/log.h)
 *
 * A message that no level lets through costs one atomic load. Text may come from a guest (names,
 * panic strings), so control characters are replaced before a line reaches a terminal.
 */
#include "vmm/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};

struct level_rule {
    GPatternSpec *pattern; /* NULL: all domains */
    enum log_level level;
};

static GRWLock rules_lock;
static GArray *rules; /* of struct level_rule, the last match wins; NULL: warn for all */
static int highest_level = LOG_WARN; /* of all rules; atomic */
static int log_fd = -1;              /* atomic */
static uint64_t guest_errors;        /* atomic */

static void rule_clear(void *data)
{
    struct level_rule *rule = data;
    g_clear_pointer(&rule->pattern, g_pattern_spec_free);
}

static bool parse_level(const char *name, enum log_level *level)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(level_names); i++)
        if (!strcmp(name, level_names[i])) {
            *level = i;
            return true;
        }
    return false;
}

static bool rule_parse(const char *item, bool first, struct level_rule *rule, GError **error)
{
    const char *equals = strrchr(item, '=');
    const char *name = equals ? equals + 1 : item;

    *rule = (struct level_rule){0};
    if (!parse_level(name, &rule->level)) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "log level '%s': must be error, warn, info or debug", name);
        return false;
    }
    if (!equals && !first) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "log levels: '%s' without a domain may only come first; write DOMAIN=%s", item,
                    item);
        return false;
    }
    if (equals == item) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "log levels: '%s' lacks a domain; write DOMAIN%s", item, item);
        return false;
    }
    if (equals) {
        g_autofree char *domain = g_strndup(item, equals - item);
        rule->pattern = g_pattern_spec_new(domain);
    }
    return true;
}

bool log_set_levels(const char *spec, GError **error)
{
    g_auto(GStrv) items = g_strsplit(spec, ",", -1);
    g_autoptr(GArray) parsed = g_array_new(FALSE, TRUE, sizeof(struct level_rule));
    int highest = LOG_WARN;

    g_array_set_clear_func(parsed, rule_clear);
    for (unsigned i = 0; items[i]; i++) {
        struct level_rule rule;
        if (!rule_parse(items[i], i == 0, &rule, error))
            return false;
        g_array_append_val(parsed, rule);
        if (i == 0 && !rule.pattern)
            highest = rule.level;
        highest = MAX(highest, (int)rule.level);
    }
    if (parsed->len == 0) {
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "log levels: empty; write LEVEL[,DOMAIN=LEVEL...]");
        return false;
    }

    g_rw_lock_writer_lock(&rules_lock);
    GArray *old = rules;
    rules = g_steal_pointer(&parsed);
    __atomic_store_n(&highest_level, highest, __ATOMIC_RELAXED);
    g_rw_lock_writer_unlock(&rules_lock);
    if (old)
        g_array_unref(old);
    return true;
}

static bool is_wanted(enum log_level level, const char *domain)
{
    enum log_level limit = LOG_WARN;

    if ((int)level > __atomic_load_n(&highest_level, __ATOMIC_RELAXED))
        return false;
    g_rw_lock_reader_lock(&rules_lock);
    for (unsigned i = 0; rules && i < rules->len; i++) {
        struct level_rule *rule = &g_array_index(rules, struct level_rule, i);
        if (!rule->pattern || g_pattern_spec_match_string(rule->pattern, domain ? domain : ""))
            limit = rule->level;
    }
    g_rw_lock_reader_unlock(&rules_lock);
    return level <= limit;
}

/* Whole line or nothing; someone may have made the descriptor non-blocking, then wait a little. */
static void write_line(const char *line, size_t size)
{
    int fd = __atomic_load_n(&log_fd, __ATOMIC_RELAXED);
    bool waited = false;

    if (fd < 0)
        fd = STDERR_FILENO;
    while (size) {
        ssize_t n = write(fd, line, size);
        if (n < 0 && errno == EAGAIN && !waited) {
            struct pollfd pollfd = {.fd = fd, .events = POLLOUT};
            poll(&pollfd, 1, 100);
            waited = true;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        line += n;
        size -= n;
        waited = false;
    }
}

static void print_line(enum log_level level, const char *domain, const char *suffix,
                       const char *format, va_list args) G_GNUC_PRINTF(4, 0);
static void print_line(enum log_level level, const char *domain, const char *suffix,
                       const char *format, va_list args)
{
    g_autoptr(GString) line = g_string_new("lodge: ");

    g_string_append_printf(line, "%s: ", level_names[level]);
    if (domain && *domain)
        g_string_append_printf(line, "%s: ", domain);
    g_string_append_vprintf(line, format, args);
    if (suffix)
        g_string_append(line, suffix);
    if (line->str[line->len - 1] == '\n')
        g_string_truncate(line, line->len - 1);
    for (size_t i = 0; i < line->len; i++)
        if ((unsigned char)line->str[i] < 0x20 || line->str[i] == 0x7f)
            line->str[i] = '?';
    g_string_append_c(line, '\n');
    write_line(line->str, line->len);
}

void log_write(enum log_level level, const char *domain, const char *format, ...)
{
    int saved_errno = errno;

    if (is_wanted(level, domain)) {
        va_list args;
        va_start(args, format);
        print_line(level, domain, NULL, format, args);
        va_end(args);
    }
    errno = saved_errno;
}

/* Whether this message is within the limit; *dropped: how many were not since the last that was. */
static bool limit_pass(struct log_limit *limit, unsigned *dropped)
{
    int64_t now = g_get_monotonic_time();
    int64_t start = __atomic_load_n(&limit->window_start, __ATOMIC_ACQUIRE);

    *dropped = 0;
    /* The thread that wins the exchange opens the new window; start 0: never used. */
    if ((start == 0 || now - start >= LOG_LIMIT_SECONDS * G_USEC_PER_SEC) &&
        __atomic_compare_exchange_n(&limit->window_start, &start, now, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        __atomic_store_n(&limit->printed, 0, __ATOMIC_RELEASE);
    if (__atomic_fetch_add(&limit->printed, 1, __ATOMIC_ACQ_REL) < LOG_LIMIT_BURST) {
        *dropped = __atomic_exchange_n(&limit->dropped, 0, __ATOMIC_ACQ_REL);
        return true;
    }
    /* Keeps the counter from wrapping to a fresh burst. */
    __atomic_store_n(&limit->printed, LOG_LIMIT_BURST, __ATOMIC_RELEASE);
    __atomic_fetch_add(&limit->dropped, 1, __ATOMIC_ACQ_REL);
    return false;
}

void log_guest(struct log_limit *limit, const char *domain, const char *format, ...)
{
    int saved_errno = errno;
    unsigned dropped;

    __atomic_fetch_add(&guest_errors, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&limit->total, 1, __ATOMIC_RELAXED);
    if (is_wanted(LOG_WARN, domain) && limit_pass(limit, &dropped)) {
        char suffix[64] = "";
        va_list args;

        if (dropped)
            snprintf(suffix, sizeof(suffix), " (%u more like this were not shown)", dropped);
        va_start(args, format);
        print_line(LOG_WARN, domain, suffix, format, args);
        va_end(args);
    }
    errno = saved_errno;
}

uint64_t log_guest_errors(void)
{
    return __atomic_load_n(&guest_errors, __ATOMIC_RELAXED);
}

void log_set_fd(int fd)
{
    __atomic_store_n(&log_fd, fd, __ATOMIC_RELAXED);
}
