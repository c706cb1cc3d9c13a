/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rtc - MC146818A real-time clock with CMOS memory (Motorola data sheet; ACPI 6.5, 4.7.2.4)
 *
 * Ports: +0 index (bit 7, the PC's NMI mask, is ignored), +1 data. Registers 0x00-0x0d as in the data
 * sheet, BCD or binary, 12 or 24 hours; 0x32 is the century (the FADT says so); the rest is memory.
 * Stock driver: rtc_cmos.
 *
 * Time is not counted but computed: the host's real time plus an offset, which changes when the
 * guest sets the clock. Update-in-progress is shown for the 244 us before a second ends, so a driver
 * that honours it reads all registers of the same second. Alarm and update interrupts come from a
 * timer that only runs while one of them is enabled; without it their flags are worked out when
 * register C is read. The periodic interrupt is a timer of its own; periods that the host missed are
 * not made up for.
 *
 * Limits: no square wave, no daylight saving; the divider does not stop the clock. The alarm has no
 * day and month registers.
 *
 * Threads: registers on vCPU threads, timers on the loop; a lock serialises.
 */
#include "devices/rtc.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "devices/isa.h"
#include "vmm/state.h"
#include "vmm/trace.h"

TRACE_EVENT(rtc_read, "reg=0x%02x value=0x%02x", (unsigned reg, unsigned value), reg, value)
TRACE_EVENT(rtc_write, "reg=0x%02x value=0x%02x", (unsigned reg, unsigned value), reg, value)
TRACE_EVENT(rtc_interrupt, "flags=0x%02x", (unsigned flags), flags)

#define CMOS_SIZE 128
#define SECOND_NS INT64_C(1000000000)

enum {
    SECONDS = 0x00,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    DAY_OF_WEEK,
    DAY,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    CENTURY = 0x32,
};

#define A_UIP         0x80
#define A_RATE        0x0f
#define A_DIVIDER_32K 0x20 /* the 32768 Hz time base of PCs */
#define B_SET         0x80
#define B_PIE         0x40
#define B_AIE         0x20
#define B_UIE         0x10
#define B_SQWE        0x08
#define B_BINARY      0x04
#define B_24H         0x02
#define C_IRQF        0x80
#define C_PF          0x40
#define C_AF          0x20
#define C_UF          0x10
#define D_VALID       0x80
#define HOURS_PM      0x80
#define ALARM_ANY     0xc0 /* both top bits: matches every value */
#define UIP_NS        244000
#define MAX_CATCH_UP  86400 /* an alarm matches at least once a day, or never */

struct rtc {
    struct device device;
    struct rtc_config config;
    struct irq_line line;
    struct loop_timer *seconds, *periodic;
    pthread_mutex_t lock;
    uint8_t index;
    uint8_t cmos[CMOS_SIZE]; /* time registers: only while B_SET holds the clock */
    uint64_t offset_ns;      /* signed: guest time minus host time */
    uint64_t checked;        /* the second up to which alarm and update flags are worked out */
};

/* ---- time ---- */

static int64_t host_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static int64_t guest_ns(const struct rtc *rtc)
{
    return (int64_t)((uint64_t)host_ns() + rtc->offset_ns);
}

/* Rounds down, also before 1970. */
static int64_t to_seconds(int64_t ns)
{
    return ns / SECOND_NS - (ns % SECOND_NS < 0);
}

static uint8_t encode(const struct rtc *rtc, unsigned value)
{
    if (rtc->cmos[REG_B] & B_BINARY)
        return (uint8_t)value;
    return (uint8_t)((value / 10 % 10) << 4 | value % 10);
}

static unsigned decode(const struct rtc *rtc, uint8_t value)
{
    return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10u + (value & 15);
}

static uint8_t encode_hours(const struct rtc *rtc, unsigned hours)
{
    if (rtc->cmos[REG_B] & B_24H)
        return encode(rtc, hours);
    return (uint8_t)(encode(rtc, hours % 12 ? hours % 12 : 12) | (hours >= 12 ? HOURS_PM : 0));
}

static unsigned decode_hours(const struct rtc *rtc, uint8_t value)
{
    if (rtc->cmos[REG_B] & B_24H)
        return decode(rtc, value);
    return decode(rtc, value & ~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

/* The time registers for a second of the guest's clock. */
static void encode_time(const struct rtc *rtc, int64_t second, uint8_t *cmos)
{
    struct tm tm = {0};
    time_t t = (time_t)second;

    gmtime_r(&t, &tm);
    unsigned year = (unsigned)tm.tm_year + 1900;
    cmos[SECONDS] = encode(rtc, (unsigned)tm.tm_sec);
    cmos[MINUTES] = encode(rtc, (unsigned)tm.tm_min);
    cmos[HOURS] = encode_hours(rtc, (unsigned)tm.tm_hour);
    cmos[DAY_OF_WEEK] = encode(rtc, (unsigned)tm.tm_wday + 1);
    cmos[DAY] = encode(rtc, (unsigned)tm.tm_mday);
    cmos[MONTH] = encode(rtc, (unsigned)tm.tm_mon + 1);
    cmos[YEAR] = encode(rtc, year % 100);
    cmos[CENTURY] = encode(rtc, year / 100);
}

/* The second that the time registers say; a guest may write any nonsense: timegm makes it a time. */
static int64_t decode_time(const struct rtc *rtc)
{
    const uint8_t *cmos = rtc->cmos;
    struct tm tm = {
        .tm_sec = (int)decode(rtc, cmos[SECONDS]),
        .tm_min = (int)decode(rtc, cmos[MINUTES]),
        .tm_hour = (int)decode_hours(rtc, cmos[HOURS]),
        .tm_mday = (int)decode(rtc, cmos[DAY]),
        .tm_mon = (int)decode(rtc, cmos[MONTH]) - 1,
        .tm_year = (int)(decode(rtc, cmos[CENTURY]) * 100 + decode(rtc, cmos[YEAR])) - 1900,
    };

    return timegm(&tm);
}

static bool is_time_register(unsigned reg)
{
    return reg == SECONDS || reg == MINUTES || reg == HOURS ||
           (reg >= DAY_OF_WEEK && reg <= YEAR) || reg == CENTURY;
}

static bool is_alarm_register(unsigned reg)
{
    return reg == SECONDS_ALARM || reg == MINUTES_ALARM || reg == HOURS_ALARM;
}

/* ---- flags, interrupt, timers; the lock is held ---- */

static void update_line(struct rtc *rtc)
{
    uint8_t on = rtc->cmos[REG_C] & rtc->cmos[REG_B] & (C_PF | C_AF | C_UF);

    if (on)
        rtc->cmos[REG_C] |= C_IRQF;
    else
        rtc->cmos[REG_C] &= (uint8_t)~C_IRQF;
    if (on)
        trace_rtc_interrupt(rtc->cmos[REG_C]);
    irq_line_set(&rtc->line, on != 0);
}

static bool alarm_matches(const struct rtc *rtc, const uint8_t *now)
{
    for (unsigned reg = SECONDS; reg <= HOURS; reg += 2) {
        uint8_t want = rtc->cmos[reg + 1];
        if ((want & ALARM_ANY) != ALARM_ANY && want != now[reg])
            return false;
    }
    return true;
}

/* Sets the flags of the seconds that began since last time. */
static void catch_up(struct rtc *rtc)
{
    int64_t now = to_seconds(guest_ns(rtc)), from = (int64_t)rtc->checked;
    uint8_t cmos[CMOS_SIZE];

    if (rtc->cmos[REG_B] & B_SET)
        return; /* no updates, no alarms */
    if (now <= from || now - from > MAX_CATCH_UP)
        from = MAX(now - MAX_CATCH_UP, MIN(from, now));
    if (now == from)
        return;
    rtc->cmos[REG_C] |= C_UF;
    while (from < now && !(rtc->cmos[REG_C] & C_AF)) {
        encode_time(rtc, ++from, cmos);
        if (alarm_matches(rtc, cmos))
            rtc->cmos[REG_C] |= C_AF;
    }
    rtc->checked = (uint64_t)now;
}

/* From now on flags are about later seconds. */
static void forget_past(struct rtc *rtc)
{
    rtc->checked = (uint64_t)to_seconds(guest_ns(rtc));
}

static int64_t period_ns(const struct rtc *rtc)
{
    unsigned rate = rtc->cmos[REG_A] & A_RATE;

    if (!rate)
        return 0;
    if (rate < 3) /* the data sheet's table repeats for the two fastest */
        rate += 7;
    return (SECOND_NS << (rate - 1)) / 32768;
}

static void set_timers(struct rtc *rtc)
{
    uint8_t b = rtc->cmos[REG_B];
    int64_t period = period_ns(rtc);

    if ((b & (B_AIE | B_UIE)) && !(b & B_SET)) {
        int64_t now = guest_ns(rtc);
        int64_t left = SECOND_NS - (now - to_seconds(now) * SECOND_NS);
        loop_timer_set(rtc->seconds, loop_now_ns() + left);
    } else {
        loop_timer_cancel(rtc->seconds);
    }
    if ((b & B_PIE) && period) {
        if (loop_timer_deadline(rtc->periodic) < 0)
            loop_timer_set(rtc->periodic, loop_now_ns() + period);
    } else {
        loop_timer_cancel(rtc->periodic);
    }
}

static void on_second(void *opaque)
{
    struct rtc *rtc = opaque;

    pthread_mutex_lock(&rtc->lock);
    if (device_is_running(&rtc->device)) {
        catch_up(rtc);
        update_line(rtc);
        set_timers(rtc);
    }
    pthread_mutex_unlock(&rtc->lock);
}

static void on_period(void *opaque)
{
    struct rtc *rtc = opaque;

    pthread_mutex_lock(&rtc->lock);
    if (device_is_running(&rtc->device)) {
        rtc->cmos[REG_C] |= C_PF;
        update_line(rtc);
        set_timers(rtc);
    }
    pthread_mutex_unlock(&rtc->lock);
}

/* ---- registers ---- */

static uint8_t read_register(struct rtc *rtc, unsigned reg)
{
    uint8_t cmos[CMOS_SIZE], value;
    int64_t now = guest_ns(rtc);
    bool held = rtc->cmos[REG_B] & B_SET;

    if (is_time_register(reg) && !held) {
        encode_time(rtc, to_seconds(now), cmos);
        return cmos[reg];
    }
    switch (reg) {
    case REG_A:
        value = rtc->cmos[REG_A] & (uint8_t)~A_UIP;
        if (!held && now - to_seconds(now) * SECOND_NS >= SECOND_NS - UIP_NS)
            value |= A_UIP;
        return value;
    case REG_C:
        catch_up(rtc);
        update_line(rtc); /* for IRQF */
        value = rtc->cmos[REG_C];
        if (isa_reads_have_effects(&rtc->device)) {
            rtc->cmos[REG_C] = 0;
            update_line(rtc);
        }
        return value;
    case REG_D:
        return D_VALID;
    default:
        return rtc->cmos[reg];
    }
}

/* The clock goes on from what the time registers say. */
static void start_clock(struct rtc *rtc)
{
    rtc->offset_ns = (uint64_t)decode_time(rtc) * SECOND_NS - (uint64_t)host_ns();
    forget_past(rtc);
}

static void write_b(struct rtc *rtc, uint8_t value)
{
    bool was_held = rtc->cmos[REG_B] & B_SET, held = value & B_SET;

    if (held)
        value &= (uint8_t)~B_UIE; /* as the data sheet has it */
    if (!was_held)
        encode_time(rtc, to_seconds(guest_ns(rtc)), rtc->cmos); /* in the old format */
    catch_up(rtc);
    if (was_held && !held) {
        rtc->cmos[REG_B] = value;
        start_clock(rtc);
    }
    rtc->cmos[REG_B] = value;
    update_line(rtc);
    set_timers(rtc);
}

static void write_register(struct rtc *rtc, unsigned reg, uint8_t value)
{
    if (is_time_register(reg)) {
        bool held = rtc->cmos[REG_B] & B_SET;
        if (!held)
            encode_time(rtc, to_seconds(guest_ns(rtc)), rtc->cmos);
        rtc->cmos[reg] = value;
        if (!held)
            start_clock(rtc);
        return;
    }
    switch (reg) {
    case REG_A:
        loop_timer_cancel(rtc->periodic);
        rtc->cmos[REG_A] = value & (uint8_t)~A_UIP;
        set_timers(rtc);
        break;
    case REG_B:
        write_b(rtc, value);
        break;
    case REG_C:
    case REG_D:
        break; /* read-only */
    default:
        if (is_alarm_register(reg))
            catch_up(rtc); /* the old alarm for what was */
        rtc->cmos[reg] = value;
        break;
    }
}

static uint64_t port_read(void *opaque, uint64_t offset, unsigned size)
{
    struct rtc *rtc = opaque;

    if (!isa_may_read(&rtc->device))
        return UINT64_MAX;
    if (offset == 0)
        return UINT64_MAX; /* the index can't be read, as on PCs */
    pthread_mutex_lock(&rtc->lock);
    unsigned reg = rtc->index;
    uint8_t value = read_register(rtc, reg);
    pthread_mutex_unlock(&rtc->lock);
    trace_rtc_read(reg, value);
    return value | UINT64_C(0xffffffffffffff00);
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *rtc = opaque;

    if (!isa_may_write(&rtc->device))
        return;
    pthread_mutex_lock(&rtc->lock);
    if (offset == 0)
        rtc->index = value & (CMOS_SIZE - 1);
    if (offset == 1 || size > 1) { /* a word sets both */
        uint8_t byte = (uint8_t)(offset == 1 ? value : value >> 8);
        trace_rtc_write(rtc->index, byte);
        write_register(rtc, rtc->index, byte);
    }
    pthread_mutex_unlock(&rtc->lock);
}

static const struct bus_ops port_ops = {port_read, port_write};

/* ---- life ---- */

/* RESET# of the chip: the clock goes on, interrupts are off. */
static void reset(struct device *device)
{
    struct rtc *rtc = (struct rtc *)device;

    pthread_mutex_lock(&rtc->lock);
    if (rtc->cmos[REG_B] & B_SET)
        start_clock(rtc); /* a guest that died while it set the clock must not stop it */
    rtc->index = 0;
    rtc->cmos[REG_A] = A_DIVIDER_32K | 6;
    rtc->cmos[REG_B] = B_24H;
    rtc->cmos[REG_C] = 0;
    forget_past(rtc);
    update_line(rtc);
    set_timers(rtc);
    pthread_mutex_unlock(&rtc->lock);
}

static void quiesce(struct device *device)
{
    struct rtc *rtc = (struct rtc *)device;

    loop_timer_cancel(rtc->seconds);
    loop_timer_cancel(rtc->periodic);
}

static void resume(struct device *device)
{
    struct rtc *rtc = (struct rtc *)device;

    pthread_mutex_lock(&rtc->lock);
    catch_up(rtc);
    update_line(rtc);
    set_timers(rtc);
    pthread_mutex_unlock(&rtc->lock);
}

static bool after_load(struct device *device, GError **error)
{
    struct rtc *rtc = (struct rtc *)device;

    /* Any content is one that a guest could have written; what it can't write is made so. */
    rtc->index &= CMOS_SIZE - 1;
    rtc->cmos[REG_A] &= (uint8_t)~A_UIP;
    return true;
}

static const struct device_ops device_ops = {
    .quiesce = quiesce,
    .resume = resume,
    .reset = reset,
    .after_load = after_load,
};

static const struct state_field state_fields[] = {
    STATE_U8(struct rtc, index, 1),
    STATE_BYTES(struct rtc, cmos, 1),
    STATE_U64(struct rtc, offset_ns, 1),
    STATE_U64(struct rtc, checked, 1),
    STATE_END,
};
static const struct state_table state_table = {"rtc", 1, 1, state_fields};

struct rtc *rtc_create(const struct rtc_config *config, GError **error)
{
    struct rtc *rtc = g_new0(struct rtc, 1);

    rtc->config = *config;
    rtc->offset_ns = (uint64_t)config->offset_ns;
    device_init(&rtc->device, "rtc", "rtc", &device_ops);
    rtc->device.state_table = &state_table;
    rtc->device.state_base = rtc;
    pthread_mutex_init(&rtc->lock, NULL);
    rtc->seconds = loop_timer_create(config->loop, on_second, rtc);
    rtc->periodic = loop_timer_create(config->loop, on_period, rtc);
    int ret = irq_line_init(&rtc->line, config->interrupts, &rtc->device, config->gsi, false,
                            config->loop);
    if (ret) {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(-ret), "rtc: interrupt %u: %s",
                    config->gsi, g_strerror(-ret));
    } else {
        reset(&rtc->device);
        if (isa_claim(config->ports, config->base, 2, &port_ops, rtc, "rtc", error))
            return rtc;
        irq_line_finish(&rtc->line);
    }
    loop_timer_destroy(rtc->seconds);
    loop_timer_destroy(rtc->periodic);
    pthread_mutex_destroy(&rtc->lock);
    device_finish(&rtc->device);
    g_free(rtc);
    return NULL;
}

void rtc_destroy(struct rtc *rtc)
{
    if (!rtc)
        return;
    bus_remove(rtc->config.ports, rtc->config.base);
    loop_timer_destroy(rtc->seconds);
    loop_timer_destroy(rtc->periodic);
    irq_line_finish(&rtc->line);
    pthread_mutex_destroy(&rtc->lock);
    device_finish(&rtc->device);
    g_free(rtc);
}

struct device *rtc_device(struct rtc *rtc)
{
    return &rtc->device;
}
