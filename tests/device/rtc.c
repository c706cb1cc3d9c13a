/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The MC146818, as its stock driver uses it. */
#include "devices/rtc.h"

#include <time.h>

#include "tests/device/harness.h"
#include "vmm/layout.h"

#define SECOND_NS INT64_C(1000000000)

enum {
    REG_A = 0x0a,
    REG_B = 0x0b,
    REG_C = 0x0c,
    REG_D = 0x0d,
    CENTURY = 0x32,
};

struct fixture {
    struct harness *h;
    struct rtc *rtc;
};

/* 2024-02-28 23:59:58 UTC, so that the next seconds turn everything but the year. */
#define LEAP_EVE INT64_C(1709164798)

static struct rtc *create(struct harness *h, int64_t offset_ns)
{
    struct rtc_config config = {.ports = h->ports,
                                .base = LAYOUT_PORT_RTC,
                                .interrupts = h->interrupts,
                                .gsi = LAYOUT_GSI_RTC,
                                .loop = h->loop,
                                .offset_ns = offset_ns};
    GError *error = NULL;
    struct rtc *rtc = rtc_create(&config, &error);

    g_assert_no_error(error);
    devices_add(&h->devices, rtc_device(rtc), &error);
    g_assert_no_error(error);
    return rtc;
}

static void setup(struct fixture *x, gconstpointer data)
{
    x->h = harness_create(0);
    x->rtc = create(x->h, 0);
}

/* A clock whose second ends soon, so that tests need not wait for one. */
static void setup_late(struct fixture *x, gconstpointer data)
{
    struct timespec host;

    x->h = harness_create(0);
    clock_gettime(CLOCK_REALTIME, &host);
    x->rtc = create(x->h, SECOND_NS - 50000000 - host.tv_nsec);
}

static void teardown(struct fixture *x, gconstpointer data)
{
    devices_remove(&x->h->devices, rtc_device(x->rtc));
    rtc_destroy(x->rtc);
    harness_destroy(x->h);
}

static uint8_t get(struct fixture *x, uint8_t reg)
{
    bus_write(x->h->ports, LAYOUT_PORT_RTC, 1, reg);
    return (uint8_t)bus_read(x->h->ports, LAYOUT_PORT_RTC + 1, 1);
}

static void set(struct fixture *x, uint8_t reg, uint8_t value)
{
    bus_write(x->h->ports, LAYOUT_PORT_RTC, 1, reg);
    bus_write(x->h->ports, LAYOUT_PORT_RTC + 1, 1, value);
}

static int bcd(uint8_t value)
{
    g_assert_cmpuint(value & 15, <, 10);
    return (value >> 4) * 10 + (value & 15);
}

/* The time by the driver's rule: not while an update is in progress. */
static time_t now(struct fixture *x)
{
    struct tm tm = {0};

    while (get(x, REG_A) & 0x80)
        g_usleep(100);
    tm.tm_sec = bcd(get(x, 0));
    tm.tm_min = bcd(get(x, 2));
    tm.tm_hour = bcd(get(x, 4));
    tm.tm_mday = bcd(get(x, 7));
    tm.tm_mon = bcd(get(x, 8)) - 1;
    tm.tm_year = bcd(get(x, 9)) + bcd(get(x, CENTURY)) * 100 - 1900;
    return timegm(&tm);
}

/* Sets the clock with updates held, as a driver does. */
static void set_time(struct fixture *x, time_t t)
{
    struct tm tm;
    uint8_t b = get(x, REG_B);

    gmtime_r(&t, &tm);
    set(x, REG_B, b | 0x80);
    const int values[][2] = {{0, tm.tm_sec},        {2, tm.tm_min},
                             {4, tm.tm_hour},       {6, tm.tm_wday + 1},
                             {7, tm.tm_mday},       {8, tm.tm_mon + 1},
                             {9, tm.tm_year % 100}, {CENTURY, tm.tm_year / 100 + 19}};
    for (unsigned i = 0; i < G_N_ELEMENTS(values); i++)
        set(x, (uint8_t)values[i][0], (uint8_t)(values[i][1] / 10 << 4 | values[i][1] % 10));
    set(x, REG_B, b);
}

static void test_host_time(struct fixture *x, gconstpointer data)
{
    time_t before = time(NULL), t = now(x), after = time(NULL);

    g_assert_cmpint(t, >=, before);
    g_assert_cmpint(t, <=, after);
    g_assert_cmphex(get(x, REG_D), ==, 0x80); /* valid */
    g_assert_cmphex(get(x, REG_B), ==, 0x02); /* 24 hours, BCD */
    g_assert_cmphex(get(x, REG_A) & 0x7f, ==, 0x26);
}

static void test_set_time_runs_on(struct fixture *x, gconstpointer data)
{
    set_time(x, LEAP_EVE);
    time_t t = now(x);
    g_assert_cmpint(t, >=, LEAP_EVE);
    g_assert_cmpint(t, <=, LEAP_EVE + 1);
    g_assert_cmpint(bcd(get(x, 6)), ==, 4); /* a Wednesday */
    int64_t deadline = loop_now_ns() + 4 * SECOND_NS;
    while (now(x) < LEAP_EVE + 2 && loop_now_ns() < deadline)
        g_usleep(10000);
    g_assert_cmpint(bcd(get(x, 8)), ==, 2); /* 29 February */
    g_assert_cmpint(bcd(get(x, 7)), ==, 29);
}

static void test_held_clock_keeps_what_is_written(struct fixture *x, gconstpointer data)
{
    set(x, REG_B, 0x82);
    set(x, 0, 0x59);
    set(x, 2, 0x34);
    g_assert_cmphex(get(x, 0), ==, 0x59);
    g_assert_cmphex(get(x, 2), ==, 0x34);
    g_assert_cmphex(get(x, REG_A) & 0x80, ==, 0); /* no update is in progress while held */
}

static void test_formats(struct fixture *x, gconstpointer data)
{
    time_t thirteen = LEAP_EVE - LEAP_EVE % 86400 + 13 * 3600 + 45 * 60;

    set_time(x, thirteen);
    g_assert_cmphex(get(x, 4), ==, 0x13);
    set(x, REG_B, 0x00); /* 12 hours */
    g_assert_cmphex(get(x, 4), ==, 0x81);
    set(x, REG_B, 0x06); /* binary, 24 hours */
    g_assert_cmphex(get(x, 4), ==, 13);
    g_assert_cmphex(get(x, 2), ==, 45);
    g_assert_cmphex(get(x, CENTURY), ==, 20);
    set(x, REG_B, 0x84); /* binary, 12 hours, held: set to 12 at night */
    set(x, 4, 12);
    set(x, REG_B, 0x04);
    set(x, REG_B, 0x02);
    g_assert_cmphex(get(x, 4), ==, 0x00);
    set(x, REG_B, 0x84);
    set(x, 2, 0);
    set(x, 4, 12 | 0x80);
    set(x, REG_B, 0x04);
    set(x, REG_B, 0x02);
    g_assert_cmphex(get(x, 4), ==, 0x12);
}

static void test_memory(struct fixture *x, gconstpointer data)
{
    for (unsigned reg = 0x0e; reg < 0x80; reg++)
        if (reg != CENTURY)
            set(x, (uint8_t)reg, (uint8_t)(reg ^ 0x5a));
    for (unsigned reg = 0x0e; reg < 0x80; reg++)
        if (reg != CENTURY)
            g_assert_cmphex(get(x, (uint8_t)reg), ==, reg ^ 0x5a);
    g_assert_cmphex(get(x, 0x90), ==, 0x10 ^ 0x5a); /* bit 7 is the NMI mask */
    g_assert_cmphex(bus_read(x->h->ports, LAYOUT_PORT_RTC, 1), ==, 0xff);
}

static void test_update_interrupt(struct fixture *x, gconstpointer data)
{
    get(x, REG_C);
    set(x, REG_B, 0x12);
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_RTC, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(get(x, REG_C) & 0x90, ==, 0x90);
    g_assert_cmphex(get(x, REG_C), ==, 0); /* reading clears */
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_RTC, 2, HARNESS_TIMEOUT_MS)); /* and again */
    set(x, REG_B, 0x02);
}

static void test_alarm_interrupt(struct fixture *x, gconstpointer data)
{
    time_t next = now(x) + 1;
    struct tm tm;

    gmtime_r(&next, &tm);
    set(x, 1, (uint8_t)(tm.tm_sec / 10 << 4 | tm.tm_sec % 10));
    set(x, 3, (uint8_t)(tm.tm_min / 10 << 4 | tm.tm_min % 10));
    set(x, 5, (uint8_t)(tm.tm_hour / 10 << 4 | tm.tm_hour % 10));
    get(x, REG_C);
    set(x, REG_B, 0x22);
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_RTC, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmpint(now(x), ==, next);
    g_assert_cmphex(get(x, REG_C) & 0xa0, ==, 0xa0);
    set(x, REG_B, 0x02);
}

static void test_alarm_wildcards(struct fixture *x, gconstpointer data)
{
    set(x, 1, 0xff); /* every second */
    set(x, 3, 0xc0);
    set(x, 5, 0xff);
    get(x, REG_C);
    set(x, REG_B, 0x22);
    g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_RTC, 1, HARNESS_TIMEOUT_MS));
    g_assert_cmphex(get(x, REG_C) & 0x20, ==, 0x20);
    set(x, REG_B, 0x02);
}

static void test_periodic_interrupt(struct fixture *x, gconstpointer data)
{
    set(x, REG_A, 0x26); /* 1024 Hz */
    set(x, REG_B, 0x42);
    for (unsigned i = 1; i <= 20; i++) {
        g_assert_true(harness_wait_gsi(x->h, LAYOUT_GSI_RTC, i, HARNESS_TIMEOUT_MS));
        g_assert_cmphex(get(x, REG_C) & 0xc0, ==, 0xc0);
    }
    set(x, REG_B, 0x02);
    get(x, REG_C);
    uint64_t count = harness_gsi_count(x->h, LAYOUT_GSI_RTC);
    harness_settle(x->h, 20);
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_RTC), ==, count);
}

static void test_flags_without_interrupts(struct fixture *x, gconstpointer data)
{
    get(x, REG_C);
    int64_t deadline = loop_now_ns() + 3 * SECOND_NS;
    uint8_t flags = 0;

    while (!flags && loop_now_ns() < deadline)
        flags = get(x, REG_C);
    g_assert_cmphex(flags & 0x90, ==, 0x10); /* an update, but no interrupt for it */
    g_assert_cmpuint(harness_gsi_count(x->h, LAYOUT_GSI_RTC), ==, 0);
}

static void test_reset_keeps_the_time(struct fixture *x, gconstpointer data)
{
    set_time(x, LEAP_EVE);
    set(x, REG_B, 0x72);
    device_reset(rtc_device(x->rtc));
    g_assert_cmphex(get(x, REG_B), ==, 0x02);
    g_assert_cmpint(now(x) - LEAP_EVE, <=, 1);
}

static void test_state(struct fixture *x, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    set_time(x, LEAP_EVE);
    set(x, 0x40, 0x77);
    g_autoptr(GByteArray) saved = harness_save(rtc_device(x->rtc));
    set_time(x, 0);
    set(x, 0x40, 0);
    g_assert_true(harness_load_state(rtc_device(x->rtc), saved, &error));
    g_assert_cmphex(get(x, 0x40), ==, 0x77);
    g_assert_cmpint(now(x) - LEAP_EVE, <=, 2);
}

static void test_nonsense_times_do_no_harm(struct fixture *x, gconstpointer data)
{
    set(x, REG_B, 0xff);
    for (unsigned value = 0; value < 256; value += 15) {
        for (uint8_t reg = 0; reg < 10; reg++)
            set(x, reg, (uint8_t)value);
        set(x, CENTURY, (uint8_t)value);
        set(x, REG_B, (uint8_t)(value & 0x7f));
        get(x, 0);
        get(x, CENTURY);
        get(x, REG_C);
        set(x, REG_B, 0xff);
    }
    device_reset(rtc_device(x->rtc));
    get(x, REG_C);
    g_assert_cmphex(get(x, REG_D), ==, 0x80);
}

#define ADD(PATH, TEST)      g_test_add(PATH, struct fixture, NULL, setup, TEST, teardown)
#define ADD_LATE(PATH, TEST) g_test_add(PATH, struct fixture, NULL, setup_late, TEST, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_levels("error", NULL);
    ADD("/rtc/host-time", test_host_time);
    ADD("/rtc/set-time", test_set_time_runs_on);
    ADD("/rtc/held", test_held_clock_keeps_what_is_written);
    ADD("/rtc/formats", test_formats);
    ADD("/rtc/memory", test_memory);
    ADD_LATE("/rtc/update", test_update_interrupt);
    ADD_LATE("/rtc/alarm", test_alarm_interrupt);
    ADD_LATE("/rtc/alarm-wildcards", test_alarm_wildcards);
    ADD("/rtc/periodic", test_periodic_interrupt);
    ADD_LATE("/rtc/flags", test_flags_without_interrupts);
    ADD("/rtc/reset", test_reset_keeps_the_time);
    ADD("/rtc/state", test_state);
    ADD("/rtc/nonsense", test_nonsense_times_do_no_harm);
    return g_test_run();
}
